//! The second thread: everything slow that the committer must not wait for. It prepares the next
//! segment, gives big files their names, and deletes.

use std::{
    io,
    sync::{Arc, mpsc},
};

use bytes::Bytes;

use super::{
    Change, SpoolError,
    disk::{Area, Disk, DiskFile, write_all_at},
    format::SegmentHeader,
    names,
    request::{Body, Done, Request},
    shared::Shared,
    staged::StagedFile,
};

/// An empty segment: allocated, headed, synced, and its name durable.
pub(super) struct Prepared {
    pub(super) header: SegmentHeader,
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) size: u64,
}

pub(super) enum Job {
    /// Make a segment of this number, of the usual size, or else the largest there is space for
    /// that has `least` bytes.
    Prepare { number: u64, least: u64, reply: mpsc::Sender<Result<Prepared, SpoolError>> },
    /// Make a staged file durable under its final name, then hand its message to the committer.
    Land { staged: StagedFile, meta: Bytes, changes: Vec<Change>, done: Done },
    /// Delete the file of a big message whose removal is durable, or which was refused.
    DeleteBig(u64),
    /// Delete segments, oldest first.
    DeleteSegments(Vec<u64>),
    /// All work before this is done: the committer may end.
    EndCommitter,
    /// End.
    Stop,
}

pub(super) fn run(shared: &Shared, jobs: &mpsc::Receiver<Job>) {
    let _guard = Guard(shared);
    let mut landed = Vec::new();
    while let Ok(first) = jobs.recv() {
        // Big messages that wait together share one sync of their directory.
        let mut next = Some(first);
        while let Some(job) = next {
            match job {
                Job::Prepare { number, least, reply } => {
                    // The committer has gone when this fails.
                    let size = shared.options.segment_size;
                    let _ = reply.send(prepare_any(&*shared.disk, number, size, least));
                }
                Job::Land { staged, meta, changes, done } => {
                    let id = staged.id();
                    match staged.land() {
                        Ok((len, crc)) => landed.push((id, meta, Body::Big { len, crc }, changes, done)),
                        Err(error) => {
                            let _ = done.send(Err(error));
                        }
                    }
                }
                Job::DeleteBig(id) => delete(&*shared.disk, Area::Big, &names::big(id)),
                Job::DeleteSegments(numbers) => {
                    for number in numbers {
                        delete(&*shared.disk, Area::Log, &names::segment(number));
                        // A removal mark must never vanish before the message it kills, so the
                        // name of one segment is gone for good before the next one goes.
                        if let Err(error) = shared.disk.sync_dir(Area::Log) {
                            tracing::warn!(%error, "cannot sync the spool's directory");
                            break;
                        }
                    }
                }
                Job::EndCommitter => {
                    land(shared, &mut landed);
                    shared.inbox.end();
                }
                Job::Stop => return,
            }
            next = jobs.try_recv().ok();
        }
        land(shared, &mut landed);
    }
}

/// Should this thread fail, the committer must not wait for it for ever, nor anybody for the committer.
struct Guard<'a>(&'a Shared);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.give_up("the spool's helper has failed".into());
            self.0.inbox.end();
        }
    }
}

fn land(shared: &Shared, landed: &mut Vec<(u64, Bytes, Body, Vec<Change>, Done)>) {
    if landed.is_empty() {
        return;
    }
    let synced = shared.disk.sync_dir(Area::Big).map_err(SpoolError::io("sync directory of big files"));
    for (id, meta, body, changes, done) in landed.drain(..) {
        match &synced {
            Ok(()) => shared.inbox.push_late(Request::Message { id, meta, body, changes, done }),
            Err(error) => {
                delete(&*shared.disk, Area::Big, &names::big(id));
                let _ = done.send(Err(error.clone()));
            }
        }
    }
}

/// A file that cannot be deleted costs space until the next start, nothing else.
fn delete(disk: &dyn Disk, area: Area, name: &str) {
    if let Err(error) = disk.remove(area, name)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, name, "cannot delete a file of the spool");
    }
}

/// Halves the size until there is space.
fn prepare_any(disk: &dyn Disk, number: u64, mut size: u64, least: u64) -> Result<Prepared, SpoolError> {
    loop {
        match prepare(disk, number, size) {
            Err(SpoolError::Full) if size / 2 >= least => size /= 2,
            result => return result,
        }
    }
}

pub(super) fn prepare(disk: &dyn Disk, number: u64, size: u64) -> Result<Prepared, SpoolError> {
    let name = names::segment(number);
    // The random half of a version 4 UUID: nobody who sends mail can guess it.
    let header = SegmentHeader { number, nonce: uuid::Uuid::new_v4().as_u64_pair().1 };
    let make = || {
        let file = disk.create(Area::Log, &name)?;
        file.allocate(size)?;
        let bytes = header.encode();
        for copy in SegmentHeader::COPIES {
            write_all_at(&*file, &mut [io::IoSlice::new(&bytes)], copy)?;
        }
        file.sync()?;
        disk.sync_dir(Area::Log)?;
        Ok(file)
    };
    match make() {
        Ok(file) => Ok(Prepared { header, file, size }),
        Err(error) => {
            // Half an allocation would keep the space that is missing.
            delete(disk, Area::Log, &name);
            Err(SpoolError::io("prepare a segment")(error))
        }
    }
}
