//! What waits for the next batch, by tenant: a batch takes from each in turn, so that nobody
//! waits behind all that another has sent.

use std::collections::VecDeque;
use std::sync::Arc;

/// Things that wait, each tenant's in the order that they came.
pub(crate) struct FairQueue<T> {
    /// The tenant whose turn it is stands first. None is empty.
    tenants: VecDeque<(Arc<str>, VecDeque<T>)>,
}

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        Self { tenants: VecDeque::new() }
    }
}

impl<T> FairQueue<T> {
    pub(crate) fn is_empty(&self) -> bool {
        self.tenants.is_empty()
    }

    fn of(&mut self, tenant: &Arc<str>) -> &mut VecDeque<T> {
        let at = self.tenants.iter().position(|(known, _)| known == tenant).unwrap_or_else(|| {
            self.tenants.push_back((Arc::clone(tenant), VecDeque::new()));
            self.tenants.len() - 1
        });
        &mut self.tenants[at].1
    }

    /// Behind everything of its tenant.
    pub(crate) fn push(&mut self, tenant: &Arc<str>, one: T) {
        self.of(tenant).push_back(one);
    }

    /// Before everything of its tenant.
    pub(crate) fn push_front(&mut self, tenant: &Arc<str>, one: T) {
        self.of(tenant).push_front(one);
    }

    /// The next of the tenant whose turn it is; then it is the next one's.
    pub(crate) fn pop(&mut self) -> Option<T> {
        let (tenant, mut waiting) = self.tenants.pop_front()?;
        let next = waiting.pop_front();
        if !waiting.is_empty() {
            self.tenants.push_back((tenant, waiting));
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tenant_has_its_turn() {
        let (flood, quiet): (Arc<str>, Arc<str>) = ("flood".into(), "quiet".into());
        let mut queue = FairQueue::default();
        for n in 0..1_000 {
            queue.push(&flood, n);
        }
        queue.push(&quiet, 1_000);
        queue.push(&quiet, 1_001);
        let first: Vec<_> = (0..6).filter_map(|_| queue.pop()).collect();
        assert_eq!(first, [0, 1_000, 1, 1_001, 2, 3]);
        queue.push_front(&flood, 9_999);
        assert_eq!(queue.pop(), Some(9_999));
        let mut rest = 0;
        while queue.pop().is_some() {
            rest += 1;
        }
        assert_eq!((rest, queue.is_empty()), (996, true));
    }
}
