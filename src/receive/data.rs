//! DATA (RFC 5321 section 4.1.1.4) and BDAT (RFC 3030): the message itself, and the 250 that
//! promises it.

use std::sync::Arc;
use std::time::SystemTime;

use crate::message::{HeaderScanner, trace};
use crate::queue::spool::SpoolError;
use crate::queue::{Source, Submission};
use crate::smtp::BodyType;

use super::incoming::{Arrived, ContentLimits, Fed, Incoming, Opening};
use super::replies;
use super::session::{CONTENT_ROOM, Flow, Session};

/// What reading content came to.
enum Filled {
    /// There is input.
    Input,
    /// Content was read and taken in.
    Taken(Fed),
    Close,
}

impl Session {
    pub(super) async fn data(&mut self) -> std::io::Result<Flow> {
        if let Some(refusal) = self.not_ready_for_content() {
            return self.protocol_error(refusal.into()).await;
        }
        if self.needs_bdat() {
            return self.protocol_error(replies::BINARY_NEEDS_BDAT.into()).await;
        }
        self.reply(replies::START_INPUT);
        self.flush().await?;
        let mut incoming = Incoming::data(self.opening());
        loop {
            if !self.input.is_empty() {
                let fed = incoming.feed(&self.input, &self.server.queue).await;
                bytes::Buf::advance(&mut self.input, fed.consumed);
                if fed.done {
                    break;
                }
                if incoming.header_too_big() {
                    return Ok(self.close(replies::HEADER_TOO_BIG, "message header too large"));
                }
            }
            match self.more_content(&mut incoming, u64::MAX).await? {
                Filled::Taken(fed) if fed.done => break,
                Filled::Taken(_) if incoming.header_too_big() => {
                    return Ok(self.close(replies::HEADER_TOO_BIG, "message header too large"));
                }
                Filled::Input | Filled::Taken(_) => {}
                Filled::Close => return Ok(Flow::Close),
            }
        }
        self.end_of_message(incoming).await
    }

    /// Reads content, at most `limit` bytes of it: the beginning of a message to the session's
    /// input, the rest to where it stays.
    async fn more_content(&mut self, incoming: &mut Incoming, limit: u64) -> std::io::Result<Filled> {
        let flow = if incoming.in_bulk() {
            self.fill_content(incoming, limit).await?
        } else {
            self.fill(CONTENT_ROOM).await?
        };
        Ok(match flow {
            Flow::Close => Filled::Close,
            Flow::Continue if incoming.in_bulk() => {
                Filled::Taken(incoming.feed_read(&self.server.queue, &mut self.input).await)
            }
            Flow::Continue => Filled::Input,
        })
    }

    pub(super) async fn bdat(&mut self, size: u64, last: bool) -> std::io::Result<Flow> {
        let refusal = self.not_ready_for_content();
        let mut incoming = match (refusal, self.incoming.take()) {
            (Some(_), _) => None,
            (None, Some(running)) => Some(*running),
            (None, None) => Some(Incoming::bdat(self.opening(), self.needs_bdat())),
        };
        // The octets follow the command whatever the answer will be (RFC 3030 section 2).
        let mut left = size;
        while left > 0 {
            if self.input.is_empty() {
                let filled = match &mut incoming {
                    Some(incoming) => self.more_content(incoming, left).await?,
                    None if self.fill(CONTENT_ROOM).await? == Flow::Close => Filled::Close,
                    None => Filled::Input,
                };
                match filled {
                    Filled::Input => {}
                    Filled::Taken(fed) => left -= fed.consumed as u64,
                    Filled::Close => return Ok(Flow::Close),
                }
            }
            let take = self.input.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let piece = self.input.split_to(take);
            left -= take as u64;
            if let Some(incoming) = &mut incoming {
                incoming.feed(&piece, &self.server.queue).await;
                if incoming.header_too_big() {
                    return Ok(self.close(replies::HEADER_TOO_BIG, "message header too large"));
                }
            }
        }
        match (refusal, incoming) {
            (None, Some(incoming)) if last => self.end_of_message(incoming).await,
            (None, Some(incoming)) => {
                self.incoming = Some(Box::new(incoming));
                Ok(self.reply(&replies::chunk_received(size)))
            }
            (refusal, _) => self.protocol_error(refusal.unwrap_or(replies::BAD_SEQUENCE).into()).await,
        }
    }

