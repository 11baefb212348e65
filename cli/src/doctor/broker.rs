//! The broker: whether it answers, what it is, and whether what we declare is there.

use super::Finding;
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
    let mut findings = vec![version(seen.version), topology(&seen.missing)];
    findings.extend(seen.queues.iter().map(|(name, messages, consumers)| queue(name, *messages, *consumers)));
    findings.push(Finding::ok(
        "broker settings",
        "alarms and consumer_timeout do not show by AMQP: see the management API. Hints and commands are \
         acknowledged within moments, so that its default of 30 min is enough",
    ));
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

    #[test]
    fn a_queue_that_nobody_takes_from_is_told() {
        assert_eq!(queue("p.advance", 0, 0).state, State::Ok);
        assert_eq!(queue("p.advance", 1, 0).state, State::Warn);
        assert_eq!(queue("p.dead", 1, 1).state, State::Warn);
        assert_eq!(queue("p.sweeps", MANY, 1).state, State::Warn);
    }
}
