//! From one segment to the next.

use std::{
    io::IoSlice,
    sync::{Arc, mpsc},
};

use super::{
    SpoolError,
    disk::write_all_at,
    format::{self, DATA_START, Draft, Kind},
    helper::{Job, Prepared},
    writer::{Active, Writer},
};

/// The segment after the one in use. It is made ahead of time, so that no batch waits for it.
pub(super) enum Next {
    /// There is none; the last attempt failed.
    None,
    /// The helper is at it.
    Ordered(mpsc::Receiver<Result<Prepared, SpoolError>>),
    /// There it is.
    Ready(Prepared),
}

impl From<Result<Prepared, SpoolError>> for Next {
    fn from(result: Result<Prepared, SpoolError>) -> Self {
        result.map_or(Self::None, Self::Ready)
    }
}

impl Writer {
    /// Moves on to the next segment; everything in the current one must be synced. Without space
    /// the current one stays.
    pub(super) fn rotate(&mut self) -> Result<(), SpoolError> {
        self.rotate_to(Self::activate)
    }

    /// The same when nothing but a change has to find room: any little segment will do, since
    /// removals are what gives space back.
    pub(super) fn rotate_narrow(&mut self) -> Result<(), SpoolError> {
        self.rotate_to(Self::activate_narrow)
    }

    fn rotate_to(
        &mut self,
        activate: impl FnOnce(&mut Self) -> Result<(), SpoolError>,
    ) -> Result<(), SpoolError> {
        if self.dead {
            return Err(SpoolError::Poisoned);
        }
        let Some(old) = &self.active else { return activate(self) };
        let previous = std::mem::replace(&mut self.previous, (old.header.number, old.synced));
        let (file, written) = (Arc::clone(&old.file), old.written);
        match activate(self) {
            Ok(()) => {
                // Unused space goes back. Should this not reach the disk, nothing is lost.
                let _ = file.truncate(written);
                Ok(())
            }
            Err(error) => {
                self.previous = previous;
                Err(error)
            }
        }
    }

    /// Takes the prepared segment into use and orders the one after it.
    pub(super) fn activate(&mut self) -> Result<(), SpoolError> {
        let prepared = self.prepared()?;
        self.take_up(prepared)
    }

    /// Without space for a segment of the usual size, takes one of what space there is. It is for
    /// changes, and for records that have to move, not for mail.
    pub(super) fn activate_narrow(&mut self) -> Result<(), SpoolError> {
        match self.activate() {
            Err(SpoolError::Full) => {}
            result => return result,
        }
        if std::mem::replace(&mut self.attempted_narrow, true) {
            return Err(SpoolError::Full);
        }
        self.order_least(self.shared.options.spare().max(2 * DATA_START));
        let prepared = self.ordered()?;
        self.take_up(prepared)
    }

    fn take_up(&mut self, prepared: Prepared) -> Result<(), SpoolError> {
        let Prepared { header, file, size } = prepared;
        let mark = header.mark();
        let mut bytes = Vec::new();
        let meta = format::encode_previous(self.previous.0, self.previous.1);
        let draft = Draft {
            kind: Kind::Open,
            id: self.shared.ceiling(),
            changes: &[],
            meta: &meta,
            content: 0,
            content_crc: 0,
        };
        format::encode(&draft, &mark, DATA_START, &mut bytes);
        // A segment is not given up for this; the next attempt makes another one, and an unused
        // segment is deleted at the next start.
        write_all_at(&*file, &mut [IoSlice::new(&bytes)], DATA_START)
            .map_err(SpoolError::io("open a segment"))?;
        let end = DATA_START + bytes.len() as u64;
        self.shared.index().add_segment(header, Arc::clone(&file), end);
        self.active = Some(Active { header, mark, file, size, end, written: end, synced: DATA_START });
        self.order();
        Ok(())
    }

    /// Syncs the first record of a fresh segment: its reservation of ids.
    pub(super) fn sync_opening(&mut self) -> Result<(), SpoolError> {
        let Some(active) = &mut self.active else { return Ok(()) };
        active.file.sync().map_err(SpoolError::io("sync the first segment"))?;
        active.synced = active.written;
        Ok(())
    }

    /// Orders the next segment. Deletions that were sent to the helper before come first.
    pub(super) fn order(&mut self) {
        self.order_least(self.shared.options.segment_size);
    }

    fn order_least(&mut self, least: u64) {
        let (reply, receiver) = mpsc::channel();
        self.last_number += 1;
        self.shared.send(Job::Prepare { number: self.last_number, least, reply });
        self.next = Next::Ordered(receiver);
    }

    /// Sees whether the next segment has come, once a batch.
    pub(super) fn look_ahead(&mut self) {
        self.attempted = false;
        self.attempted_narrow = false;
        if let Next::Ordered(receiver) = &self.next
            && let Ok(result) = receiver.try_recv()
        {
            self.next = Next::from(result);
        }
    }

    /// There is no space for another segment.
    pub(super) fn is_tight(&self) -> bool {
        matches!(self.next, Next::None)
    }

    /// The next segment, waited for if need be.
    fn prepared(&mut self) -> Result<Prepared, SpoolError> {
        match std::mem::replace(&mut self.next, Next::None) {
            Next::Ready(prepared) => return Ok(prepared),
            Next::Ordered(receiver) => {
                if let Ok(Ok(prepared)) = receiver.recv() {
                    return Ok(prepared);
                }
            }
            Next::None => {}
        }
        // It may have failed for want of space that has come back since; one attempt a batch.
        if std::mem::replace(&mut self.attempted, true) {
            return Err(SpoolError::Full);
        }
        self.order();
        self.ordered()
    }

    /// Waits for what was ordered.
    fn ordered(&mut self) -> Result<Prepared, SpoolError> {
        match std::mem::replace(&mut self.next, Next::None) {
            Next::Ordered(receiver) => receiver.recv().unwrap_or(Err(SpoolError::Closed)),
            _ => Err(SpoolError::Closed),
        }
    }
}
