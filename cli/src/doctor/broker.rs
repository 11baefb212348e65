//! The broker: whether it answers, what it is, and whether what we declare is there.

use holdpoint_queue::Examination;

use super::{Finding, broker_tool};
use crate::configuration::Configuration;

/// So many waiting messages are a sign that nobody takes them.
const MANY: u32 = 10_000;
/// The oldest version that everything here was tried with.
const TRIED: (u32, u32) = (3, 10);

/// All of it.
pub async fn examine(configuration: &Configuration) -> Vec<Finding> {
    let settings = &configuration.queue;
    if settings.url == "memory:" {
        return vec![in_memory(configuration)];
    }
    let seen = match holdpoint_queue::examine(settings).await {
        Ok(seen) => seen,
        Err(error) => {
            let advice = "look at `queue.url`: host, port, user, password and virtual host";
            return vec![Finding::fail("broker", error, advice)];
        }
    };
    let mut findings = vec![version(seen.version.clone()), topology(&seen.missing)];
    findings.extend(seen.queues.iter().map(|(name, messages, consumers)| queue(name, *messages, *consumers)));
    findings.extend([alarms(seen.blocked), bindings(&seen)]);
    findings.push(broker_tool::consumer_timeout(&host(&settings.url)).await);
    findings
}

/// One process needs no broker; several on one database do.
fn in_memory(configuration: &Configuration) -> Finding {
    let what = "messages stay inside the process";
    if configuration.database.url.starts_with("sqlite:") {
        return Finding::ok("broker", what);
    }
    let advice = "where several processes share the database, set `queue.url`: without a broker they find work by \
                  looking once in `worker.poll_ms`";
    Finding::warn("broker", what, advice)
}

fn version(version: Option<String>) -> Finding {
    let Some(version) = version else {
        return Finding::warn(
            "broker",
            "it answers, and does not say what it is",
            "RabbitMQ 3.10 and up was tried",
        );
    };
    let numbers = version.rsplit(' ').next().unwrap_or("").split('.').map(|part| part.parse::<u32>());
    let numbers: Vec<u32> = numbers.map_while(Result::ok).collect();
    let is_tried = matches!(numbers.as_slice(), [major, minor, ..] if (*major, *minor) >= TRIED);
    if version.starts_with("RabbitMQ") && is_tried {
        return Finding::ok("broker", version);
    }
    Finding::warn("broker", version, "RabbitMQ 3.10 and up was tried")
}

fn topology(missing: &[String]) -> Finding {
    if missing.is_empty() {
        return Finding::ok("broker topology", "every exchange and queue is there");
    }
    let what = format!("not there: {}", missing.join(", "));
    Finding::warn("broker topology", what, "the first api, worker or scheduler that starts declares them")
}

fn alarms(blocked: bool) -> Finding {
    if !blocked {
        return Finding::ok("broker alarms", "it takes messages");
    }
    let advice = "`rabbitmqctl list_alarms` says whether memory or disk ran short; until then commands are not sent, \
                  and workers find work by looking";
    Finding::fail("broker alarms", "it takes no messages: an alarm is on", advice)
}

fn bindings(seen: &Examination) -> Finding {
    if !seen.unbound.is_empty() {
        let what = format!("not bound to its exchange: {}", seen.unbound.join(", "));
        let advice =
            "restart an api, worker or scheduler, which declares it; what producers send is returned to them";
        return Finding::fail("broker bindings", what, advice);
    }
    if seen.blocked {
        return Finding::warn("broker bindings", "not looked at while an alarm is on", "see the alarm");
    }
    if !seen.unprobed.is_empty() {
        let what = format!("not looked at, because nobody consumes: {}", seen.unprobed.join(", "));
        let mut finding = Finding::ok("broker bindings", what);
        finding.advice = Some("look again while an api and a worker run".to_owned());
        return finding;
    }
    Finding::ok("broker bindings", "what is sent to each exchange reaches its queue")
}

/// The host of an `amqp://…` address; empty where it is none.
fn host(url: &str) -> String {
    reqwest::Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default()
}

fn queue(name: &str, messages: u32, consumers: u32) -> Finding {
    let what = format!("{name}: {messages} waiting, {consumers} consumers");
    if consumers == 0 && messages > 0 && !name.ends_with(".dead") {
        return Finding::warn("broker queue", what, "nobody takes from it: start a worker and an api");
    }
    if name.ends_with(".dead") && messages > 0 {
        return Finding::warn("broker queue", what, "a worker parks these in the database: start one");
    }
    if messages >= MANY {
        return Finding::warn("broker queue", what, "more arrives than is taken: add workers");
    }
    Finding::ok("broker queue", what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    #[test]
    fn versions_are_compared_as_numbers() {
        let state = |text: &str| version(Some(text.to_owned())).state;
        assert_eq!(state("RabbitMQ 3.10.8"), State::Ok);
        assert_eq!(state("RabbitMQ 4.1.0"), State::Ok);
        assert_eq!(state("RabbitMQ 3.9.29"), State::Warn);
        assert_eq!(state("LavinMQ 2.0.0"), State::Warn);
        assert_eq!(version(None).state, State::Warn);
    }

    fn seen() -> Examination {
        let (missing, queues, unbound, unprobed) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Examination { version: None, missing, queues, blocked: false, unbound, unprobed }
    }

    #[test]
    fn an_alarm_and_a_lost_binding_fail() {
        assert_eq!([alarms(false).state, alarms(true).state], [State::Ok, State::Fail]);
        let queue = || vec!["p.commands".to_owned()];
        assert_eq!(bindings(&seen()).state, State::Ok);
        assert_eq!(bindings(&Examination { unbound: queue(), ..seen() }).state, State::Fail);
        assert_eq!(bindings(&Examination { blocked: true, ..seen() }).state, State::Warn);
        assert!(bindings(&Examination { unprobed: queue(), ..seen() }).advice.is_some());
        assert_eq!(host("amqp://guest:guest@127.0.0.1:5672/%2f"), "127.0.0.1");
    }

    #[test]
    fn a_queue_that_nobody_takes_from_is_told() {
        assert_eq!(queue("p.advance", 0, 0).state, State::Ok);
        assert_eq!(queue("p.advance", 1, 0).state, State::Warn);
        assert_eq!(queue("p.dead", 1, 1).state, State::Warn);
        assert_eq!(queue("p.sweeps", MANY, 1).state, State::Warn);
    }
}
