//! Webhooks, received by the official Python package of the Standard Webhooks.

use std::time::Duration;

use holdpoint_tests::agents::clerk;
use holdpoint_tests::client::Client;
use holdpoint_tests::clients::{python, serve};
use holdpoint_tests::model::Turn;
use holdpoint_tests::poll::until;
use holdpoint_tests::ports::free_port;
use holdpoint_tests::processes::Process;
use holdpoint_tests::system::{Setup, System};
use reqwest::Method;
use serde_json::{Value, json};

const LONG: Duration = Duration::from_secs(60);
const SEAL_KEY: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

struct Receiver {
    _process: Process,
    http: Client,
    url: String,
}

impl Receiver {
    async fn start() -> Self {
        let port = free_port();
        let url = format!("http://127.0.0.1:{port}");
        let process = serve(python("webhook_receiver.py").args([&port.to_string()]), port).await;
        Self { _process: process, http: Client::new(&url, None), url }
    }

    async fn told(&self, what: Value) {
        let put = self.http.builder(Method::PUT, "/").json(&what);
        self.http.send(put).await.expect(204);
    }

    async fn wait_seen(&self, count: usize) -> Vec<Value> {
        until("deliveries come", LONG, || async {
            let seen = self.http.get("/").await.expect(200).body.as_array().unwrap().clone();
            (seen.len() >= count).then_some(seen)
        })
        .await
    }
}

async fn make(client: &Client, receiver: &Receiver, types: &[&str]) -> (String, String) {
    let body = json!({"url": receiver.url, "types": types, "description": "a test's"});
    let made = client.post("/v1/webhooks", &body).await.expect(201);
    let secret = made.body["secret"].as_str().unwrap().to_owned();
    assert!(secret.starts_with("whsec_"), "{secret}");
    receiver.told(json!({"secret": secret})).await;
    (made.id(), secret)
}

async fn one_approval(system: &System) -> String {
    let client = system.client();
    client.put_agent("clerk", clerk(&system.model, &system.tools).document()).await;
    system.model.answer_by(|request| match request.turns() {
        0 => Turn::call(&[("c1", "pay", json!({"n": 1}))]),
        _ => Turn::say("done"),
    });
    let id = client.start("clerk").await;
    client.wait_pending(&id, 1).await;
    client.approve(&id, "c1").await;
    client.wait_status(&id, "completed").await;
    id
}

