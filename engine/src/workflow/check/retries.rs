//! `catch.retry`.

use super::expressions::Scope;
use super::spot::Spot;
use super::{Checker, Maybe, flip};
use crate::workflow::document::{Backoff, DurationValue, RetryPolicy};
use crate::workflow::read::Kind;

const KEYS: [&str; 6] = ["when", "exceptWhen", "delay", "backoff", "limit", "jitter"];
const BACKOFFS: [(&str, Backoff); 3] =
    [("constant", Backoff::Constant), ("linear", Backoff::Linear), ("exponential", Backoff::Exponential)];
/// A number of attempts beyond which none is written.
const MOST_ATTEMPTS: u64 = 1_000_000;

struct Limits {
    attempts: Option<u32>,
    attempt_duration: Option<DurationValue>,
    duration: Option<DurationValue>,
}

impl<'n> Checker<'n, '_> {
    /// `retry` of a `catch`: a policy, or the name of one in `use.retries`.
    pub(super) fn retry(&mut self, catch: &Spot<'n>, scope: Scope<'_>) -> Maybe<RetryPolicy> {
        let Some(spot) = catch.get("retry") else { return Some(None) };
        let spot = if spot.text().is_some() { self.used(&spot, "retries")? } else { spot };
        self.retry_policy(&spot, scope).map(Some)
    }

    pub(super) fn retry_policy(&mut self, spot: &Spot<'n>, scope: Scope<'_>) -> Option<RetryPolicy> {
        self.object(spot, "a retry policy", &KEYS)?;
        let when = self.optional_condition(spot, "when", scope);
        let except_when = self.optional_condition(spot, "exceptWhen", scope);
        let delay = self.optional_duration(spot, "delay", scope);
        let backoff = self.backoff(spot);
        let limits = self.limits(spot, scope);
        let jitter = self.jitter(spot, scope);
        let (limits, none) = (limits?, DurationValue::Fixed(std::time::Duration::ZERO));
        Some(RetryPolicy {
            when: when?,
            except_when: except_when?,
            delay: delay?.unwrap_or(none),
            backoff: backoff?,
            attempts: limits.attempts,
            attempt_duration: limits.attempt_duration,
            duration: limits.duration,
            jitter: jitter?,
        })
    }

    fn backoff(&mut self, policy: &Spot<'n>) -> Option<Backoff> {
        let Some(spot) = policy.get("backoff") else { return Some(Backoff::Constant) };
        self.object(&spot, "`backoff`", &BACKOFFS.map(|(name, _)| name))?;
        let [only] = spot.members() else {
            return self.expected(&spot, "one of `constant`, `linear` and `exponential`");
        };
        let inner = spot.member(only);
        if !matches!(inner.node.kind, Kind::Map(_) | Kind::Null) || !inner.members().is_empty() {
            return self.expected(&inner, "`{}`: a backoff has no settings");
        }
        BACKOFFS.iter().find(|(name, _)| *name == only.key).map(|(_, backoff)| *backoff)
    }

    fn limits(&mut self, policy: &Spot<'n>, scope: Scope<'_>) -> Option<Limits> {
        let none = Limits { attempts: None, attempt_duration: None, duration: None };
        let Some(spot) = policy.get("limit") else { return Some(none) };
        self.object(&spot, "`limit`", &["attempt", "duration"])?;
        let duration = self.optional_duration(&spot, "duration", scope);
        let Some(attempt) = spot.get("attempt") else { return Some(Limits { duration: duration?, ..none }) };
        self.object(&attempt, "`attempt`", &["count", "duration"])?;
        let count = flip(attempt.get("count").map(|count| self.whole(&count, 1, MOST_ATTEMPTS)));
        let attempt_duration = self.optional_duration(&attempt, "duration", scope);
        Some(Limits {
            attempts: count?.map(|count| count as u32),
            attempt_duration: attempt_duration?,
            duration: duration?,
        })
    }

    fn jitter(&mut self, policy: &Spot<'n>, scope: Scope<'_>) -> Maybe<(DurationValue, DurationValue)> {
        let Some(spot) = policy.get("jitter") else { return Some(None) };
        self.object(&spot, "`jitter`", &["from", "to"])?;
        let [from, to] = ["from", "to"]
            .map(|key| self.required(&spot, key).and_then(|found| self.duration(&found, scope)));
        let (from, to) = (from?, to?);
        if let (DurationValue::Fixed(least), DurationValue::Fixed(most)) = (&from, &to)
            && least > most
        {
            return self.refuse(spot.wrong("`from` is longer than `to`"));
        }
        Some(Some((from, to)))
    }
}
