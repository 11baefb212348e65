//! The database's time, as a worker knows it: told with each heartbeat, and by our own clock since.

use std::time::Instant;

use holdpoint_engine::time::Timestamp;

/// What was told last, and when.
pub(crate) struct Clock {
    then: Instant,
    told: Timestamp,
}

impl Clock {
    /// The database said `now`; the answer came at `received`.
    pub fn new(now: Timestamp, received: Instant) -> Self {
        Self { then: received, told: now }
    }

    /// The database's time at this instant, as far as we know.
    pub fn at(&self, instant: Instant) -> Timestamp {
        self.told.plus(instant.duration_since(self.then))
    }

    /// The database looked at its clock between `sent` and `received`. What we know is kept where it
    /// agrees with that: time does not go back because an answer was slow. A clock that was set is
    /// followed.
    pub fn told(&mut self, now: Timestamp, sent: Instant, received: Instant) {
        let latest = now.plus(received.duration_since(sent));
        *self = Self { then: received, told: self.at(received).clamp(now, latest) };
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const fn ms(length: u64) -> Duration {
        Duration::from_millis(length)
    }

    #[test]
    fn time_does_not_go_back_because_an_answer_was_slow() {
        let (start, began) = (Instant::now(), Timestamp::from_micros(1_800_000_000_000_000));
        let mut clock = Clock::new(began, start);
        let before = clock.at(start + ms(1_400));
        // The database looked at 1,100 ms; the answer lay until 1,400 ms.
        clock.told(began.plus(ms(1_100)), start + ms(1_090), start + ms(1_400));
        assert_eq!(clock.at(start + ms(1_400)), before);
        assert_eq!(clock.at(start + ms(1_500)), began.plus(ms(1_500)));
    }

    #[test]
    fn a_slow_first_answer_is_made_good() {
        let (start, began) = (Instant::now(), Timestamp::from_micros(1_800_000_000_000_000));
        // It lay for 300 ms: our time is late by as much.
        let mut clock = Clock::new(began, start + ms(300));
        clock.told(began.plus(ms(1_000)), start + ms(999), start + ms(1_001));
        assert_eq!(clock.at(start + ms(1_001)), began.plus(ms(1_000)));
    }

    #[test]
    fn a_clock_that_was_set_is_followed() {
        let (start, began) = (Instant::now(), Timestamp::from_micros(1_800_000_000_000_000));
        let mut clock = Clock::new(began, start);
        for now in [began.plus(ms(60_000)), began] {
            clock.told(now, start + ms(1_000), start + ms(1_010));
            let known = clock.at(start + ms(1_010));
            assert!(known >= now && known <= now.plus(ms(10)), "{known}");
        }
    }
}
