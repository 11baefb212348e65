//! Starts by message that name files.

use holdpoint_tests::client::Client;
use holdpoint_tests::producer::command;
use reqwest::Method;
use serde_json::{Value, json};

use super::Shop;

async fn upload(client: &Client) -> String {
    let post =
        client.builder(Method::POST, "/v1/files?name=invoice.txt").header("content-type", "text/plain");
    client.send(post.body("an invoice")).await.expect(201).id()
}

async fn referred(client: &Client, file: &str) -> Value {
    client.get(&format!("/v1/files/{file}/info")).await.expect(200).body["referred"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_by_message_names_files_that_are_there_and_else_leaves_nothing() {
    let mut shop = Shop::open().await;
    let stranger = shop.client.with_key(Some(&shop.system.make_key("globex", "shop", "admin")));
    let (ours, theirs) = (upload(&shop.client).await, upload(&stranger).await);
    let start = |id: &str, files: Value| {
        let data = shop.with_key(json!({"workflow": "holdpoint.noop", "files": files}));
        command("holdpoint.execution.start.v1", id, data)
    };
    let (unknown, foreign) =
        (start("o-1", json!([ours, "fil_01kaj2v4m5e5ys9q7x8g3h2n1c"])), start("o-1", json!([theirs])));
    let (known, unreadable) = (start("o-1", json!([ours])), start("o-2", json!(["invoice.txt"])));
    for (event, pointer) in [(&unknown, "/files/1"), (&foreign, "/files/0")] {
        shop.producer.send(event).await;
        let problem = shop.producer.rejected().await;
        assert_eq!(
            (&problem["status"], &problem["code"]),
            (&json!(400), &json!("unknown_file")),
            "{problem}"
        );
        assert_eq!(problem["pointer"], pointer, "{problem}");
    }
    shop.producer.send(&unreadable).await;
    assert_eq!(shop.producer.rejected().await["status"], 400);
    assert!(shop.executions().await.is_empty());
    assert_eq!(
        (referred(&shop.client, &ours).await, referred(&stranger, &theirs).await),
        (json!(false), json!(false))
    );
    for table in ["commands_seen", "file_uses", "execution_info"] {
        assert_eq!(shop.system.schema().count(&format!("SELECT count(*) FROM {table}")), 0, "{table}");
    }
    // What was refused is not noted: the same id with a file that is there begins.
    shop.producer.send(&known).await;
    let id = shop.producer.accepted().await;
    assert_eq!(shop.client.wait_status(&id, "completed").await["files"], json!([ours]));
    assert_eq!(referred(&shop.client, &ours).await, true);
    let delete = shop.client.builder(Method::DELETE, &format!("/v1/files/{ours}"));
    shop.client.send(delete).await.expect_problem(409, "file_in_use");
    shop.producer.send(&known).await;
    assert_eq!(shop.producer.accepted().await, id, "the same command is the same execution");
    shop.producer.close().await;
}
