//! A disk in memory that behaves as badly as a disk may: what was not synced is lost, kept or torn
//! by sectors when the power goes; a sync can fail, and then what it should have written may be
//! lost although later syncs succeed; space runs out.

use std::{
    collections::BTreeMap,
    io::{self, IoSlice},
    sync::{Arc, Condvar, Mutex},
};

use super::super::{
    disk::{Area, Disk, DiskFile},
    replay,
};

const SECTOR: usize = 512;

/// A stream of pseudo-random numbers, so that a failing case can be repeated.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}

#[derive(Clone)]
enum Op {
    Write(u64, Vec<u8>),
    Size(u64),
}

#[derive(Clone, Default)]
struct Contents {
    now: Vec<u8>,
    durable: Vec<u8>,
    /// Not yet synced.
    pending: Vec<Op>,
}

#[derive(Clone)]
enum Entry {
    Put(Area, String, usize),
    Remove(Area, String),
    Rename(Area, String, String),
}

impl Entry {
    fn area(&self) -> Area {
        match self {
            Self::Put(area, ..) | Self::Remove(area, _) | Self::Rename(area, ..) => *area,
        }
    }

    fn apply(&self, names: &mut BTreeMap<(Area, String), usize>) {
        match self {
            Self::Put(area, name, file) => {
                names.insert((*area, name.clone()), *file);
            }
            Self::Remove(area, name) => {
                names.remove(&(*area, name.clone()));
            }
            Self::Rename(area, from, to) => {
                if let Some(file) = names.remove(&(*area, from.clone())) {
                    names.insert((*area, to.clone()), file);
                }
            }
        }
    }
}

#[derive(Clone, Default)]
struct State {
    files: Vec<Contents>,
    now: BTreeMap<(Area, String), usize>,
    durable: BTreeMap<(Area, String), usize>,
    pending: Vec<Entry>,
    failing_syncs: u32,
    failing_reads: u32,
    failing_writes: u32,
    /// Bytes of all files together.
    capacity: Option<u64>,
    syncs: u64,
}

impl State {
    fn room(&self) -> u64 {
        let used: usize = self.now.values().map(|file| self.files[*file].now.len()).sum();
        self.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(used as u64))
    }
}

/// How many more operations whoever reads the log of earlier runs may do; none = any number.
#[derive(Default)]
struct Gate {
    left: Mutex<Option<u64>>,
    opened: Condvar,
}

impl Gate {
    fn pass(&self) {
        if std::thread::current().name() != Some(replay::NAME) {
            return;
        }
        let left = self.left.lock().unwrap();
        let mut left = self.opened.wait_while(left, |left| *left == Some(0)).unwrap();
        *left = left.map(|left| left - 1);
    }
}

#[derive(Clone, Default)]
pub(super) struct SimDisk(Arc<Mutex<State>>, Arc<Gate>);

impl SimDisk {
    pub(super) fn fail_syncs(&self, count: u32) {
        self.0.lock().unwrap().failing_syncs = count;
    }

    pub(super) fn fail_reads(&self, count: u32) {
        self.0.lock().unwrap().failing_reads = count;
    }

    pub(super) fn fail_writes(&self, count: u32) {
        self.0.lock().unwrap().failing_writes = count;
    }

    pub(super) fn set_capacity(&self, capacity: Option<u64>) {
        self.0.lock().unwrap().capacity = capacity;
    }

    /// Lets whoever reads the log of earlier runs do so many operations more, and holds it then.
    pub(super) fn hold_replay(&self, after: Option<u64>) {
        *self.1.left.lock().unwrap() = after;
        self.1.opened.notify_all();
    }

    pub(super) fn used(&self) -> u64 {
        let state = self.0.lock().unwrap();
        state.now.values().map(|file| state.files[*file].now.len() as u64).sum()
    }

    /// The disk as another process finds it when this one has been killed.
    pub(super) fn after_kill(&self) -> Self {
        let mut state = self.0.lock().unwrap().clone();
        state.failing_syncs = 0;
        state.failing_reads = 0;
        state.failing_writes = 0;
        Self(Arc::new(Mutex::new(state)), Arc::default())
    }

    /// The disk after the power has come back.
    pub(super) fn after_power_cut(&self, dice: &mut Dice) -> Self {
        let old = self.0.lock().unwrap().clone();
        let mut new = State { capacity: old.capacity, ..State::default() };
        let mut names = old.durable;
        for entry in &old.pending {
            if dice.roll(2) == 0 {
                entry.apply(&mut names);
            }
        }
        // What one machine does to all of its unsynced writes: lose them, keep them, or mix.
        let mood = dice.roll(4);
        for (name, file) in names {
            let contents = &old.files[file];
            let mut bytes = contents.durable.clone();
            for op in &contents.pending {
                match mood {
                    0 => {}
                    1 => apply(op, &mut bytes),
                    _ => tear(op, &mut bytes, dice),
                }
            }
            new.files.push(Contents { now: bytes.clone(), durable: bytes, ..Contents::default() });
            new.now.insert(name.clone(), new.files.len() - 1);
            new.durable.insert(name, new.files.len() - 1);
        }
        Self(Arc::new(Mutex::new(new)), Arc::default())
    }

    pub(super) fn bytes(&self, area: Area, name: &str) -> Vec<u8> {
        let state = self.0.lock().unwrap();
        state.files[state.now[&(area, name.to_string())]].now.clone()
    }

    pub(super) fn set_bytes(&self, area: Area, name: &str, bytes: Vec<u8>) {
        let mut state = self.0.lock().unwrap();
        let file = state.now[&(area, name.to_string())];
        state.files[file] = Contents { now: bytes.clone(), durable: bytes, ..Contents::default() };
    }

