//! Expiry and delay notices (exchange-edge.md 2.5), for ready and deferred messages alike.

use std::sync::Arc;
use std::time::Duration;

use crate::eop::Words;

use super::manager::Queue;
use super::message::{QueuedMessage, RecipientStatus};
use super::reports::{Report, Verdict};
use super::spool::MessageId;

/// How often ages are looked at. Messages are looked at in order of age, and only those that are
/// due, so a look costs nothing when none is.
const TICK: Duration = Duration::from_millis(500);

/// Messages handled between two looks, so that a mass expiry does not crowd out delivery.
const BATCH: usize = 500;

/// Pause after a report that could not be stored: the next would fail like it, and each says so in
/// the log.
const PAUSE: Duration = Duration::from_secs(10);

/// Runs until shutdown.
pub(super) async fn keep_house(queue: Arc<Queue>) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // Messages up to this one have had their delay notice, or need none.
    let mut noticed = MessageId(0);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = queue.shutdown.wait() => return,
        }
        if !queue.expire().await {
            ticks.reset_after(PAUSE);
        }
        if !queue.notice_delays(&mut noticed).await {
            ticks.reset_after(PAUSE);
        }
    }
}

impl Queue {
    /// Gives up messages past their time. One that is being sent is left to its outcome. False: a
    /// report could not be stored, and the rest was left for later.
    pub(super) async fn expire(self: &Arc<Self>) -> bool {
        let limit = self.active.load().routing.transport.message_expiration_timeout;
        let due: Vec<Arc<QueuedMessage>> = {
            let live = self.live();
            live.values().take_while(|m| m.age() >= limit).take(BATCH).cloned().collect()
        };
        let (mut any, mut stored) = (false, true);
        for message in due {
            let Some(open) = message.take_for_expiry() else { continue };
            let words = self.active.load().routing.words;
            let mut last = message.state().last_error.clone();
            if last.is_none() && words == Words::ExchangeOnline {
                last = self.queue_error(&message).map(Into::into);
            }
            let verdicts: Vec<_> = open
                .into_iter()
                .map(|index| Verdict { index, reply: words.expired(last.as_deref()), remote: None })
                .collect();
            let turn = self.turns.take(message.id).await;
            stored =
                self.settle_with_report(&message, Report::Failure, &verdicts, RecipientStatus::Failed).await;
            any |= stored;
            drop(turn);
            message.release();
            if !stored {
                break;
            }
        }
        if any {
            self.purge();
        }
        stored
    }

    /// Tells senders of messages that have waited long. False: a notice could not be stored, and
    /// it and the rest were left for later.
    async fn notice_delays(self: &Arc<Self>, noticed: &mut MessageId) -> bool {
        let transport = self.active.load().routing.transport.clone();
        let after = transport.delay_notification_timeout;
        if after >= transport.message_expiration_timeout {
            return true;
        }
        let due: Vec<Arc<QueuedMessage>> = {
            let live = self.live();
            let newer = (std::ops::Bound::Excluded(*noticed), std::ops::Bound::Unbounded);
            live.range(newer).map(|(_, m)| m).take_while(|m| m.age() >= after).take(BATCH).cloned().collect()
        };
        for message in due {
            let before = std::mem::replace(noticed, message.id);
            let _turn = self.turns.take(message.id).await;
            let open: Vec<usize> = {
                let mut state = message.state();
                if std::mem::replace(&mut state.delay_notified, true) {
                    continue;
                }
                let pending =
                    |(i, s): (usize, &RecipientStatus)| (*s == RecipientStatus::Pending).then_some(i);
                state.recipients.iter().enumerate().filter_map(pending).collect()
            };
            let verdicts: Vec<_> = open
                .into_iter()
                .map(|index| Verdict { index, reply: DELAYED.to_owned(), remote: None })
                .collect();
            let change = Self::changed_state(&message, &[]);
            if let Err(error) = self.notify(Report::Delay, &message, &verdicts, vec![change]).await {
                tracing::error!(id = message.id.0, %error, "a delay notice could not be stored");
                message.state().delay_notified = false;
                *noticed = before;
                return false;
            }
        }
        true
    }
}

/// The reply in a delay notice (exchange-edge.md 9.6).
const DELAYED: &str = "400 4.4.7 Message delayed";
