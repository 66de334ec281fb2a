//! Delivery status notifications about messages in the queue: who is told, and that the report
//! is durable before a recipient counts as given up (RFC 3461, exchange-edge.md 9.6).

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use uuid::Uuid;

use crate::log::time::rfc5322;
use crate::send::RemoteMta;
use crate::smtp::ContentScanner;

use super::delivery::Item;
use super::dsn::{self, Dsn, DsnKind, DsnRequest, RecipientReport, RemoteServer};
use super::manager::{Queue, now_ms};
use super::message::{MessageMeta, QueuedMessage, Source};
use super::spool::{Change, Content, SpoolError};

/// What is to be said of one recipient.
#[derive(Debug, Clone)]
pub(super) struct Verdict {
    /// Index into the envelope.
    pub(super) index: usize,
    /// The reply that decided, as one line.
    pub(super) reply: String,
    /// Who gave it; none = we did.
    pub(super) remote: Option<RemoteMta>,
}

/// Which notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Report {
    Failure,
    Delay,
    Delivered,
    Relayed,
}

impl Queue {
    /// Makes a notification durable, together with `also`, and sends it on its way. Without
    /// anybody to tell, only `also` is written, lazily.
    pub(super) async fn notify(
        self: &Arc<Self>,
        report: Report,
        message: &Arc<QueuedMessage>,
        verdicts: &[Verdict],
        also: Vec<Change>,
    ) -> Result<(), SpoolError> {
        let Some(dsn) = self.build_report(report, message, verdicts).await? else {
            for change in also {
                self.spool.apply(change);
            }
            return Ok(());
        };
        let mut scanner = ContentScanner::new();
        for piece in &dsn.content {
            scanner.feed(piece);
        }
        let id = self.next_id();
        let meta = MessageMeta {
            network_message_id: *Uuid::new_v4().as_bytes(),
            received_ms: now_ms(),
            size: dsn.content.iter().map(|piece| piece.len() as u64).sum(),
            header_len: dsn.content.first().map_or(0, Bytes::len) as u32,
            message_id: dsn.message_id.into(),
            subject: dsn.subject.into(),
            source: Source { connector: "DSN".into(), peer: None, helo: "".into() },
            facts: scanner.facts(),
            envelope: dsn.envelope,
        };
        let content = Content::Memory(dsn.content.clone());
        let message = self.store(id, &meta, content, Some(dsn.content), also).await?;
        self.route(Item { message, recipients: None, retried_fresh: false }, &meta);
        Ok(())
    }

    async fn build_report(
        &self,
        report: Report,
        message: &Arc<QueuedMessage>,
        verdicts: &[Verdict],
    ) -> Result<Option<Dsn>, SpoolError> {
        let active = self.active.load_full();
        let (transport, meta) = (&active.routing.transport, message.meta()?);
        let now = SystemTime::now();
        let expires = message.received() + transport.message_expiration_timeout;
        let (date, until) = (rfc5322(now), rfc5322(expires));
        let kind = match report {
            Report::Failure => DsnKind::Failure,
            Report::Delay => {
                DsnKind::Delay { until: &until, remaining: expires.duration_since(now).unwrap_or_default() }
            }
            Report::Delivered => DsnKind::Delivered,
            Report::Relayed => DsnKind::Relayed,
        };
        let recipients: Vec<RecipientReport<'_>> = verdicts
            .iter()
            .map(|v| RecipientReport {
                recipient: &meta.envelope.recipients[v.index],
                reply: &v.reply,
                remote: v.remote.as_ref().map(|r| RemoteServer { name: &r.name, ip: r.ip }),
                last_attempt: Some(&date),
            })
            .collect();
        if !dsn::wanted(&meta.envelope, kind, &recipients) {
            return Ok(None);
        }
        let whole = dsn::needs_whole_message(&meta.envelope, kind, meta.size);
        let wanted = if whole { meta.size as usize } else { meta.header_len as usize };
        // A message that cannot be read back would otherwise never be given up: its sender hears of
        // it all the same, without the original.
        let (front, whole) = match self.front(message, wanted).await {
            Ok(front) => (front, whole),
            Err(error) => {
                tracing::error!(id = message.id.0, %error, "a report goes out without the message it is about");
                (Vec::new(), false)
            }
        };
        let content = [Bytes::from(front)];
        let arrival = rfc5322(UNIX_EPOCH + Duration::from_millis(meta.received_ms));
        Ok(dsn::build(&DsnRequest {
            kind,
            original: &meta.envelope,
            content: &content,
            content_is_whole: whole,
            recipients: &recipients,
            arrival: &arrival,
            received_from: Some(&*meta.source.helo).filter(|name| !name.is_empty()),
            generating_server: &active.routing.hostname,
            postmaster: &active.routing.postmaster,
            date: &date,
            id: Uuid::new_v4(),
        }))
    }

    /// The first `limit` bytes of a message, from memory or, off the runtime's threads, from disk.
    pub(super) async fn front(&self, message: &QueuedMessage, limit: usize) -> Result<Vec<u8>, SpoolError> {
        let mut front = Vec::new();
        if let Some(pieces) = message.resident() {
            for piece in pieces {
                let room = limit - front.len();
                front.extend_from_slice(&piece[..piece.len().min(room)]);
            }
            return Ok(front);
        }
        let stored = self.spool.content(message.id).ok_or(SpoolError::Gone(message.id))?;
        let read = move || {
            let mut reader = stored.open_reader()?;
            while front.len() < limit
                && let Some(chunk) = reader.next_chunk(limit - front.len())?
            {
                front.extend_from_slice(&chunk);
            }
            Ok(front)
        };
        tokio::task::spawn_blocking(read).await.unwrap_or(Err(SpoolError::Closed))
    }
}
