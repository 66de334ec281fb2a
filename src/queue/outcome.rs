//! What an attempt came to, recipient by recipient, each handled once.

use std::sync::Arc;
use tokio::time::Instant;

use crate::send::{Failure, Outcome};
use crate::smtp::{EnhancedCode, Reply};

use super::delivery::{DeliveryQueue, Item};
use super::manager::Queue;
use super::message::{QueuedMessage, RecipientStatus};
use super::reports::{Report, Verdict};

impl Queue {
    /// Settles, reports or defers each recipient of an attempt. `open` are their envelope
    /// indices, in the order of `outcomes`.
    pub(super) async fn conclude(
        self: &Arc<Self>,
        queue: &Arc<DeliveryQueue>,
        item: Item,
        open: &[usize],
        outcomes: Vec<Outcome>,
    ) {
        let message = Arc::clone(&item.message);
        let mut done: Vec<(usize, RecipientStatus)> = Vec::with_capacity(open.len());
        let (mut failed, mut relayed, mut stored) = (Vec::new(), Vec::new(), Vec::new());
        let mut deferred: Vec<(usize, Failure)> = Vec::new();
        for (index, outcome) in open.iter().copied().zip(outcomes) {
            match outcome {
                Outcome::Delivered(_) => done.push((index, RecipientStatus::Delivered)),
                Outcome::Relayed(reply) => relayed.push(verdict(index, &reply)),
                Outcome::Stored(reply) => stored.push(verdict(index, &reply)),
                Outcome::Failed(failure) => failed.push(failure_verdict(index, &failure)),
                Outcome::Deferred(failure) => deferred.push((index, failure)),
            }
        }
        if let Some((_, failure)) = deferred.iter().find(|(_, f)| asks_for_less(&f.reply)) {
            queue.refused(failure.reply.to_string());
        } else if deferred.is_empty() {
            queue.succeeded();
        }
        let expired = self.is_expired(&message);
        if expired {
            let words = self.active.load().routing.words;
            failed.extend(deferred.drain(..).map(|(index, failure)| Verdict {
                index,
                reply: words.expired_after(&failure),
                remote: failure.remote,
            }));
        }
        let mut retry: Vec<usize> = deferred.iter().map(|(index, _)| *index).collect();
        let turn = self.turns.take(message.id).await;
        if !done.is_empty() {
            self.settle(&message, &done);
        }
        for (report, verdicts, status) in [
            (Report::Relayed, relayed, RecipientStatus::Delivered),
            (Report::Delivered, stored, RecipientStatus::Delivered),
            (Report::Failure, failed, RecipientStatus::Failed),
        ] {
            if !self.settle_with_report(&message, report, &verdicts, status).await {
                retry.extend(verdicts.iter().map(|v| v.index));
            }
        }
        if !retry.is_empty() {
            self.retry_later(queue, item, &message, &retry, deferred.first().map(|(_, f)| f));
        }
        drop(turn);
        message.release();
    }

    /// Settles recipients once their report, if one is wanted, is durable. False: it could not
    /// be stored, and nothing has changed.
    pub(super) async fn settle_with_report(
        self: &Arc<Self>,
        message: &Arc<QueuedMessage>,
        report: Report,
        verdicts: &[Verdict],
        status: RecipientStatus,
    ) -> bool {
        if verdicts.is_empty() {
            return true;
        }
        let changes: Vec<_> = verdicts.iter().map(|v| (v.index, status)).collect();
        let change = Self::changed_state(message, &changes);
        match self.notify(report, message, verdicts, vec![change]).await {
            Ok(()) => {
                if report == Report::Failure {
                    log_failures(message, verdicts);
                }
                self.forget_if_final(message);
                true
            }
            Err(error) => {
                tracing::error!(id = message.id.0, %error, "a delivery report could not be stored; the recipients stay queued");
                let back: Vec<_> = verdicts.iter().map(|v| (v.index, RecipientStatus::Pending)).collect();
                let _ = Self::changed_state(message, &back);
                false
            }
        }
    }

