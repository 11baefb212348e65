//! A message that ends its process, and processes that end with messages in hand.

use holdpoint_tests::producer::start;

use super::*;

/// The API of number 0 dies of this message, again and again, until the message is parked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poison_is_parked_after_three_attempts_and_takes_no_neighbour_with_it() {
    let fatal = [("HOLDPOINT_FAILPOINT", "api.command=m-4"), ("api.commands_prefetch", "10")];
    let mut shop = Shop::with(Setup::services().set("api.commands", "false")).await;
    for n in 0..10 {
        shop.producer.tell(&start(&shop.key, &format!("m-{n}"))).await;
    }
    let mortal =
        shop.system.start_api(&fatal.iter().copied().chain([("api.commands", "true")]).collect::<Vec<_>>());
    let fatal = [fatal[0], fatal[1], ("api.commands", "true")];
    // Once beside its neighbours, which counts for nobody, then three times alone.
    for _ in 0..4 {
        shop.system.apis[mortal].wait_for_failpoint().await;
        shop.system.restart_api(mortal, &fatal);
    }
    let parked = shop.wait_parked(1).await;
    assert_eq!((&parked[0]["code"], &parked[0]["message_id"]), (&json!("poison"), &json!("m-4")));
    let executions = until("the neighbours run", SOON, || async {
        let executions = shop.executions().await;
        (executions.len() >= 9 && executions.iter().all(|one| one["status"] == "completed"))
            .then_some(executions)
    })
    .await;
    assert_eq!(executions.len(), 9, "each once");
    // The process that parked it lives, and takes more.
    shop.producer.send(&start(&shop.key, "m-after")).await;
    shop.producer.accepted().await;
    assert!(shop.system.apis[mortal].try_exit().is_none());
    assert_eq!(shop.parked().await.len(), 1);
    let left = shop.system.schema().texts("SELECT id FROM command_attempts");
    assert!(left.is_empty(), "attempts of settled messages are forgotten: {left:?}");
    shop.producer.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_api_loses_no_command_and_doubles_none() {
    const MESSAGES: usize = 600;
    let mut shop = Shop::with(Setup::services().roles(1, 1, 1).set("api.commands_prefetch", "50")).await;
    for n in 0..MESSAGES {
        shop.producer.tell(&start(&shop.key, &format!("k-{n}"))).await;
    }
    // Three deaths in the middle of the work.
    for part in 1..=3 {
        until("some of it is done", SOON * 2, || async {
            let seen = shop.system.schema().count("SELECT count(*) FROM commands_seen") as usize;
            (seen >= part * MESSAGES / 5).then_some(())
        })
        .await;
        shop.system.restart_api(0, &[]);
    }
    shop.system.wait_ready(0).await;
    until("all are taken", SOON * 4, || async {
        let seen = shop.system.schema().count("SELECT count(*) FROM commands_seen") as usize;
        (seen == MESSAGES).then_some(())
    })
    .await;
    assert_eq!(shop.system.schema().count("SELECT count(*) FROM executions") as usize, MESSAGES);
    assert!(shop.parked().await.is_empty());
    shop.producer.close().await;
}