    pub(super) fn names(&self, area: Area) -> Vec<String> {
        self.list(area).unwrap()
    }
}

fn apply(op: &Op, bytes: &mut Vec<u8>) {
    match op {
        Op::Write(at, data) => {
            let at = *at as usize;
            if bytes.len() < at + data.len() {
                bytes.resize(at + data.len(), 0);
            }
            bytes[at..at + data.len()].copy_from_slice(data);
        }
        Op::Size(size) => bytes.resize(*size as usize, 0),
    }
}

fn tear(op: &Op, bytes: &mut Vec<u8>, dice: &mut Dice) {
    match op {
        Op::Size(_) => {
            if dice.roll(2) == 0 {
                apply(op, bytes);
            }
        }
        Op::Write(at, data) => {
            let mut from = 0;
            while from < data.len() {
                let to = ((*at as usize + from) / SECTOR * SECTOR + SECTOR - *at as usize).min(data.len());
                if dice.roll(2) == 0 {
                    apply(&Op::Write(at + from as u64, data[from..to].to_vec()), bytes);
                }
                from = to;
            }
        }
    }
}

impl Disk for SimDisk {
    fn list(&self, area: Area) -> io::Result<Vec<String>> {
        let state = self.0.lock().unwrap();
        Ok(state.now.keys().filter(|(a, _)| *a == area).map(|(_, name)| name.clone()).collect())
    }

    fn create(&self, area: Area, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.0.lock().unwrap();
        state.files.push(Contents::default());
        let file = state.files.len() - 1;
        state.now.insert((area, name.to_string()), file);
        state.pending.push(Entry::Put(area, name.to_string(), file));
        Ok(Arc::new(SimFile { disk: self.clone(), file }))
    }

    fn open(&self, area: Area, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let state = self.0.lock().unwrap();
        let file = *state.now.get(&(area, name.to_string())).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(SimFile { disk: self.clone(), file }))
    }

    fn remove(&self, area: Area, name: &str) -> io::Result<()> {
        self.1.pass();
        let mut state = self.0.lock().unwrap();
        state.now.remove(&(area, name.to_string())).ok_or(io::ErrorKind::NotFound)?;
        state.pending.push(Entry::Remove(area, name.to_string()));
        Ok(())
    }

    fn rename(&self, area: Area, from: &str, to: &str) -> io::Result<()> {
        self.1.pass();
        let mut state = self.0.lock().unwrap();
        let entry = Entry::Rename(area, from.to_string(), to.to_string());
        entry.apply(&mut state.now);
        state.pending.push(entry);
        Ok(())
    }

    fn sync_dir(&self, area: Area) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        let (done, rest) = std::mem::take(&mut state.pending).into_iter().partition(|e| e.area() == area);
        state.pending = rest;
        let done: Vec<Entry> = done;
        for entry in done {
            entry.apply(&mut state.durable);
        }
        Ok(())
    }
}

struct SimFile {
    disk: SimDisk,
    file: usize,
}

impl DiskFile for SimFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.disk.0.lock().unwrap().files[self.file].now.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.disk.1.pass();
        let mut state = self.disk.0.lock().unwrap();
        if state.failing_reads > 0 {
            state.failing_reads -= 1;
            return Err(io::Error::from_raw_os_error(5));
        }
        let bytes = state.files[self.file].now.get(offset as usize..).unwrap_or_default();
        let len = bytes.len().min(buffer.len());
        buffer[..len].copy_from_slice(&bytes[..len]);
        Ok(len)
    }

    fn write_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        self.disk.1.pass();
        let mut state = self.disk.0.lock().unwrap();
        if state.failing_writes > 0 {
            state.failing_writes -= 1;
            return Err(io::Error::from_raw_os_error(5));
        }
        let mut data: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        let room =
            state.room().saturating_add((state.files[self.file].now.len() as u64).saturating_sub(offset));
        data.truncate(room.min(usize::MAX as u64) as usize);
        // Now and then less is written than was asked for.
        if data.len() > 3000 && data.len().is_multiple_of(7) {
            data.truncate(data.len() / 2);
        }
        if data.is_empty() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let len = data.len();
        let op = Op::Write(offset, data);
        apply(&op, &mut state.files[self.file].now);
        state.files[self.file].pending.push(op);
        Ok(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.1.pass();
        let mut state = self.disk.0.lock().unwrap();
        state.syncs += 1;
        let fails = state.failing_syncs > 0;
        state.failing_syncs = state.failing_syncs.saturating_sub(1);
        let mut dice = Dice(state.syncs);
        let contents = &mut state.files[self.file];
        for op in std::mem::take(&mut contents.pending) {
            if fails {
                // Some of it has reached the disk and the kernel forgets that the rest has not:
                // it can be read until the power goes, and no later sync writes it.
                tear(&op, &mut contents.durable, &mut dice);
            } else {
                apply(&op, &mut contents.durable);
            }
        }
        if fails { Err(io::Error::from_raw_os_error(5)) } else { Ok(()) }
    }

    fn allocate(&self, size: u64) -> io::Result<()> {
        let mut state = self.disk.0.lock().unwrap();
        let len = state.files[self.file].now.len() as u64;
        if size > len {
            if size - len > state.room() {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let op = Op::Size(size);
            apply(&op, &mut state.files[self.file].now);
            state.files[self.file].pending.push(op);
        }
        Ok(())
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.disk.1.pass();
        let mut state = self.disk.0.lock().unwrap();
        let op = Op::Size(size);
        apply(&op, &mut state.files[self.file].now);
        state.files[self.file].pending.push(op);
        Ok(())
    }
}
