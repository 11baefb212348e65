//! Test runs of workflows, and files, over HTTP.

use std::collections::HashSet;
use std::io::Write;
use std::net::TcpStream;

use holdpoint_tests::client::{Answer, Client};
use holdpoint_tests::gate::Gate;
use holdpoint_tests::on_both;
use holdpoint_tests::poll::{SOON, until};
use holdpoint_tests::system::{Kind, Setup, System};
use holdpoint_tests::tool::Reply;
use reqwest::Method;
use serde_json::{Value, json};

on_both! {
    fifty_ask_for_a_test_run_and_one_has_it with |setup: Setup| setup.roles(2, 1, 1);
    files_go_with_a_start with |setup: Setup| setup.set("api.file_bytes", "100000");
    files_come_in_forms with |setup: Setup| setup.set("api.file_bytes", "100000");
    the_command_line_tries_a_workflow_with_a_file;
}

/// Registers a workflow of these tasks.
async fn register(client: &Client, name: &str, tasks: Value) {
    let document = json!({
        "document": {"dsl": "1.0.1", "namespace": "tests", "name": name, "version": "1.0.0"},
        "do": tasks,
    });
    let put = client.builder(Method::PUT, &format!("/v1/workflows/{name}")).json(&document);
    client.send(put).await.expect(201);
}

/// One that waits for longer than a test.
async fn register_patient(client: &Client) {
    register(client, "patient", json!([{"pause": {"wait": {"hours": 1}}}])).await;
}

async fn try_it(client: &Client, name: &str) -> Answer {
    client.post(&format!("/v1/workflows/{name}/test-runs"), &json!({"input": {}})).await
}

/// Fifty requests at once, over all API processes: the execution that has the place, and how
/// many of them began it.
async fn fifty(system: &System, apis: usize) -> (String, usize) {
    let clients: Vec<Client> = (0..apis).map(|api| system.client_of(api)).collect();
    let asked = (0..50).map(|n| {
        let client = clients[n % apis].clone();
        tokio::spawn(async move { try_it(&client, "patient").await })
    });
    let (mut ids, mut begun) = (HashSet::new(), 0);
    for answer in asked.collect::<Vec<_>>() {
        let answer = answer.await.unwrap();
        begun += usize::from(answer.status == 202);
        if answer.status != 202 {
            ids.insert(answer.expect_problem(409, "test_run_active").body["execution_id"].clone());
        } else {
            ids.insert(answer.body["execution_id"].clone());
        }
    }
    assert_eq!(ids.len(), 1, "one id is told: {ids:?}");
    (ids.into_iter().next().unwrap().as_str().unwrap().to_owned(), begun)
}

fn apis_of(system: &System) -> usize {
    system.apis.len()
}

