//! What only the broker's own tool tells: `consumer_timeout`, where the tool and the broker are
//! on this machine.

use std::time::Duration;

use tokio::process::Command;

use super::Finding;

/// Deliveries are acknowledged once their claim is committed: a timeout below this could end a
/// channel while the database is slow.
const SHORTEST: Duration = Duration::from_secs(60);
/// So long the tool may take: it starts a virtual machine.
const PATIENCE: Duration = Duration::from_secs(40);

const NAME: &str = "broker consumer_timeout";
const ASK: &str = "application:get_env(rabbit, consumer_timeout).";
const BY_HAND: &str = "where the broker runs: `rabbitmqctl eval 'application:get_env(rabbit, consumer_timeout).'` \
                       should say at least {ok,60000}";

/// What it is set to, as far as it can be read here.
pub async fn consumer_timeout(host: &str) -> Finding {
    if !is_here(host) {
        return unread("AMQP does not show it, and the broker is on another machine");
    }
    let mut asking = Command::new("rabbitmqctl");
    asking.args(["-q", "eval", ASK]).kill_on_drop(true).stdin(std::process::Stdio::null());
    match tokio::time::timeout(PATIENCE, asking.output()).await {
        Ok(Ok(output)) if output.status.success() => judge(&String::from_utf8_lossy(&output.stdout)),
        Ok(Ok(_)) => unread("AMQP does not show it, and `rabbitmqctl` does not reach this broker"),
        Ok(Err(_)) => unread("AMQP does not show it, and `rabbitmqctl` is not on this machine"),
        Err(_) => unread("AMQP does not show it, and `rabbitmqctl` does not answer"),
    }
}

fn is_here(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// Its default of 30 minutes is enough, so that not knowing it is no warning.
fn unread(what: &str) -> Finding {
    let mut finding = Finding::ok(NAME, what);
    finding.advice = Some(BY_HAND.to_owned());
    finding
}

fn judge(answer: &str) -> Finding {
    let answer = answer.trim();
    if answer == "undefined" || answer == "{ok,undefined}" {
        return Finding::ok(NAME, "off: the broker waits for acknowledgements for ever");
    }
    let millis = answer.strip_prefix("{ok,").and_then(|rest| rest.strip_suffix('}')?.parse::<u64>().ok());
    let Some(millis) = millis else {
        return unread("`rabbitmqctl` said something that is not understood");
    };
    let what = format!("{millis} ms");
    if Duration::from_millis(millis) < SHORTEST {
        let advice = "raise it to a minute or more: a slow database would cost channels, and with them time";
        return Finding::warn(NAME, what, advice);
    }
    Finding::ok(NAME, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    #[test]
    fn a_short_timeout_is_warned_of() {
        assert_eq!(judge("{ok,1800000}\n").state, State::Ok);
        assert_eq!(judge("{ok,1000}").state, State::Warn);
        assert_eq!(judge("undefined").state, State::Ok);
        let finding = judge("Error: nonsense");
        assert_eq!((finding.state, finding.advice.as_deref()), (State::Ok, Some(BY_HAND)));
    }

    #[test]
    fn only_a_broker_on_this_machine_is_asked() {
        for (host, here) in
            [("localhost", true), ("127.0.0.1", true), ("::1", true), ("[::1]", true), ("mq.test", false)]
        {
            assert_eq!(is_here(host), here, "{host}");
        }
    }
}
