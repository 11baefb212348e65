//! Ten thousand messages, a tenth of them bad in every way there is.

use std::collections::BTreeMap;
use std::time::Duration;

use holdpoint_tests::producer::{command, plain, start};
use lapin::BasicProperties;

use super::*;

const MESSAGES: usize = 10_000;
const LONG: Duration = Duration::from_secs(220);

/// The bad ones, by the code that they are parked with; `None` for duplicates, which are not.
fn bad(shop: &Shop, n: usize) -> (Option<&'static str>, BasicProperties, Vec<u8>) {
    let cloud = || BasicProperties::default().with_content_type("application/cloudevents+json".into());
    let (id, kind) = (format!("bad-{n}"), "holdpoint.execution.start.v1");
    match n / 10 % 5 {
        0 => (Some("undecodable"), plain(kind, &id, &shop.key), b"{\"workflow\":".to_vec()),
        1 => (Some("unauthorized"), cloud(), start("hp_nobody", &id).to_string().into()),
        2 => {
            let data = shop.with_key(json!({"workflow": "holdpoint.noop"}));
            let event = command("holdpoint.execution.start.v7", &id, data);
            (Some("unsupported_version"), cloud(), event.to_string().into())
        }
        3 => (Some("limit"), plain(kind, &id, &shop.key), vec![b' '; 20_000]),
        // The good one before it, once more.
        _ => (None, cloud(), start(&shop.key, &format!("good-{}", n - 1)).to_string().into()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_ten_thousand_each_good_one_runs_once_and_each_bad_one_is_parked() {
    let mut shop = Shop::with(Setup::services().set("api.body_bytes", "10000")).await;
    let mut wanted: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut good, begun) = (0, std::time::Instant::now());
    for n in 0..MESSAGES {
        if n % 10 == 9 {
            let (code, properties, body) = bad(&shop, n);
            shop.producer.publish(properties, &body).await;
            if let Some(code) = code {
                *wanted.entry(code).or_default() += 1;
            }
        } else {
            good += 1;
            shop.producer.tell(&start(&shop.key, &format!("good-{n}"))).await;
        }
    }
    shop.producer.send(&start(&shop.key, "last")).await;
    let schema = shop.system.schema();
    let one = |text: &str| schema.count(text) as usize;
    until("all good ones have run", LONG, || async {
        let done = one("SELECT count(*) FROM executions WHERE status = 'completed'");
        (done == good + 1).then_some(())
    })
    .await;
    // Answered once everything that came with it is settled.
    shop.producer.accepted().await;
    println!("{good} good ones of {MESSAGES} messages have run after {:.1} s", begun.elapsed().as_secs_f64());
    assert_eq!(one("SELECT count(*) FROM executions"), good + 1, "none twice");
    let parked =
        schema.texts("SELECT code || ' ' || count(*) FROM parked_messages GROUP BY code ORDER BY code");
    let wanted: Vec<String> = wanted.iter().map(|(code, count)| format!("{code} {count}")).collect();
    assert_eq!(parked, wanted);
    // Still there: consumers take on, and nothing waits.
    shop.producer.send(&start(&shop.key, "after")).await;
    shop.producer.accepted().await;
    assert!(shop.system.apis[0].try_exit().is_none());
    shop.producer.close().await;
}