async fn fifty_ask_for_a_test_run_and_one_has_it(system: System) {
    let client = system.client();
    register_patient(&client).await;
    let mut seen = HashSet::new();
    for round in 0..5 {
        let (id, begun) = fifty(&system, apis_of(&system)).await;
        assert_eq!(begun, 1, "round {round}");
        assert!(seen.insert(id.clone()), "another one in each round");
        assert_eq!(client.execution(&id).await["run_type"], "test");
        client.wait_suspended(&id, "timer").await;
        client.post(&format!("/v1/executions/{id}/cancel"), &json!({})).await.expect(202);
        client.wait_status(&id, "cancelled").await;
    }
    // A body that is no start's takes no place, and neither does a name that is nobody's.
    let path = "/v1/workflows/patient/test-runs";
    client.post(path, &json!({"inputs": 1})).await.expect_problem(400, "invalid_body");
    client.post(path, &json!({"version": 7})).await.expect_problem(404, "unknown_definition");
    try_it(&client, "nobody-s").await.expect_problem(404, "unknown_definition");
    // A held workflow is tried all the same, and what becomes of it changes nothing.
    client.post("/v1/workflows/patient/pause", &json!({})).await.expect(200);
    let begun = try_it(&client, "patient").await.expect(202);
    assert_eq!(
        begun.header("location"),
        format!("/v1/executions/{}", begun.body["execution_id"].as_str().unwrap())
    );
    let attention = client.get("/v1/attention").await.expect(200).body;
    assert_eq!(attention["attention"].as_array().map(Vec::len).unwrap_or_default(), 0, "{attention}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_outlives_its_processes_and_ten_minutes_end_it() {
    let setup = Setup::services().roles(2, 1, 1).set("worker.lease_ms", "2000");
    let mut system = setup.start().await;
    let client = system.client();
    register_patient(&client).await;
    let (first, begun) = fifty(&system, 2).await;
    assert_eq!(begun, 1);
    system.restart_api(0, &[]);
    system.restart_api(1, &[]);
    system.wait_ready(0).await;
    system.wait_ready(1).await;
    assert_eq!(fifty(&system, 2).await, (first.clone(), 0));
    system.workers[0].kill9();
    assert_eq!(fifty(&system, 2).await, (first.clone(), 0));
    system.start_worker(&[]);
    assert_eq!(fifty(&system, 2).await, (first.clone(), 0));
    ten_minutes_pass(&system);
    let ended = client.wait_status(&first, "failed").await;
    assert_eq!((&ended["reason"], &ended["error"]["type"]), (&json!("deadline"), &json!("timeout")));
    let (second, begun) = fifty(&system, 2).await;
    assert_eq!(begun, 1);
    assert_ne!(second, first);
}

fn ten_minutes_pass(system: &System) {
    system.schema().execute("UPDATE test_runs SET created_at = created_at - 600000000");
}

/// A worker has it, in the middle of a call.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_at_work_is_ended_after_ten_minutes_and_frees_nobody_else_s_place() {
    let system = Setup::services().start().await;
    let (client, gate) = (system.client(), Gate::closed());
    let held = || Reply::Held(gate.clone(), Box::new(Reply::Json(json!({}))));
    system.tools.script("/slow", [held(), held()]);
    let call =
        json!([{"ask": {"call": "http", "with": {"method": "get", "endpoint": system.tools.url("/slow")}}}]);
    register(&client, "patient", call).await;
    let old = try_it(&client, "patient").await.expect(202).body["execution_id"].as_str().unwrap().to_owned();
    system.tools.wait_calls("/slow", 1).await;
    ten_minutes_pass(&system);
    let new = until("the place is free", SOON, || async {
        let answer = try_it(&client, "patient").await;
        (answer.status == 202).then(|| answer.body["execution_id"].as_str().unwrap().to_owned())
    })
    .await;
    assert_eq!(client.wait_status(&old, "failed").await["reason"], "deadline");
    let refused = try_it(&client, "patient").await.expect_problem(409, "test_run_active");
    assert_eq!(refused.body["execution_id"], json!(new), "the old one's end freed nothing");
    gate.open();
    client.wait_status(&new, "completed").await;
}

async fn upload(client: &Client, query: &str, content: Vec<u8>) -> Answer {
    let request =
        client.builder(Method::POST, &format!("/v1/files{query}")).header("content-type", "text/plain");
    client.send(request.body(content)).await
}

