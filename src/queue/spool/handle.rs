//! The spool as its users see it.

use std::{
    fs::File,
    path::Path,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread::{self, JoinHandle},
};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::{
    Change, Content, MessageId, Recovery, SpoolError, SpoolOptions, StagedFile, StoredContent, committer,
    disk::{Disk, RealDisk},
    format::{self, MAX_INLINE, MAX_PAYLOAD},
    helper::{self, Job},
    index::Index,
    lock,
    recover::{self, Opened},
    replay,
    request::{Body, Request},
    shared::Shared,
    writer::Writer,
};

/// The durable store. Clones are handles to the same one; it closes with the last of them.
#[derive(Clone)]
pub struct Spool(Arc<Handle>);

struct Handle {
    shared: Arc<Shared>,
    threads: Mutex<Option<Threads>>,
}

struct Threads {
    committer: JoinHandle<()>,
    helper: JoinHandle<()>,
    replay: JoinHandle<()>,
    /// Let go of when all have ended.
    lock: Option<File>,
}

impl Spool {
    /// Opens the spool in `dir`, made when it does not exist. Blocks while the end of the log is
    /// read. The rest of it is read while the spool is in use.
    pub fn open(dir: &Path, options: SpoolOptions) -> Result<(Self, Recovery), SpoolError> {
        let disk = RealDisk::prepare(dir).map_err(SpoolError::io("make the spool directory"))?;
        let lock = lock::acquire(dir)?;
        Self::open_on(Arc::new(disk), options, Some(lock))
    }

    pub(super) fn open_on(
        disk: Arc<dyn Disk>,
        options: SpoolOptions,
        lock: Option<File>,
    ) -> Result<(Self, Recovery), SpoolError> {
        let Opened { next_id, last_number, previous, unread } = recover::begin(&*disk)?;
        let (jobs, job_list) = mpsc::channel();
        let index = Index { unread_bytes: unread.bytes, ..Index::default() };
        let shared = Arc::new(Shared::new(disk, options.bounded(), index, next_id, jobs));
        let helper = spawn("spool-helper", {
            let shared = Arc::clone(&shared);
            move || helper::run(&shared, &job_list)
        })?;
        let mut writer = Writer::new(Arc::clone(&shared), last_number, previous);
        // The ids of this run are reserved before anybody can ask for one. Without space that has
        // to wait: the spool must open so that mail can leave it.
        match writer.activate_narrow().and_then(|()| writer.sync_opening()) {
            Ok(()) => {}
            Err(SpoolError::Full) => tracing::warn!("the spool's disk is full"),
            Err(error) => {
                shared.send(Job::Stop);
                let _ = helper.join();
                return Err(error);
            }
        }
        let committer = spawn("spool-committer", {
            let shared = Arc::clone(&shared);
            move || committer::run(&shared, writer)
        })?;
        let (hand, handed) = tokio::sync::mpsc::unbounded_channel();
        let segments = (unread.segments.len() + unread.tail.len()) as u64;
        let recovery = Recovery { handed, segments, bytes: unread.bytes };
        let replay = spawn(replay::NAME, {
            let shared = Arc::clone(&shared);
            move || replay::run(&shared, unread, &hand)
        })?;
        let threads = Mutex::new(Some(Threads { committer, helper, replay, lock }));
        Ok((Self(Arc::new(Handle { shared, threads })), recovery))
    }

    /// The id of the next message. Never blocks.
    pub fn next_id(&self) -> MessageId {
        MessageId(self.0.shared.next_id())
    }

    /// A file to stream a big message into. Blocks for a moment on the file system.
    pub fn stage(&self, id: MessageId) -> Result<StagedFile, SpoolError> {
        self.ready()?;
        StagedFile::create(Arc::clone(&self.0.shared.disk), id)
    }

