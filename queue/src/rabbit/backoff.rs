//! How long to wait before something is tried again.

use std::time::Duration;

/// The first pause, at most.
const FIRST: Duration = Duration::from_millis(50);

/// Doubling pauses with jitter, so that a whole fleet does not come back in one instant.
#[derive(Debug)]
pub(super) struct Backoff {
    first: Duration,
    next: Duration,
    most: Duration,
}

impl Backoff {
    pub fn new(most: Duration) -> Self {
        Self::from(FIRST, most)
    }

    /// One that begins with another pause.
    pub fn from(first: Duration, most: Duration) -> Self {
        let first = first.min(most);
        Self { first, next: first, most }
    }

    /// The next pause: between half of the step and all of it. The step then doubles.
    pub fn pause(&mut self) -> Duration {
        let step = self.next;
        self.next = (step * 2).min(self.most);
        step / 2 + (step / 2).mul_f64(jitter())
    }

    /// After success: the next failure begins with a short pause again.
    pub fn reset(&mut self) {
        self.next = self.first;
    }

    /// The longest pause.
    pub fn most(&self) -> Duration {
        self.most
    }
}

/// Between 0 and 1. The low bits of a version 7 UUID are random.
fn jitter() -> f64 {
    f64::from(uuid::Uuid::now_v7().as_u128() as u16) / f64::from(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_most_and_begin_anew() {
        let most = Duration::from_millis(150);
        let mut backoff = Backoff::new(most);
        for step in [50, 100, 150, 150] {
            let pause = backoff.pause();
            assert!(
                pause >= Duration::from_millis(step / 2) && pause <= Duration::from_millis(step),
                "{pause:?}"
            );
        }
        backoff.reset();
        assert!(backoff.pause() <= FIRST);
    }
}
