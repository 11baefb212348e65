//! What began lately under a rate, counted by steps of time.
//!
//! The window of a rate is cut into steps. A use counts from its step until the window has left
//! that step wholly behind, so that no span of time of the window's length ever has more than the
//! rate allows; what a use took is free again at most one step later than it could be.

use std::time::Duration;

use holdpoint_engine::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::limit_types::Rate;
use crate::session::micros;

/// Steps of a window.
const STEPS: i64 = 20;

/// Uses by the number of their step, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Uses(Vec<(i64, i64)>);

fn step_micros(rate: &Rate) -> i64 {
    (micros(rate.per) / STEPS).max(1)
}

impl Uses {
    pub(crate) const fn none() -> Self {
        Self(Vec::new())
    }

    /// Those that count now. A clock that went back by less than the window lets nothing pass;
    /// steps of another length, from before the rate was changed, are nowhere near.
    fn counting(&self, rate: &Rate, now: Timestamp) -> impl Iterator<Item = (i64, i64)> {
        let current = now.micros() / step_micros(rate);
        let counts = current - STEPS..=current + STEPS;
        self.0.iter().copied().filter(move |(step, _)| counts.contains(step))
    }

    /// How many count now.
    pub(crate) fn counted(&self, rate: &Rate, now: Timestamp) -> i64 {
        self.counting(rate, now).map(|(_, uses)| uses).sum()
    }

    /// Counts so many more, and forgets what no longer counts.
    pub(crate) fn add(&mut self, rate: &Rate, now: Timestamp, more: i64) {
        let current = now.micros() / step_micros(rate);
        self.0 = self.counting(rate, now).collect();
        match self.0.iter_mut().find(|(step, _)| *step == current) {
            Some((_, uses)) => *uses += more,
            None => self.0.push((current, more)),
        }
    }

    /// How long until fewer count than do now.
    pub(crate) fn until_fewer(&self, rate: &Rate, now: Timestamp) -> Duration {
        let length = step_micros(rate);
        let first = self.counting(rate, now).map(|(step, _)| step).min();
        let free_at = first.map_or(0, |step| (step + STEPS + 1).saturating_mul(length));
        Duration::from_micros(u64::try_from(free_at - now.micros()).unwrap_or(0).min(60_000_000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_micros(1_800_000_000_000_000 + millis * 1_000)
    }

    const RATE: Rate = Rate { count: 10, per: Duration::from_secs(1) };

    /// Takes as much as it may whenever it looks.
    fn take(uses: &mut Uses, millis: i64) -> i64 {
        let more = RATE.count - uses.counted(&RATE, at(millis));
        if more > 0 {
            uses.add(&RATE, at(millis), more);
        }
        more.max(0)
    }

    #[test]
    fn no_span_of_its_length_has_more() {
        let mut uses = Uses::default();
        let mut begun: Vec<i64> = Vec::new();
        // Looks at odd times, and takes one or all.
        for look in 0..2_000_i64 {
            let millis = look * 7 % 13 + look * 11;
            if look % 3 == 0 {
                begun.extend((0..take(&mut uses, millis)).map(|_| millis));
            } else if uses.counted(&RATE, at(millis)) < RATE.count {
                uses.add(&RATE, at(millis), 1);
                begun.push(millis);
            }
        }
        assert!(begun.len() > 180, "the rate is used: {}", begun.len());
        for (place, first) in begun.iter().enumerate() {
            let within = begun[place..].iter().filter(|later| **later < first + 1_000).count();
            assert!(within <= 10, "{within} from {first} on");
        }
    }

    #[test]
    fn room_comes_back_when_it_is_told() {
        let mut uses = Uses::default();
        assert_eq!(take(&mut uses, 0), 10);
        let wait = uses.until_fewer(&RATE, at(1));
        assert!(wait > Duration::from_millis(990) && wait <= Duration::from_millis(1_050), "{wait:?}");
        let millis = i64::try_from(wait.as_millis()).expect("short");
        assert_eq!(take(&mut uses, millis - 1), 0);
        assert_eq!(take(&mut uses, millis + 2), 10);
    }

    #[test]
    fn it_stays_short_and_survives_being_written() {
        let mut uses = Uses::default();
        for millis in 0..5_000 {
            uses.add(&RATE, at(millis), 1);
        }
        assert!(uses.0.len() <= 21);
        let written = serde_json::to_string(&uses).expect("JSON");
        assert_eq!(serde_json::from_str::<Uses>(&written).expect("as it was"), uses);
    }

    #[test]
    fn a_changed_rate_begins_anew() {
        let mut uses = Uses::default();
        uses.add(&RATE, at(0), 10);
        let slower = Rate { count: 5, per: Duration::from_secs(60) };
        uses.add(&slower, at(1), 1);
        assert_eq!(uses.counted(&slower, at(2)), 1);
    }
}