async fn a_receiver_accepts_each_delivery(setup: Setup) {
    let system = setup.set("outbound.seal_keys", SEAL_KEY).start().await;
    let (client, receiver) = (system.client(), Receiver::start().await);
    let (webhook, secret) = make(&client, &receiver, &[]).await;
    let id = one_approval(&system).await;
    let mut seen = receiver.wait_seen(6).await;
    for came in &seen {
        assert_eq!(came["accepted"], true, "{came}");
        assert_eq!(came["altered_accepted"], false, "one byte is another: {came}");
        assert_eq!(came["old_accepted"], false, "an hour later: {came}");
        assert_eq!((&came["id"], &came["body"]["subject"]), (&came["body"]["id"], &json!(id)));
    }
    // Their order is not promised; all of them come.
    seen.sort_by_key(|came| came["body"]["data"]["seq"].as_i64());
    let kinds: Vec<&str> = seen.iter().map(|came| came["body"]["data"]["type"].as_str().unwrap()).collect();
    assert_eq!(
        kinds,
        [
            "execution.started",
            "approval.requested",
            "execution.suspended",
            "approval.decided",
            "execution.resumed",
            "execution.completed",
        ]
    );

    // A rotation: both secrets sign.
    let rotated = client.post(&format!("/v1/webhooks/{webhook}/rotate"), &json!({})).await.expect(200);
    let new = rotated.body["secret"].as_str().unwrap().to_owned();
    assert_ne!(new, secret);
    for (count, secret) in [(7, &secret), (8, &new)] {
        receiver.told(json!({"secret": secret})).await;
        let tested = client.post(&format!("/v1/webhooks/{webhook}/test"), &json!({})).await.expect(202);
        let came = receiver.wait_seen(count).await.remove(count - 1);
        assert_eq!((&came["id"], &came["signatures"]), (&tested.body["event_id"], &json!(2)));
        assert_eq!(came["accepted"], true, "{came}");
    }

    // A failure is tried again with the same id; then 410 is for ever.
    receiver.told(json!({"answers": [500, 410]})).await;
    let path = format!("/v1/webhooks/{webhook}");
    client.post(&format!("{path}/test"), &json!({})).await.expect(202);
    let seen = receiver.wait_seen(10).await;
    assert_eq!(seen[8]["id"], seen[9]["id"]);
    let shown = until("it is disabled", LONG, || async {
        let shown = client.get(&path).await.expect(200).body;
        (shown["enabled"] == false).then_some(shown)
    })
    .await;
    assert_eq!(shown["disabled_reason"], "gone");
    assert!(shown.get("secret").is_none(), "a secret is shown once");
    let list = client.get(&format!("{path}/deliveries?limit=1")).await.expect(200).body;
    let last = &list["deliveries"][0];
    assert_eq!((&last["status"], &last["attempts"]), (&json!("given_up"), &json!(2)));
    assert_eq!(last["response_status"], 410);
    client.post(&format!("{path}/test"), &json!({})).await.expect_problem(404, "not_found");
    assert_eq!(client.post(&format!("{path}/enable"), &json!({})).await.expect(200).body["enabled"], true);
    client.send(client.builder(Method::DELETE, &path)).await.expect(204);
    client.get(&path).await.expect_problem(404, "not_found");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_accepts_each_delivery_of_two_workers() {
    a_receiver_accepts_each_delivery(Setup::services().roles(1, 2, 1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_accepts_each_delivery_of_one_process() {
    a_receiver_accepts_each_delivery(Setup::embedded()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn webhooks_are_checked_and_belong_to_their_project() {
    let system = Setup::services().roles(1, 0, 0).set("outbound.seal_keys", SEAL_KEY).start().await;
    let client = system.client();
    let refused = |body: Value| {
        let client = client.clone();
        async move {
            let answer = client.post("/v1/webhooks", &body).await.expect_problem(400, "invalid_body");
            answer.body["detail"].as_str().unwrap().to_owned()
        }
    };
    for (body, named) in [
        (json!({}), "url"),
        (json!({"url": "ftp://example.com/"}), "url"),
        (json!({"url": "nonsense"}), "url"),
        (json!({"url": "https://user:pass@example.com/"}), "url"),
        (json!({"url": "http://10.0.0.1/"}), "allow_networks"),
        (json!({"url": "https://example.com/", "types": ["message.delta"]}), "types"),
        (json!({"url": "https://example.com/", "more": 1}), "more"),
    ] {
        let detail = refused(body.clone()).await;
        assert!(detail.contains(named), "{body}: {detail}");
    }
    let made = client.post("/v1/webhooks", &json!({"url": "https://example.com/"})).await.expect(201);
    let stranger = client.with_key(Some(&system.make_key("globex", "shop", "admin")));
    let path = format!("/v1/webhooks/{}", made.id());
    stranger.get(&path).await.expect_problem(404, "not_found");
    stranger.post(&format!("{path}/rotate"), &json!({})).await.expect_problem(404, "not_found");
    assert_eq!(stranger.get("/v1/webhooks").await.expect(200).body, json!({"webhooks": []}));
    let reader = client.with_key(Some(&system.make_key("acme", "shop", "read")));
    reader.get(&path).await.expect_problem(403, "forbidden");
    // The secret lies nowhere as it is.
    let secret = made.body["secret"].as_str().unwrap().trim_start_matches("whsec_").to_owned();
    let stored =
        format!("SELECT count(*) FROM webhooks WHERE position(decode('{secret}', 'base64') in secret) > 0");
    assert_eq!(system.schema().count(&stored), 0);
}
