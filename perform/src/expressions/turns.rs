//! Who waits for something of which there is little: tenants have it in turns, and each tenant's
//! own in the order in which they came, so that one that asks for much delays another by one turn.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, Sender, channel};

/// Those who wait for a `T`.
pub(super) struct Turns<T> {
    /// The tenant whose turn is next stands first; none is without somebody who waits.
    tenants: VecDeque<(String, VecDeque<Waiting<T>>)>,
    tickets: u64,
}

struct Waiting<T> {
    ticket: u64,
    hand: Sender<T>,
}

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Self { tenants: VecDeque::new(), tickets: 0 }
    }
}

impl<T> Turns<T> {
    /// Waits; what is handed over comes by the channel.
    pub(super) fn wait(&mut self, tenant: &str) -> (u64, Receiver<T>) {
        let (hand, handed) = channel();
        self.tickets += 1;
        let waiting = Waiting { ticket: self.tickets, hand };
        match self.tenants.iter_mut().find(|(name, _)| name == tenant) {
            Some((_, queue)) => queue.push_back(waiting),
            None => self.tenants.push_back((tenant.to_owned(), VecDeque::from([waiting]))),
        }
        (self.tickets, handed)
    }

    /// Waits no longer; whether it still did.
    pub(super) fn leave(&mut self, ticket: u64) -> bool {
        let before = self.waiting();
        self.tenants.iter_mut().for_each(|(_, queue)| queue.retain(|one| one.ticket != ticket));
        self.tenants.retain(|(_, queue)| !queue.is_empty());
        self.waiting() < before
    }

    /// Hands something to whose turn it is; it comes back where nobody waits.
    pub(super) fn hand(&mut self, mut thing: T) -> Option<T> {
        while let Some((tenant, mut queue)) = self.tenants.pop_front() {
            let next = queue.pop_front();
            if !queue.is_empty() {
                self.tenants.push_back((tenant, queue));
            }
            let Some(next) = next else { continue };
            match next.hand.send(thing) {
                Ok(()) => return None,
                Err(back) => thing = back.0,
            }
        }
        Some(thing)
    }

    fn waiting(&self) -> usize {
        self.tenants.iter().map(|(_, queue)| queue.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenants_have_it_in_turns_and_each_its_own_in_order() {
        let mut turns = Turns::default();
        let wait = |turns: &mut Turns<usize>, tenant| turns.wait(tenant).1;
        let loud: Vec<_> = (0..10).map(|_| wait(&mut turns, "loud")).collect();
        let quiet: Vec<_> = (0..2).map(|_| wait(&mut turns, "quiet")).collect();
        for n in 0..12 {
            assert_eq!(turns.hand(n), None);
        }
        assert_eq!(turns.hand(12), Some(12), "nobody waits any more");
        let had = |all: &[Receiver<usize>]| -> Vec<usize> {
            all.iter().map(|handed| handed.try_recv().expect("a turn")).collect()
        };
        assert_eq!(had(&quiet), [1, 3]);
        assert_eq!(had(&loud), [0, 2, 4, 5, 6, 7, 8, 9, 10, 11]);
    }

    #[test]
    fn who_has_gone_gets_nothing() {
        let mut turns = Turns::default();
        let (first, handed) = turns.wait("a");
        let (second, kept) = turns.wait("a");
        assert!(turns.leave(first) && !turns.leave(first));
        assert_eq!(turns.hand("thing"), None);
        assert!(handed.try_recv().is_err());
        assert_eq!(kept.try_recv(), Ok("thing"));
        assert!(!turns.leave(second), "it was handed over");
        let (_, dropped) = turns.wait("a");
        drop(dropped);
        assert_eq!(turns.hand("again"), Some("again"));
    }
}
