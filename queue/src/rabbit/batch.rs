//! Many futures at once, begun in their order, with one deadline.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use futures_util::future::{MaybeDone, maybe_done};
use tokio::time::{Instant, timeout_at};

/// Begins all in order (lapin puts a frame in its queue when a call is first polled, so this
/// is the order on the wire), then waits until all are done or the deadline has come. What
/// is not done then is `None`, and dropped.
pub(super) async fn all_by<F: Future>(
    deadline: Instant,
    futures: impl Iterator<Item = F>,
) -> Vec<Option<F::Output>> {
    let mut running: Vec<_> = futures.map(|future| Box::pin(maybe_done(future))).collect();
    poll_each(&mut running).await;
    let in_time = timeout_at(deadline, async {
        for one in &mut running {
            one.as_mut().await;
        }
    });
    if in_time.await.is_err() {
        // Some may be done behind the one that was waited for.
        poll_each(&mut running).await;
    }
    running.iter_mut().map(|one| one.as_mut().take_output()).collect()
}

/// Polls each once, in order.
async fn poll_each<F: Future>(running: &mut [Pin<Box<MaybeDone<F>>>]) {
    poll_fn(|context| {
        for one in running.iter_mut() {
            let _ = one.as_mut().poll(context);
        }
        Poll::Ready(())
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::future::Either;
    use std::future::{pending, ready};
    use std::time::Duration;

    #[tokio::test]
    async fn what_is_done_behind_a_stuck_one_is_kept() {
        let soon = Instant::now() + Duration::from_millis(20);
        let futures = [Either::Left(ready(1)), Either::Right(pending()), Either::Left(ready(3))];
        assert_eq!(all_by(soon, futures.into_iter()).await, [Some(1), None, Some(3)]);
    }

    #[tokio::test]
    async fn they_are_begun_in_order() {
        let begun = std::sync::Mutex::new(Vec::new());
        let begin = |n: usize| {
            let begun = &begun;
            async move {
                begun.lock().map(|mut all| all.push(n)).ok();
                tokio::task::yield_now().await;
            }
        };
        all_by(Instant::now() + Duration::from_secs(5), (0..100).map(begin)).await;
        assert_eq!(begun.into_inner().ok(), Some((0..100).collect()));
    }
}
