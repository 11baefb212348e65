//! Text that wants to be more than text, in every field that takes any: each page of the console
//! shows it, and nothing of it runs, hides or breaks the page.

use holdpoint_tests::tool::Reply;
use lapin::types::{AMQPValue, FieldTable};

use super::*;

/// Markup, a script, letters that turn the reading direction, letters that nobody sees, a picture of
/// NUL, control characters, and what looks like escapes of JSON, of templates and of shells.
const HOSTILE: &str = "<img src=x onerror=\"window.__hit=1\"><script>window.__hit=2</script>\u{202e}gnol\u{202c}\
    \u{200b}\u{feff}\u{2400}\u{1}\u{7f}'\"&amp;`{{7*7}}${window.__hit=3}\\ud800\\u0000";
/// The same in the characters that a header or an id may have.
const PLAIN: &str = "<img/src=x/onerror=window.__hit=4>";

/// The same where a workflow's document would read an expression in it.
fn hostile_in_workflow() -> String {
    HOSTILE.replace("${", "$ {")
}

const SEAL_KEY: &str = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=";

fn long() -> String {
    (0..10_000).map(|n| format!("line {n} <i>\n")).collect()
}

/// A workflow that fails in a way that needs a person, with this text in it wherever one may stand.
fn failing(version: &str) -> Value {
    let text = hostile_in_workflow();
    json!({
        "document": {"dsl": "1.0.1", "namespace": "tests", "name": "failing", "version": version,
                     "title": text, "summary": format!("{version} {text}")},
        "input": {"schema": {"document": {"type": "object", "title": text,
            "properties": {"note": {"type": "string", "title": text, "description": text}}}}},
        "do": [{"<b>end</b>": {"raise": {"error": {
            "type": "https://serverlessworkflow.io/spec/1.0.0/errors/authentication",
            "status": 401, "title": &text, "detail": &text}}}}],
    })
}

fn asking() -> Value {
    let text = hostile_in_workflow();
    json!({
        "document": {"dsl": "1.0.1", "namespace": "tests", "name": "asking", "version": "1.0.0"},
        "do": [{"ask": {"call": "approval:1.0.0@default",
                        "with": {"title": text, "subject": {"note": text}}}}],
    })
}

async fn definitions(system: &System, client: &Client) {
    let parameters = json!({"type": "object", "required": ["note"], "properties": {
        "note": {"type": "string", "title": HOSTILE, "description": HOSTILE},
        "kind": {"enum": [HOSTILE, "plain"]}}});
    let pay = json!({"approval": "always", "description": HOSTILE, "parameters": parameters});
    let agent = Agent::new(&system.model).tool(&system.tools, "pay", pay);
    for instructions in [HOSTILE.to_owned(), format!("{HOSTILE}\n{}", long())] {
        let document = agent.clone().with(json!({"description": HOSTILE, "instructions": instructions}));
        client.put_agent("hostile", document.document()).await;
    }
    for version in ["1.0.0", "1.0.1"] {
        put(client, "/v1/workflows/failing", &failing(version)).await;
    }
    put(client, "/v1/workflows/asking", &asking()).await;
    let schedule = json!({"workflow": "holdpoint.noop", "every": "1h", "input": HOSTILE,
        "labels": {"<b>team</b>": HOSTILE}, "metadata": {"note": HOSTILE}});
    put(client, "/v1/schedules/nightly", &schedule).await;
}

fn start_body(conversation: &str) -> Value {
    json!({
        "agent": "hostile", "messages": [{"role": "user", "content": HOSTILE}],
        "conversation_id": format!("{conversation} {HOSTILE}"),
        "labels": {"<b>team</b>": HOSTILE, "\u{202e}key": PLAIN}, "metadata": {HOSTILE: [HOSTILE]},
    })
}

/// The model says it, asks with it, and calls a tool that is not there by a name that is one.
fn speak(request: &Request) -> Turn {
    if request.messages().last().expect("a message")["role"] == "tool" {
        return Turn::say(HOSTILE);
    }
    let note = json!({"note": format!("{HOSTILE}\n{}", long()), "kind": "plain"});
    Turn::say_and_call(HOSTILE, &[("c/1?x=<b>#%2f&", "pay", note), ("c2", PLAIN, json!({"n": HOSTILE}))])
}