    fn retry_later(
        self: &Arc<Self>,
        queue: &Arc<DeliveryQueue>,
        mut item: Item,
        message: &Arc<QueuedMessage>,
        retry: &[usize],
        failure: Option<&Failure>,
    ) {
        let active = self.active.load();
        let transport = &active.routing.transport;
        let attempts = {
            let mut state = message.state();
            state.attempts += 1;
            if let Some(failure) = failure {
                state.last_error = Some(active.routing.words.deferral(failure).into());
            }
            state.attempts
        };
        // A connection that broke says nothing about the message, so the quick retries of a
        // failed connection come first.
        let broke = failure.is_some_and(|f| f.local);
        let delay = if broke && attempts <= transport.queue_glitch_retry_count {
            transport.queue_glitch_retry_interval.min(transport.message_retry_interval)
        } else {
            transport.message_retry_interval
        };
        self.save_state(message);
        self.evict(message);
        let all = message.state().recipients.len();
        let some = || retry.iter().map(|i| u16::try_from(*i).unwrap_or(u16::MAX)).collect();
        item.recipients = (retry.len() < all).then(some);
        item.retried_fresh = false;
        self.defer(queue, item, Instant::now() + delay);
    }

    /// Puts an item off; if its queue was replaced meanwhile, it is routed anew instead.
    pub(super) fn defer(self: &Arc<Self>, queue: &Arc<DeliveryQueue>, item: Item, at: Instant) {
        if let Err(item) = queue.defer(item, at) {
            self.reroute(item);
        }
    }

    /// Gives an item back as it was.
    pub(super) fn put_back(self: &Arc<Self>, queue: &Arc<DeliveryQueue>, item: Item) {
        if let Err(item) = queue.put_back(item) {
            self.reroute(item);
        }
    }

    /// Gives up an item that no connector may carry. A report has to be stored for that, so it
    /// happens in a task of its own.
    pub(super) fn fail_later(self: &Arc<Self>, item: Item, reply: Reply) {
        let queue = Arc::clone(self);
        let alive = self.shutdown.guard();
        tokio::spawn(async move {
            let open = item.claim();
            let verdicts: Vec<_> = open.iter().map(|index| verdict(*index, &reply)).collect();
            let message = Arc::clone(&item.message);
            let turn = queue.turns.take(message.id).await;
            let settled =
                queue.settle_with_report(&message, Report::Failure, &verdicts, RecipientStatus::Failed).await;
            drop(turn);
            message.release();
            drop(alive);
            if !settled {
                let pause = queue.active.load().routing.transport.message_retry_interval;
                tokio::select! {
                    () = tokio::time::sleep(pause) => queue.reroute(item),
                    () = queue.shutdown.wait() => {}
                }
            }
        });
    }

    fn is_expired(&self, message: &QueuedMessage) -> bool {
        message.age() >= self.active.load().routing.transport.message_expiration_timeout
    }
}

fn log_failures(message: &QueuedMessage, verdicts: &[Verdict]) {
    let Ok(meta) = message.meta() else { return };
    for v in verdicts {
        let recipient = meta.envelope.recipients.get(v.index).map_or("", |r| r.address.as_str());
        let remote = v.remote.as_ref().map_or("", |r| r.name.as_str());
        let (id, message_id, reply) = (message.id.0, &*meta.message_id, &*v.reply);
        tracing::warn!(id, message_id, recipient, remote, reply, "delivery failed");
    }
}

fn verdict(index: usize, reply: &Reply) -> Verdict {
    Verdict { index, reply: reply.to_string(), remote: None }
}

fn failure_verdict(index: usize, failure: &Failure) -> Verdict {
    Verdict { index, reply: failure.reply.to_string(), remote: failure.remote.clone() }
}

/// The next hop says that it has too much to do (exchange-edge.md 8.5).
fn asks_for_less(reply: &Reply) -> bool {
    reply.code == 421 || reply.enhanced == Some(EnhancedCode(4, 7, 500))
}