/// A file in a form, as the clients of OpenAI's API send it.
async fn upload_form(client: &Client, parts: &[(&str, &str, &[u8])]) -> Answer {
    let mut body = Vec::new();
    for (head, kind, content) in parts {
        let head =
            format!("--edge\r\ncontent-disposition: form-data; {head}\r\ncontent-type: {kind}\r\n\r\n");
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--edge--\r\n");
    let request = client.builder(Method::POST, "/v1/files");
    client.send(request.header("content-type", "multipart/form-data; boundary=edge").body(body)).await
}

async fn files_come_in_forms(system: System) {
    let client = system.client();
    let content = b"a file's \0 bytes \xff\r\n".to_vec();
    let purpose = ("name=purpose", "text/plain", &b"assistants"[..]);
    let file = ("name=\"file\"; filename=\"a file.pdf\"", "application/pdf", &content[..]);
    let kept = upload_form(&client, &[purpose, file]).await.expect(201);
    assert_eq!(
        (&kept.body["name"], &kept.body["content_type"], &kept.body["bytes"]),
        (&json!("a file.pdf"), &json!("application/pdf"), &json!(content.len())),
    );
    let got = client.builder(Method::GET, &format!("/v1/files/{}", kept.id())).send().await.unwrap();
    assert_eq!(got.headers()["content-type"], "application/pdf");
    assert_eq!(got.bytes().await.unwrap(), content, "the content, and nothing of the form");

    for parts in [&[purpose][..], &[file, file][..]] {
        let refused = upload_form(&client, parts).await.expect_problem(400, "invalid_body");
        assert!(refused.body["detail"].as_str().unwrap().contains("`file`"), "{}", refused.text);
    }
    let named = |name| ("name=file; filename=".to_owned() + name, vec![b'x'; 100_000]);
    let (head, whole) = named("whole");
    upload_form(&client, &[(&head, "a/b", &whole)]).await.expect(201);
    let (more, limit) = ([&whole[..], b"x"].concat(), json!("file_bytes"));
    let refused = upload_form(&client, &[(&head, "a/b", &more)]).await.expect_problem(413, "limit");
    assert_eq!((&refused.body["limit"], &refused.body["value"]), (&limit, &json!(100_000)));
    let far = vec![b'x'; 400_000];
    let refused = upload_form(&client, &[(&head, "a/b", &far)]).await.expect_problem(413, "limit");
    assert_eq!(refused.body["limit"], limit);
    let (head, content) = named("../../x");
    upload_form(&client, &[(&head, "a/b", &content)]).await.expect_problem(400, "invalid_parameter");
    if system.kind == Kind::Services {
        let kept = system.schema().execute("UPDATE files SET bytes = bytes");
        assert_eq!(kept, 2, "nothing is kept of what was refused");
    }
}

async fn files_go_with_a_start(system: System) {
    let client = system.client();
    register(&client, "reads", json!([{"tell": {"set": {"files": "${ $workflow.files }"}}}])).await;
    let content = b"a file's \0 bytes \xff".to_vec();
    let kept = upload(&client, "?name=a%20file.txt", content.clone()).await.expect(201);
    let id = kept.id();
    assert_eq!((&kept.body["name"], &kept.body["bytes"]), (&json!("a file.txt"), &json!(18)));
    assert_eq!(client.get(&format!("/v1/files/{id}/info")).await.expect(200).body, kept.body);

    // A browser takes it for nothing else than it is.
    let plain = Client::new(&system.url_of(0), Some(system.admin()));
    let path = format!("/v1/files/{id}");
    let got = plain.builder(Method::GET, &path).send().await.unwrap();
    let header = |name: &str| got.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("content-type"), "text/plain");
    assert_eq!(header("x-content-type-options"), "nosniff");
    assert_eq!(header("content-disposition"), "attachment; filename*=UTF-8''a%20file.txt");
    let tag = header("etag");
    assert_eq!(tag, format!("\"{}\"", kept.body["sha256"].as_str().unwrap()));
    assert_eq!(got.bytes().await.unwrap(), content);
    let again = plain.builder(Method::GET, &path).header("if-none-match", &tag).send().await.unwrap();
    assert_eq!(again.status(), 304);

    // Too much is refused by the limit's name.
    let refused = upload(&client, "", vec![b'x'; 100_001]).await.expect_problem(413, "limit");
    assert_eq!((&refused.body["limit"], &refused.body["value"]), (&json!("file_bytes"), &json!(100_000)));
    upload(&client, "", vec![b'x'; 100_000]).await.expect(201);
    upload(&client, "?name=a%2Fb", b"x".to_vec()).await.expect_problem(400, "invalid_parameter");

    // A start with its file, and one with a file that is not there.
    let body = json!({"workflow": "reads", "files": [id]});
    let started = client.post("/v1/executions", &body).await.expect(202).id();
    let ended = client.wait_status(&started, "completed").await;
    assert_eq!((&ended["files"], &ended["output"]), (&json!([id]), &json!({"files": [id]})));
    let unknown = "fil_01h455vb4pex5vsknk084sn02q";
    let body = json!({"workflow": "reads", "files": [id, unknown], "labels": {"a": "unknown"}});
    let refused = client.post("/v1/executions", &body).await.expect_problem(400, "unknown_file");
    assert_eq!(refused.body["pointer"], "/files/1");
    let left = client.get("/v1/executions?label.a=unknown").await.expect(200).body;
    assert_eq!(left["executions"], json!([]), "nothing was started");
    let batch = json!({"executions": [{"workflow": "reads", "files": [unknown]}, {"workflow": "reads"}]});
    let results = client.post("/v1/executions/batch", &batch).await.expect(200).body["results"].clone();
    assert_eq!(results[0]["problem"]["code"], "unknown_file", "{results}");
    assert!(results[1]["id"].is_string(), "{results}");
    for wrong in [json!([id, id]), json!(["exe_1"]), json!("x")] {
        let body = json!({"workflow": "reads", "files": wrong});
        client.post("/v1/executions", &body).await.expect_problem(400, "invalid_body");
    }
    let many = json!({"workflow": "reads", "files": vec![unknown; 33]});
    client.post("/v1/executions", &many).await.expect_problem(422, "limit");
    let tried = client.post("/v1/workflows/reads/test-runs", &json!({"files": [id]})).await.expect(202);
    let tried = tried.body["execution_id"].as_str().unwrap().to_owned();
    assert_eq!(client.wait_status(&tried, "completed").await["output"]["files"], json!([id]));

    // What is in use stays, what is not may go.
    let delete = |path: &str| client.send(client.builder(Method::DELETE, path));
    delete(&path).await.expect_problem(409, "file_in_use");
    let other = upload(&client, "", b"y".to_vec()).await.expect(201).id();
    delete(&format!("/v1/files/{other}")).await.expect(204);
    client.get(&format!("/v1/files/{other}/info")).await.expect_problem(404, "not_found");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_breaks_off_leaves_nothing_and_unused_files_are_swept() {
    let system = Setup::services().set("scheduler.files_period_ms", "200").start().await;
    let client = system.client();
    let used = upload(&client, "", b"used".to_vec()).await.expect(201).id();
    let unused = upload(&client, "", b"unused".to_vec()).await.expect(201).id();
    let count = || system.schema().execute("UPDATE files SET bytes = bytes");
    let address = system.url_of(0).replace("http://", "");
    let mut socket = TcpStream::connect(&address).unwrap();
    let head = format!(
        "POST /v1/files HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-length: 1000\r\n\r\nhalf",
        system.admin()
    );
    socket.write_all(head.as_bytes()).unwrap();
    socket.shutdown(std::net::Shutdown::Both).unwrap();
    drop(socket);
    // A later one has come through, the broken one has not.
    upload(&client, "", b"later".to_vec()).await.expect(201);
    assert_eq!(count(), 3);

    let body = json!({"workflow": "holdpoint.noop", "files": [used]});
    client.post("/v1/executions", &body).await.expect(202);
    system.schema().execute("UPDATE files SET created_at = created_at - 86400000000");
    let gone = format!("/v1/files/{unused}/info");
    until("it is swept", SOON, || async { (client.get(&gone).await.status == 404).then_some(()) }).await;
    client.get(&format!("/v1/files/{used}/info")).await.expect(200);
    let swept = until("the pass is listed", SOON, || async {
        let sweeps = client.get("/v1/sweeps").await.expect(200).body;
        sweeps["sweeps"].as_array()?.iter().find(|one| one["kind"] == "files").cloned()
    })
    .await;
    assert_eq!(swept["kind"], "files");
}

async fn the_command_line_tries_a_workflow_with_a_file(system: System) {
    let client = system.client();
    register(&client, "reads", json!([{"tell": {"set": {"files": "${ $workflow.files }"}}}])).await;
    std::fs::write(system.folder().join("hello.txt"), "hello").unwrap();
    let url = system.url_of(0);
    let command = |args: &[&str]| {
        let remote = ["--url", url.as_str(), "--key", system.admin()];
        system.holdpoint("client").args(args.iter().copied().chain(remote)).run()
    };
    let id = command(&["files", "put", "hello.txt"]).trim().to_owned();
    assert_eq!(command(&["files", "get", &id]), "hello");
    assert!(command(&["files", "show", &id]).contains("hello.txt"));
    let run = command(&["workflows", "test", "reads", "--input", "{}", "--file", &id]).trim().to_owned();
    assert_eq!(client.wait_status(&run, "completed").await["output"]["files"], json!([id]));
}
