//! How all delivery queues share the connections out there may be (`max_outbound_connections`).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The connections out, over all queues.
///
/// The last quarter is for queues that have none yet: next hops that hang on to as many
/// connections as they can get do not keep the first one of another from being opened.
#[derive(Debug)]
pub(super) struct Connections {
    free: Arc<Semaphore>,
    /// What only first connections may take.
    reserve: u32,
    waiting: AtomicUsize,
}

/// Leave to hold one connection.
#[derive(Debug)]
pub(super) struct Leave(#[expect(dead_code, reason = "held, not read")] OwnedSemaphorePermit);

impl Connections {
    pub(super) fn new(max: usize) -> Self {
        let max = max.min(Semaphore::MAX_PERMITS);
        Self {
            free: Arc::new(Semaphore::new(max)),
            reserve: u32::try_from(max.div_ceil(4)).unwrap_or(u32::MAX / 2),
            waiting: AtomicUsize::new(0),
        }
    }

    /// Leave for the first connection of a queue, if there is one.
    pub(super) fn first_now(&self) -> Option<Leave> {
        Arc::clone(&self.free).try_acquire_owned().ok().map(Leave)
    }

    /// Waits for that; whoever asks first is first.
    pub(super) async fn first(&self) -> Option<Leave> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let permit = Arc::clone(&self.free).acquire_owned().await;
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        permit.ok().map(Leave)
    }

    /// Leave for one more connection of a queue that has some; none when what is left is for
    /// others.
    pub(super) fn further(&self) -> Option<Leave> {
        let mut all = Arc::clone(&self.free).try_acquire_many_owned(self.reserve + 1).ok()?;
        all.split(1).map(Leave)
    }

    /// Whether a queue waits for its first connection, so that no idle one should be kept open.
    pub(super) fn are_short(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }
}

#[cfg(test)]
mod tests {
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn ready(future: Pin<&mut impl Future<Output = Option<Leave>>>) -> Option<Leave> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(leave) => leave,
            Poll::Pending => None,
        }
    }

    #[tokio::test]
    async fn the_last_quarter_is_for_first_connections() {
        let connections = Connections::new(8);
        let mut held: Vec<Leave> = std::iter::from_fn(|| connections.further()).collect();
        assert_eq!(held.len(), 6);
        held.extend(connections.first().await);
        held.extend(connections.first().await);
        assert_eq!(held.len(), 8);
        assert!(!connections.are_short());
        let mut ninth = pin!(connections.first());
        assert!(ready(ninth.as_mut()).is_none());
        assert!(connections.are_short());
        held.pop();
        assert!(ready(ninth.as_mut()).is_some());
        assert!(!connections.are_short());
    }

    #[tokio::test]
    async fn a_single_connection_is_always_a_first_one() {
        let connections = Connections::new(1);
        assert!(connections.further().is_none());
        assert!(connections.first_now().is_some());
    }

    #[tokio::test]
    async fn unlimited_is_a_number_too() {
        assert!(Connections::new(usize::MAX).further().is_some());
    }
}
