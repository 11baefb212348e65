//! When a failed attempt is tried again.

use std::time::Duration;

use crate::definition::Retry;
use crate::entropy::Entropy;

/// The longest `Retry-After` that is respected; a server that asks for more has failed.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(10 * 60);

/// The delay before the next attempt after `failures` failed ones, or `None` where there
/// is none. Doubling with "equal jitter" (half fixed, half random), so that callers that
/// failed together do not come back together.
pub fn delay(
    retry: Retry,
    failures: u32,
    retry_after: Option<Duration>,
    entropy: &mut Entropy,
) -> Option<Duration> {
    if failures >= retry.tries {
        return None;
    }
    if let Some(asked) = retry_after {
        return (asked <= MAX_RETRY_AFTER).then_some(asked);
    }
    Some(doubled(retry, failures).mul_f64(0.5 + entropy.unit() / 2.0))
}

/// The delay before the n-th of what is done again and again: doubling, without jitter.
pub fn doubled(retry: Retry, n: u32) -> Duration {
    let doublings = n.saturating_sub(1).min(30);
    retry.first_delay.0.saturating_mul(1 << doublings).min(retry.max_delay.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_bound_and_end() {
        let mut entropy = Entropy::from_seed(1);
        let retry = Retry { tries: 8, ..Retry::default() };
        for (failures, full) in [(1, 1.0), (2, 2.0), (3, 4.0), (5, 16.0), (6, 30.0), (7, 30.0)] {
            let delay = delay(retry, failures, None, &mut entropy).expect("another try").as_secs_f64();
            assert!((full / 2.0..=full).contains(&delay), "{failures}: {delay}");
        }
        assert_eq!(delay(retry, 8, None, &mut entropy), None);
        assert_eq!(delay(Retry::default(), 4, None, &mut entropy), None);
    }

    #[test]
    fn the_server_s_wish_goes_first_within_reason() {
        let mut entropy = Entropy::from_seed(1);
        let asked = Some(Duration::from_secs(77));
        assert_eq!(delay(Retry::default(), 1, asked, &mut entropy), asked);
        assert_eq!(delay(Retry::default(), 1, Some(Duration::from_secs(3601)), &mut entropy), None);
        assert_eq!(delay(Retry::default(), 4, asked, &mut entropy), None);
    }
}
