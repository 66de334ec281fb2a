//! Giving space back.
//!
//! Only the oldest segment is ever deleted. That one rule makes removal marks safe: a mark stands
//! behind every record of the message it kills, so whatever a crash does, the mark outlives them
//! and no message rises from the dead. The price is that one held message would pin everything
//! behind it; so live records of the oldest segment are copied to the end of the log when that
//! frees enough.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    Place, SpoolError,
    disk::{DiskFile, read_exact_at},
    format::{HEAD, Head, SegmentHeader},
    helper::Job,
    index::{Index, Segment, Spot},
    request::{Body, Request},
    writer::Writer,
};

/// What one step may copy: little enough to ride along with a batch.
const STEP_BYTES: u64 = 1 << 20;
const STEP_RECORDS: usize = 256;

/// What is left to do after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rest {
    Nothing,
    /// The copies must be committed, then there may be more.
    More,
}

/// One step. Call it only when everything is committed: what is live then is live in the log too,
/// and a removal that comes later stands behind the copy.
pub(super) fn step(writer: &mut Writer) -> Rest {
    let resting = writer.rest_until.is_some_and(|until| Instant::now() < until);
    // A message of an earlier run that is not yet read may lie in the oldest segment.
    let whole = writer.shared.may_collect();
    if !whole || writer.dead || writer.has_unsynced() || resting {
        return Rest::Nothing;
    }
    let Some(active) = writer.active_number() else { return Rest::Nothing };
    let mut deleted = Vec::new();
    let picked = {
        let mut index = writer.shared.index();
        loop {
            let Some((&number, segment)) = index.segments.first_key_value() else { break None };
            if number >= active {
                break None;
            }
            if segment.live_records == 0 {
                index.remove_segment(number);
                deleted.push(number);
            } else if worth_moving(&index, segment, writer) {
                break Some((number, pick(&mut index, number)));
            } else {
                break None;
            }
        }
    };
    if !deleted.is_empty() {
        writer.shared.send(Job::DeleteSegments(deleted));
        if writer.is_tight() {
            writer.order();
        }
    }
    let Some((number, live)) = picked else { return Rest::Nothing };
    for what in live {
        copy(writer, number, what);
    }
    if writer.has_unsynced() { Rest::More } else { Rest::Nothing }
}

fn worth_moving(index: &Index, oldest: &Segment, writer: &Writer) -> bool {
    let options = &writer.shared.options;
    let dead = index.used_bytes - index.live_bytes;
    // What room there is must not be gone before the old segment is.
    if writer.narrow_room().is_some_and(|room| oldest.live_bytes.saturating_mul(2) > room) {
        return false;
    }
    // Nearly empty, or small enough for what is kept free for this, or old and not nearly full.
    oldest.live_bytes.saturating_mul(4) < options.segment_size
        || (writer.is_tight() && oldest.live_bytes.saturating_mul(5) < options.segment_size.saturating_mul(2))
        || (oldest.since.elapsed() > options.move_after
            && oldest.live_bytes.saturating_mul(4) < oldest.used.saturating_mul(3))
        // Full of live mail, but more dead than live mail waits behind it: what is copied is paid
        // for by at least as much that is freed.
        || dead > index.live_bytes.saturating_add(options.segment_size.saturating_mul(2))
}

/// What of a segment is to be copied.
enum Live {
    Message(u64, Spot),
    State(u64, Bytes),
}

fn pick(index: &mut Index, number: u64) -> Vec<Live> {
    let Index { messages, segments, .. } = index;
    let mut live = Vec::new();
    // A message is a candidate once for itself and once for each of its states.
    let mut seen = HashSet::new();
    let mut bytes = 0;
    let Some(segment) = segments.get_mut(&number) else { return live };
    while bytes < STEP_BYTES && live.len() < STEP_RECORDS {
        let Some(id) = segment.candidates.pop() else { break };
        let Some(entry) = messages.get(&id) else { continue };
        if !seen.insert(id) {
            continue;
        }
        if entry.spot.segment == number {
            bytes += HEAD as u64 + u64::from(entry.spot.meta) + entry.spot.inline();
            live.push(Live::Message(id, entry.spot));
        }
        if let Some(state) = entry.state.as_ref().filter(|state| state.segment == number) {
            bytes += (HEAD + state.bytes.len()) as u64;
            live.push(Live::State(id, state.bytes.clone()));
        }
    }
    live
}

fn copy(writer: &mut Writer, from: u64, what: Live) {
    match what {
        Live::State(id, state) => writer.place(Request::CopyState { id, from, state }),
        Live::Message(id, spot) => {
            let segment = writer.shared.index().segments.get(&from).map(|s| (s.file.clone(), s.header));
            let Some((file, header)) = segment else { return };
            match read(&*file, header, &spot) {
                Ok((meta, content)) => {
                    let body = if spot.big {
                        Body::Big { len: spot.content, crc: spot.content_crc }
                    } else {
                        // The CRC goes along, so that a damaged content stays known as damaged.
                        Body::Inline { pieces: vec![content], len: spot.content, crc: spot.content_crc }
                    };
                    writer.place(Request::Copy { id, from, meta, body });
                }
                Err(error) => {
                    // The segment stays until the message has left the spool in some other way.
                    tracing::error!(%error, id, segment = from, "cannot move a message of the spool");
                    writer.put_back(from, id, Duration::from_mins(1));
                }
            }
        }
    }
}

/// Meta data and inline content of a record, the meta data checked.
fn read(file: &dyn DiskFile, header: SegmentHeader, spot: &Spot) -> Result<(Bytes, Bytes), SpoolError> {
    let len = spot.content_offset() - spot.offset + spot.inline();
    let mut bytes = vec![0; usize::try_from(len).map_err(|_| SpoolError::TooLarge("record"))?];
    read_exact_at(file, &mut bytes, spot.offset).map_err(SpoolError::io("read a record to move"))?;
    let mut payload = Bytes::from(bytes);
    let head_bytes = payload.split_to(HEAD);
    let content = payload.split_off((spot.changes + spot.meta) as usize);
    let sound = head_bytes.first_chunk().is_some_and(|bytes| {
        Head::decode(bytes, &header.mark()).is_some_and(|head| {
            head.verify(bytes, &payload) && (head.changes, head.meta) == (spot.changes, spot.meta)
        })
    });
    if !sound {
        let place = Place::Segment { number: header.number, offset: spot.offset };
        return Err(SpoolError::Corrupt { what: "record to move", place });
    }
    Ok((payload.split_off(spot.changes as usize), content))
}
