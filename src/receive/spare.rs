//! Buffers that the sessions of one thread lend each other.
//!
//! A session needs its buffers from a command's arrival to the reply, and waits for most of its
//! life. So it gives them up before it waits, and the next one to wake on the same thread takes
//! them: thousands of sessions make do with a buffer a thread, and none asks the allocator.

use std::cell::Cell;

use bytes::BytesMut;

use super::session::{MAX_HELD, ROOM};

thread_local! {
    static INPUT: Cell<BytesMut> = Cell::new(BytesMut::new());
    static OUTPUT: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A buffer to read into, empty, perhaps without room.
pub(super) fn input() -> BytesMut {
    INPUT.take()
}

/// Gives back a buffer in which nothing is left to be read.
pub(super) fn give_input(buffer: BytesMut) {
    if buffer.capacity() <= ROOM {
        INPUT.set(buffer);
    }
}

/// A buffer for replies, empty, perhaps without room.
pub(super) fn output() -> Vec<u8> {
    OUTPUT.take()
}

/// Gives back a buffer whose replies are written.
pub(super) fn give_output(mut buffer: Vec<u8>) {
    if buffer.capacity() <= MAX_HELD {
        buffer.clear();
        OUTPUT.set(buffer);
    }
}