    /// Stores a message. The work is under way when this returns; the future resolves once message,
    /// changes and all directory entries are durable. The changes hold if and only if the message
    /// does. `id` comes from [`Spool::next_id`] and is used once; a staged file keeps its own.
    ///
    /// Changes to this message may be applied once the future has resolved, and to a message of an
    /// earlier run once it was handed over.
    pub fn append(
        &self,
        id: MessageId,
        meta: Bytes,
        content: Content,
        also: Vec<Change>,
    ) -> impl Future<Output = Result<(), SpoolError>> + Send + 'static + use<> {
        let shared = &self.0.shared;
        let (done, answer) = oneshot::channel();
        let (id, len) = match &content {
            Content::Memory(pieces) => (id.0, pieces.iter().map(|piece| piece.len() as u64).sum()),
            Content::Staged(staged) => (staged.id(), staged.len()),
        };
        let fits = match &content {
            Content::Memory(_) if len > MAX_INLINE => Err(SpoolError::TooLarge("content in memory")),
            _ if format::changes_len(&also) + meta.len() as u64 > MAX_PAYLOAD => {
                Err(SpoolError::TooLarge("meta data"))
            }
            _ => self.ready(),
        };
        match (fits, content) {
            (Err(error), _) => {
                let _ = done.send(Err(error));
            }
            (Ok(()), Content::Memory(pieces)) => {
                let body = Body::inline(pieces);
                shared.inbox.push(Request::Message { id, meta, body, changes: also, done });
            }
            (Ok(()), Content::Staged(staged)) => {
                shared.send(Job::Land { staged, meta, changes: also, done });
            }
        }
        async move { answer.await.unwrap_or(Err(SpoolError::Closed)) }
    }

    /// Changes a message without waiting; see the module for when that is durable. After
    /// [`Spool::close`] or on a broken disk the change is lost, and the message comes back at the
    /// next start.
    pub fn apply(&self, change: Change) {
        if self.ready().is_ok() {
            self.0.shared.inbox.push(Request::Change { change, done: None });
        }
    }

    /// Changes a message; resolves once that is durable.
    pub fn apply_durable(
        &self,
        change: Change,
    ) -> impl Future<Output = Result<(), SpoolError>> + Send + 'static + use<> {
        let (done, answer) = oneshot::channel();
        match self.ready() {
            Ok(()) => self.0.shared.inbox.push(Request::Change { change, done: Some(done) }),
            Err(error) => {
                let _ = done.send(Err(error));
            }
        }
        async move { answer.await.unwrap_or(Err(SpoolError::Closed)) }
    }

    /// The content of a message that is in the spool.
    pub fn content(&self, id: MessageId) -> Option<StoredContent> {
        let len = self.0.shared.index().messages.get(&id.0)?.spot.content;
        Some(StoredContent::new(Arc::clone(&self.0.shared), id.0, len))
    }

    /// A handle to a content of `len` bytes. Whether there is one shows when it is read.
    pub fn stored(&self, id: MessageId, len: u64) -> StoredContent {
        StoredContent::new(Arc::clone(&self.0.shared), id.0, len)
    }

    /// Messages in the spool, as far as they are durable and read.
    pub fn messages(&self) -> usize {
        self.0.shared.index().messages.len()
    }

    /// Bytes of disk in use: segments, dead records and those not yet read included, and big files.
    pub fn used_bytes(&self) -> u64 {
        let index = self.0.shared.index();
        index.used_bytes + index.big_bytes + index.unread_bytes
    }

    /// Whether the spool takes mail; if not, why.
    pub fn healthy(&self) -> Result<(), String> {
        match self.0.shared.sick() {
            Some(why) => Err(why.to_string()),
            None if self.0.shared.inbox.is_closed() => Err(SpoolError::Closed.to_string()),
            None => Ok(()),
        }
    }

    /// Makes everything durable that was handed over, and ends. Blocks; call it off the runtime.
    /// Contents can still be read.
    pub fn close(&self) {
        self.0.close();
    }

    fn ready(&self) -> Result<(), SpoolError> {
        if self.0.shared.broken().is_some() { Err(SpoolError::Poisoned) } else { Ok(()) }
    }
}

impl Handle {
    fn close(&self) {
        self.shared.inbox.close();
        let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(threads) = threads else { return };
        // It sees that the spool is closed. What it has not handed over is there for the next start.
        let _ = threads.replay.join();
        // Big messages on their way get there first, then the committer has its last batch, then
        // the helper deletes what that has made superfluous.
        self.shared.send(Job::EndCommitter);
        let _ = threads.committer.join();
        self.shared.send(Job::Stop);
        let _ = threads.helper.join();
        drop(threads.lock);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.close();
    }
}

impl std::fmt::Debug for Spool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spool").field("messages", &self.messages()).finish_non_exhaustive()
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, SpoolError> {
    thread::Builder::new().name(name.into()).spawn(work).map_err(SpoolError::io("start a thread"))
}