/// One that waits, one that was denied, one that was approved and whose tool answers with it; a
/// workflow that asks, by which call, and one that failed.
async fn executions(system: &System, client: &Client) -> (Vec<String>, Value) {
    let mut ids = Vec::new();
    let decisions =
        [None, Some(json!({"approved": false, "reason": HOSTILE})), Some(json!({"approved": true}))];
    for (n, decision) in decisions.into_iter().enumerate() {
        let id = client.start_with(start_body(&format!("talk {n}"))).await;
        let call = client.wait_pending(&id, 1).await[0]["tool_call_id"].as_str().unwrap().to_owned();
        if let Some(mut decision) = decision {
            system.tools.script("/pay", [Reply::Json(json!({HOSTILE: HOSTILE}))]);
            (decision["execution_id"], decision["tool_call_id"]) = (json!(id), json!(call));
            let decided = client.post("/v1/approvals/decisions", &json!({"decisions": [decision]})).await;
            assert!(decided.expect(200).body["results"][0]["problem"].is_null());
            client.wait_status(&id, "completed").await;
        }
        ids.push(id);
    }
    let asked = client.start_with(json!({"workflow": "asking"})).await;
    let question = client.wait_pending(&asked, 1).await[0]["tool_call_id"].clone();
    let failed = client.start_with(json!({"workflow": "failing", "input": {"note": HOSTILE}})).await;
    client.wait_status(&failed, "failed").await;
    ids.extend([asked, failed]);
    (ids, question)
}

/// A message that names a workflow that nobody has: it is parked, and its id told.
async fn parked(system: &System, client: &Client) -> Value {
    let producer = Producer::connect(system).await;
    let mut headers = FieldTable::default();
    let text = |text: &str| AMQPValue::LongString(text.into());
    headers.insert("authorization".into(), text(&format!("Bearer {}", system.admin())));
    headers.insert("x-note".into(), text(HOSTILE));
    headers.insert(PLAIN.into(), text(HOSTILE));
    let properties = plain("holdpoint.execution.start.v1", PLAIN, system.admin()).with_headers(headers);
    let body = json!({"workflow": HOSTILE, "input": format!("{HOSTILE}\n{}", long())});
    producer.publish(properties, body.to_string().as_bytes()).await;
    producer.close().await;
    until("a message is parked", SOON, || async {
        let list = client.get("/v1/parked-messages").await.expect(200);
        let rows = list.body["parked_messages"].as_array().unwrap().clone();
        (rows.len() == 1).then(|| rows[0]["id"].clone())
    })
    .await
}

async fn others(client: &Client) {
    client.post("/v1/keys", &json!({"role": "read", "name": HOSTILE, "end_user": PLAIN})).await.expect(201);
    let mut webhook = json!({"url": format!("https://example.com/?{PLAIN}"), "description": HOSTILE});
    let id = client.post("/v1/webhooks", &webhook).await.expect(201).id();
    webhook["enabled"] = json!(false);
    put(client, &format!("/v1/webhooks/{id}"), &webhook).await;
    client.post("/v1/sweeps/stale", &json!({"dry_run": true})).await.expect(200);
}

/// A system that is full of it, shown by some of the pages.
async fn shown_by(part: &str) {
    // Signing secrets of webhooks are kept sealed.
    let system = Setup::services().set("outbound.seal_keys", SEAL_KEY).start().await;
    let client = system.client();
    system.model.answer_by(speak);
    definitions(&system, &client).await;
    let (executions, question) = executions(&system, &client).await;
    others(&client).await;
    let parked = parked(&system, &client).await;
    let given = json!({"part": part, "executions": executions, "question": question, "parked": parked});
    tell(&system, "hostile.mjs", given).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_people_who_decide_show_hostile_text_as_text() {
    shown_by("people").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_pages_show_hostile_text_as_text() {
    shown_by("operators").await;
}
