//! Which frames acknowledge a set of messages.
//!
//! 'Multiple' acknowledges everything up to a tag, so it is used only as far as nothing below
//! that tag is still to be worked on. A tag that the broker does not know closes the channel,
//! so only outstanding ones are ever sent.

use std::collections::BTreeSet;

/// What to send.
#[derive(Debug, PartialEq, Eq, Default)]
pub(super) struct Frames {
    /// Everything up to this tag.
    pub up_to: Option<u64>,
    /// Each of these alone.
    pub single: Vec<u64>,
}

/// Takes these tags out of what is outstanding, and says what to send for them.
pub(super) fn frames(outstanding: &mut BTreeSet<u64>, tags: impl IntoIterator<Item = u64>) -> Frames {
    let acked: BTreeSet<u64> = tags.into_iter().filter(|tag| outstanding.remove(tag)).collect();
    let floor = outstanding.first().copied().unwrap_or(u64::MAX);
    Frames {
        up_to: acked.range(..floor).next_back().copied(),
        single: acked.range(floor..).copied().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(outstanding: &[u64], tags: &[u64], up_to: Option<u64>, single: &[u64]) {
        let mut set = outstanding.iter().copied().collect();
        assert_eq!(frames(&mut set, tags.iter().copied()), Frames { up_to, single: single.to_vec() });
    }

    #[test]
    fn one_frame_where_nothing_lies_below() {
        case(&[1, 2, 3, 4], &[1, 2, 3], Some(3), &[]);
        case(&[1, 2, 3], &[3, 1, 2], Some(3), &[]);
        case(&[5], &[5], Some(5), &[]);
    }

    #[test]
    fn singly_above_one_that_is_still_worked_on() {
        case(&[1, 2, 3, 4], &[1, 3, 4], Some(1), &[3, 4]);
        case(&[1, 2, 3], &[2], None, &[2]);
    }

    #[test]
    fn what_is_not_outstanding_is_passed_over() {
        case(&[2], &[1, 2, 9, 2], Some(2), &[]);
        case(&[], &[1], None, &[]);
    }
}
