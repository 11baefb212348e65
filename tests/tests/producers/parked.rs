//! What cannot be carried out: where it goes, what is kept of it, and how it comes back.

use holdpoint_tests::client::Client;
use holdpoint_tests::producer::{command, plain, start};
use lapin::BasicProperties;
use serde_json::{Value, json};

use super::*;

const START: &str = "holdpoint.execution.start.v1";

async fn post(client: &Client, id: &Value, what: &str) -> Value {
    let path = format!("/v1/parked-messages/{}/{what}", id.as_str().unwrap());
    client.post(&path, &json!({})).await.expect(200).body
}

/// Every text that stands in a table.
fn table(shop: &Shop, name: &str) -> String {
    shop.system.schema().texts(&format!("SELECT t::text FROM {name} t")).join("\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_bad_message_is_parked_with_its_reason_and_without_its_credential() {
    let mut shop = Shop::open().await;
    let key = shop.key.clone();
    let json = || BasicProperties::default().with_content_type("application/json".into());
    let cloud = || BasicProperties::default().with_content_type("application/cloudevents+json".into());
    let event = |kind: &str, data: Value| command(kind, "bad", data).to_string();
    let with_key = |data: Value| shop.with_key(data);
    let noop = json!({"workflow": "holdpoint.noop"});
    let huge = format!(r#"{{"workflow":"holdpoint.noop","input":"{}"}}"#, "x".repeat(2 * 1024 * 1024));
    let twice = format!(
        r#"{{"specversion":"1.0","id":"a","source":"b","type":"{START}","data":{{"workflow":"x","workflow":"y","api_key":"{key}"}}}}"#
    );
    let forwarding = json!({"workflow": "w", "nonsense": 1, "forwarded_headers": {"x-token": "sesame"}});
    let signal = with_key(json!({"execution_id": "exe_1"}));
    let bad: Vec<(&str, BasicProperties, Vec<u8>)> = vec![
        ("undecodable", plain(START, "m", &key), b"{".to_vec()),
        ("undecodable", plain(START, "m2", &key), b"\xff\xfe".to_vec()),
        ("undecodable", plain("", "m", &key), noop.to_string().into()),
        ("undecodable", plain(START, "", &key), noop.to_string().into()),
        ("undecodable", plain(START, "m", &key).with_content_type("text/xml".into()), b"<a/>".to_vec()),
        ("limit", plain(START, "m", &key), huge.into()),
        (
            "unsupported_version",
            cloud(),
            event("holdpoint.execution.start.v2", with_key(noop.clone())).into(),
        ),
        ("unknown_type", cloud(), event("holdpoint.execution.begin.v1", with_key(noop.clone())).into()),
        ("invalid_body", cloud(), event(START, with_key(json!({"workflow": "w", "nonsense": 1}))).into()),
        ("invalid_body", cloud(), event(START, with_key(forwarding)).into()),
        ("invalid_body", cloud(), event(START, with_key(json!({"agent": "a", "messages": []}))).into()),
        ("invalid_body", cloud(), twice.into()),
        ("invalid_body", cloud(), event("holdpoint.signal.deliver.v1", signal).into()),
        ("unknown_definition", cloud(), event(START, with_key(json!({"agent": "nobody"}))).into()),
        (
            "not_found",
            cloud(),
            event("holdpoint.execution.cancel.v1", with_key(json!({"execution_id": "exe_x"}))).into(),
        ),
    ];
    for (_, properties, body) in &bad {
        shop.producer.publish(properties.clone(), body).await;
    }
    // Nobody's: for operators only.
    let forged = format!("{}x", &key[..key.len() - 1]);
    shop.producer
        .publish(cloud(), event(START, json!({"api_key": "hunter2", "workflow": "w"})).as_bytes())
        .await;
    shop.producer.publish(json().with_type(START.into()).with_message_id("n".into()), b"{}").await;
    shop.producer.publish(plain(START, "f", &forged), noop.to_string().as_bytes()).await;
    let parked = shop.wait_parked(bad.len()).await;
    let mut codes: Vec<&str> = parked.iter().map(|row| row["code"].as_str().unwrap()).collect();
    let mut wanted: Vec<&str> = bad.iter().map(|(code, _, _)| *code).collect();
    codes.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(codes, wanted);
    // They are settled in their order: the last ones are there once this one is answered.
    shop.producer.send(&start(&key, "good")).await;
    shop.producer.accepted().await;

    let all = table(&shop, "parked_messages");
    assert_eq!(all.lines().filter(|line| line.contains("unauthorized")).count(), 3, "{all}");
    let secret = key.rsplit('_').nth(1).unwrap();
    assert!(
        !all.contains(secret)
            && !all.contains("hunter2")
            && !all.contains("sesame")
            && !all.contains(&forged),
        "a credential is kept"
    );
    let id = format!("key_{}", key.split('_').nth(1).unwrap());
    for row in &parked {
        assert_eq!(row["key_id"], id.as_str());
        assert!(row["reason"].as_str().is_some_and(|reason| !reason.is_empty()));
        let one = shop.client.get(&format!("/v1/parked-messages/{}", row["id"].as_str().unwrap())).await;
        let (one, text) = (one.body.clone(), one.expect(200).text);
        assert!(!text.contains(secret));
        let kept = one["body"].as_str().map(str::len);
        assert_eq!(kept.is_none(), row["code"] == "limit" || row["message_id"] == "m2", "{one}");
    }
    assert_eq!(shop.executions().await.len(), 1);
    shop.producer.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_parked_only_where_nobody_gets_it() {
    let mut shop = Shop::open().await;
    let nobody = || command(START, "n-1", shop.with_key(json!({"agent": "nobody"})));
    shop.producer.send(&nobody()).await;
    assert_eq!(shop.producer.rejected().await["code"], "unknown_definition");
    assert!(shop.parked().await.is_empty());
    // Into a queue that is gone, or that is ours to fill.
    for queue in ["gone".to_owned(), format!("{}.sweeps", shop.system.prefix)] {
        let event = command(START, &queue, shop.with_key(json!({"agent": "nobody"})));
        let properties = BasicProperties::default()
            .with_content_type("application/cloudevents+json".into())
            .with_reply_to(queue.as_str().into());
        shop.producer.publish(properties, event.to_string().as_bytes()).await;
    }
    let parked = shop.wait_parked(2).await;
    assert!(parked.iter().all(|row| row["code"] == "unknown_definition"), "{parked:?}");
    shop.producer.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redriven_message_keeps_its_dedupe_key_and_its_key_is_looked_at_again() {
    let mut shop = Shop::open().await;
    let data = || shop.with_key(json!({"agent": "later", "messages": [{"role": "user", "content": "go"}]}));
    shop.producer.tell(&command(START, "r-1", data())).await;
    let parked = shop.wait_parked(1).await.remove(0);
    let id = &parked["id"];
    let again = post(&shop.client, id, "redrive").await;
    assert_eq!(
        (&again["outcome"], &again["problem"]["code"]),
        (&json!("rejected"), &json!("unknown_definition"))
    );
    assert_eq!(shop.parked().await.len(), 1);

    shop.client.put_agent("later", Agent::new(&shop.system.model).document()).await;
    shop.system.model.answer_by(|_| Turn::say("hello"));
    let taken = post(&shop.client, id, "redrive").await;
    assert_eq!(taken["outcome"], "accepted", "{taken}");
    assert!(shop.parked().await.is_empty());
    let execution = taken["execution_id"].as_str().unwrap();
    shop.client.wait_status(execution, "completed").await;
    // Its producer repeats, as it should: the same command.
    shop.producer.send(&command(START, "r-1", data())).await;
    assert_eq!(shop.producer.accepted().await, execution);
    let path = format!("/v1/parked-messages/{}/redrive", id.as_str().unwrap());
    shop.client.post(&path, &json!({})).await.expect(404);

    // Without its key it is not taken in, and a stranger does not see it.
    shop.producer.tell(&command(START, "r-2", json!({"api_key": shop.key, "agent": "nobody"}))).await;
    let parked = shop.wait_parked(1).await.remove(0);
    let stranger = shop.system.make_key("globex", "shop", "admin");
    let stranger = shop.client.with_key(Some(&stranger));
    let path = format!("/v1/parked-messages/{}", parked["id"].as_str().unwrap());
    stranger.get(&path).await.expect(404);
    stranger.send(stranger.builder(Method::DELETE, &path)).await.expect(404);
    let key =
        shop.client.builder(Method::DELETE, &format!("/v1/keys/{}", parked["key_id"].as_str().unwrap()));
    shop.client.send(key).await.expect(204);
    until("the key is no longer believed", SOON, || async {
        let again = post(&shop.client, &parked["id"], "redrive").await;
        (again["problem"]["code"] == "unauthorized").then_some(())
    })
    .await;
    shop.client.send(shop.client.builder(Method::DELETE, &path)).await.expect(204);
    assert!(shop.parked().await.is_empty());
    shop.producer.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_see_what_belongs_to_nobody() {
    let shop = Shop::open().await;
    let event = command(START, "o-1", json!({"api_key": "nonsense", "agent": "a"}));
    shop.producer.tell(&event).await;
    shop.producer.tell(&command(START, "o-2", shop.with_key(json!({"agent": "nobody"})))).await;
    let mine = shop.wait_parked(1).await.remove(0);
    // They were judged beside each other: either may be parked first.
    until("both are parked", SOON, || async {
        (shop.system.schema().count("SELECT count(*) FROM parked_messages") == 2).then_some(())
    })
    .await;
    let holdpoint = |args: &[&str]| shop.system.holdpoint("parked").args(args.iter().copied()).run();
    let list: Value = serde_json::from_str(&holdpoint(&["parked", "list", "--all", "--json"])).unwrap();
    let all = list["parked_messages"].as_array().unwrap();
    assert_eq!(all.len(), 2);
    let nobodys = all.iter().find(|row| row["code"] == "unauthorized").unwrap()["id"].as_str().unwrap();
    shop.client.get(&format!("/v1/parked-messages/{nobodys}")).await.expect(404);
    assert!(holdpoint(&["parked", "show", "--all", nobodys]).contains("removed"));
    holdpoint(&["parked", "discard", "--all", nobodys]);

    let remote = ["--url", &shop.system.url_of(0), "--key", &shop.key];
    let with_remote = |args: &[&str]| holdpoint(&[args, &remote].concat());
    let listed = with_remote(&["parked", "list"]);
    let id = mine["id"].as_str().unwrap();
    assert!(listed.contains(id) && listed.contains("unknown_definition"), "{listed}");
    assert!(with_remote(&["parked", "show", id]).contains("nobody"));
    with_remote(&["parked", "discard", id]);
    assert!(shop.parked().await.is_empty());
    shop.producer.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_over_the_backlog_is_answered_or_parked_and_taken_in_later() {
    let mut shop = Shop::with(Setup::services().roles(1, 0, 0)).await;
    let limit = shop.client.builder(Method::PUT, "/v1/limits/tenant/default").json(&json!({"backlog": 2}));
    shop.client.send(limit).await;
    let noop = json!({"workflow": "holdpoint.noop"});
    until("the backlog is full", SOON, || async {
        (shop.client.post("/v1/executions", &noop).await.status == 429).then_some(())
    })
    .await;
    let before = shop.executions().await.len();
    shop.producer.send(&start(&shop.key, "b-1")).await;
    let problem = shop.producer.rejected().await;
    assert_eq!((&problem["code"], &problem["limit"]), (&json!("backlog_full"), &json!("tenant_backlog")));
    shop.producer.tell(&start(&shop.key, "b-2")).await;
    let parked = shop.wait_parked(1).await;
    assert_eq!((parked.len(), &parked[0]["code"]), (1, &json!("backlog_full")), "{parked:?}");
    assert_eq!(shop.executions().await.len(), before, "neither left anything");

    shop.system.start_worker(&[]);
    let taken = until("there is room again", SOON, || async {
        let again = post(&shop.client, &parked[0]["id"], "redrive").await;
        again["execution_id"].as_str().map(str::to_owned)
    })
    .await;
    shop.client.wait_status(&taken, "completed").await;
    // What waits is counted now and then: for a moment more may seem to wait than does.
    let begun = std::time::Instant::now();
    let taken = loop {
        shop.producer.send(&start(&shop.key, "b-1")).await;
        let reply = shop.producer.reply().await;
        if let Some(taken) = reply.data["execution_id"].as_str() {
            break taken.to_owned();
        }
        assert_eq!(reply.data["problem"]["code"], "backlog_full", "{reply:?}");
        assert!(begun.elapsed() < SOON, "{reply:?}");
    };
    shop.client.wait_status(&taken, "completed").await;
    shop.producer.close().await;
}
