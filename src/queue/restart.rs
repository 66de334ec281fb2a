//! Taking over what earlier runs left in the spool, while fresh mail comes and goes.

use std::sync::Arc;
use std::time::Instant;

use super::codec;
use super::delivery::Item;
use super::housekeeping::keep_house;
use super::manager::{Queue, open_recipients};
use super::message::{QueuedMessage, State};
use super::spool::{Change, Recovered, RecoveredMessage, Recovery, SpoolError};

impl Queue {
    /// Takes over everything, and then keeps house until shutdown. Ages are looked at in order of
    /// age, so that waits until the oldest messages are there. An error: what is in the spool
    /// cannot be read.
    pub async fn take_over(self: Arc<Self>, mut recovery: Recovery) -> Result<(), SpoolError> {
        let (began, mut waiting) = (Instant::now(), 0);
        let mib = recovery.bytes() >> 20;
        tracing::info!(segments = recovery.segments(), mib, "reading the spool; mail is taken meanwhile");
        loop {
            let next = tokio::select! {
                next = recovery.next() => next,
                () = self.shutdown.wait() => return Ok(()),
            };
            match next {
                Ok(Recovered::Messages(messages)) => waiting += self.enqueue(messages),
                Ok(Recovered::End(report)) => {
                    let seconds = (began.elapsed().as_secs_f64() * 100.0).round() / 100.0;
                    tracing::info!(waiting, seconds, "spool read: {report}");
                    break;
                }
                Err(SpoolError::Closed) => return Ok(()),
                Err(error) => return Err(error),
            }
            // There may be a million of them, and others have work to do as well.
            tokio::task::yield_now().await;
        }
        drop(recovery);
        keep_house(self).await;
        Ok(())
    }

    /// Puts messages of an earlier run on their way. Returns how many are waiting.
    fn enqueue(self: &Arc<Self>, messages: Vec<RecoveredMessage>) -> usize {
        messages.into_iter().map(|message| usize::from(self.enqueue_one(message))).sum()
    }

    fn enqueue_one(self: &Arc<Self>, found: RecoveredMessage) -> bool {
        let id = found.id;
        let meta = match codec::decode_meta(&found.meta) {
            Ok(meta) => meta,
            Err(error) => {
                tracing::error!(id = id.0, %error, "a queued message cannot be read and stays in the spool");
                return false;
            }
        };
        let state: Option<State> = found.state.as_deref().and_then(|bytes| {
            codec::decode_state(bytes, meta.envelope.recipients.len())
                .inspect_err(|error| {
                    tracing::error!(id = id.0, %error, "the state of a queued message cannot be read; all its recipients are tried");
                })
                .ok()
        });
        let message = QueuedMessage::new(id, &meta, found.meta, None, state);
        let open = open_recipients(&message.state());
        if open.is_empty() {
            self.spool.apply(Change::Remove(id));
            return false;
        }
        let recipients = (open.len() < meta.envelope.recipients.len()).then_some(open);
        self.live().insert(id, Arc::clone(&message));
        self.route(Item { message, recipients, retried_fresh: false }, &meta);
        true
    }
}