    fn not_ready_for_content(&self) -> Option<&'static str> {
        match &self.transaction {
            _ if self.helo.is_none() => Some(replies::SEND_HELLO_FIRST),
            None => Some(replies::NEED_MAIL),
            Some(t) if t.envelope.recipients.is_empty() => Some(replies::NEED_RCPT),
            Some(_) => None,
        }
    }

    /// What is known when a message's content begins.
    fn opening(&self) -> Opening {
        let config = &self.connector.config;
        let date = crate::log::time::rfc5322(SystemTime::now());
        let received = trace::received(&trace::ReceivedFacts {
            helo: self.helo.as_deref().unwrap_or_default(),
            peer: self.peer.ip(),
            by: &config.fqdn,
            local: self.local.ip(),
            tls: self.tls.as_ref().map(|t| (t.facts.version.as_str(), t.facts.cipher)),
            profile: config.reply_profile,
            date: &date,
        });
        Opening {
            id: self.server.queue.next_id(),
            limits: ContentLimits { max_message_size: self.max_message_size(), bare: config.bare_line_feeds },
            scanner: HeaderScanner::new(Arc::clone(&self.connector.our_names), config.max_header_size),
            trace: received.into_bytes(),
            fqdn: config.fqdn.clone(),
            expected: self.transaction.as_ref().map_or(0, |t| t.announced),
        }
    }

    /// Judges a message that has arrived whole, and answers for it once it is on disk.
    async fn end_of_message(&mut self, incoming: Incoming) -> std::io::Result<Flow> {
        let Some(transaction) = self.transaction.take() else {
            return self.protocol_error(replies::NEED_MAIL.into()).await;
        };
        if let Some(flow) = self.fault_at_data(&transaction.envelope).await? {
            return Ok(flow);
        }
        if incoming.header_too_big() {
            return Ok(self.close(replies::HEADER_TOO_BIG, "message header too large"));
        }
        if incoming.too_big() {
            return self.refuse(replies::MESSAGE_TOO_BIG.into()).await;
        }
        if incoming.bare_refused() {
            return self.refuse(replies::BARE_LINE_FEEDS.into()).await;
        }
        let id = incoming.id;
        let arrived = match incoming.finish().await {
            Ok(arrived) => arrived,
            Err(error) => return Ok(self.not_stored(&error)),
        };
        if arrived.header.validation {
            self.note_validation();
        }
        let config = &self.connector.config;
        let local = config.max_local_hop_count;
        let looping = arrived.header.received as usize > config.max_hop_count
            || (local > 0 && arrived.header.received_by_us as usize > local);
        if looping {
            return self.refuse(replies::hop_count_exceeded(config.reply_profile).into()).await;
        }
        let Arrived { content, resident, facts, header, size, header_len, message_id } = arrived;
        let rate = self.eop.as_ref().map(|visit| visit.rate(size));
        let reply = replies::queued(config.reply_profile, &message_id, id.0, &config.fqdn, rate.as_deref());
        let mut envelope = transaction.envelope;
        if envelope.body == BodyType::SevenBit && facts.eight_bit {
            envelope.body = BodyType::EightBitMime;
        }
        let submitted = self
            .server
            .queue
            .submit(Submission {
                id,
                envelope,
                content,
                resident,
                facts,
                size,
                header_len,
                message_id,
                subject: header.subject.unwrap_or_default(),
                source: Source {
                    connector: config.name.as_str().into(),
                    peer: Some(self.peer.ip().to_canonical()),
                    helo: self.helo.clone().unwrap_or_default(),
                },
            })
            .await;
        if let Err(error) = submitted {
            return Ok(self.not_stored(&error));
        }
        self.messages += 1;
        self.bytes += size;
        Ok(self.reply(&reply))
    }

    /// Somebody validates a connector and will want to know what arrived. The sender proves nothing,
    /// so nothing depends on it.
    fn note_validation(&mut self) {
        self.validation = true;
        let tls = self.tls.as_ref().map(|tls| &tls.facts);
        let shown = tls.and_then(crate::tls::TlsFacts::peer_certificate);
        tracing::info!(
            connector = self.connector.config.name,
            peer = %self.peer,
            helo = self.helo.as_deref(),
            tls_version = tls.map_or("none", |tls| tls.version.as_str()),
            client_certificate = shown.as_ref().and_then(|leaf| leaf.first_name()),
            "a connector is being validated: its test message arrived"
        );
    }

    /// The message is not on disk: the client keeps it and tries again.
    fn not_stored(&mut self, error: &SpoolError) -> Flow {
        tracing::error!(%error, peer = %self.peer, "a message could not be stored; its client was told to retry");
        match error {
            SpoolError::Full => self.reply(replies::NO_RESOURCES),
            SpoolError::Closed => self.close(replies::SHUTTING_DOWN, "shutdown"),
            _ => self.reply(replies::STORAGE_FAILED),
        }
    }
}
