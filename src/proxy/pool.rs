//! Buffers of messages, kept by each thread for the next one.
//!
//! A connection has buffers only while a message is on its way: what idle connections would
//! keep is what the busy ones use.

use std::cell::RefCell;

/// A buffer with more room than this is given back to the system.
pub(super) const LARGEST: usize = 1024 * 1024;

/// How many a thread keeps.
const MOST: usize = 64;

/// How much memory the kept ones of a thread may have in all.
const MOST_BYTES: usize = 8 * LARGEST;

thread_local! {
    static KEPT: RefCell<Kept> = const { RefCell::new(Kept { buffers: Vec::new(), bytes: 0 }) };
}

struct Kept {
    buffers: Vec<Vec<u8>>,
    /// The room of all of them.
    bytes: usize,
}

/// An empty buffer.
pub(super) fn take() -> Vec<u8> {
    KEPT.with_borrow_mut(|kept| {
        let buffer = kept.buffers.pop().unwrap_or_default();
        kept.bytes -= buffer.capacity();
        buffer
    })
}

/// Gives `buffer` room, if it has none, for what will be written to it.
pub(super) fn lend(buffer: &mut Vec<u8>) {
    if buffer.capacity() == 0 {
        *buffer = take();
    }
}

/// Gives back a buffer whose content is no longer needed: to the thread, or to the system if it
/// has more than `largest` bytes of room or there are enough.
pub(super) fn give(buffer: &mut Vec<u8>, largest: usize) {
    let mut buffer = std::mem::take(buffer);
    let room = buffer.capacity();
    if room == 0 || room > largest {
        return;
    }
    buffer.clear();
    KEPT.with_borrow_mut(|kept| {
        if kept.buffers.len() < MOST && kept.bytes + room <= MOST_BYTES {
            kept.bytes += room;
            kept.buffers.push(buffer);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept() -> (usize, usize) {
        KEPT.with_borrow(|kept| (kept.buffers.len(), kept.bytes))
    }

    #[test]
    fn a_buffer_is_used_again_and_a_huge_one_is_not() {
        let mut buffer = Vec::with_capacity(1000);
        buffer.extend_from_slice(b"text");
        let room = buffer.capacity();
        give(&mut buffer, LARGEST);
        assert_eq!((buffer.capacity(), kept()), (0, (1, room)));
        let again = take();
        assert!(again.is_empty());
        assert_eq!((again.capacity(), kept()), (room, (0, 0)));
        give(&mut Vec::with_capacity(LARGEST + 1), LARGEST);
        give(&mut Vec::with_capacity(2000), 1000);
        give(&mut Vec::new(), LARGEST);
        assert_eq!(kept(), (0, 0));
    }

    #[test]
    fn a_thread_keeps_no_more_than_so_many_and_so_much() {
        for _ in 0..2 * MOST {
            give(&mut Vec::with_capacity(10), LARGEST);
        }
        assert_eq!(kept().0, MOST);
        while kept().0 > 0 {
            take();
        }
        for _ in 0..MOST {
            give(&mut Vec::with_capacity(LARGEST), LARGEST);
        }
        assert_eq!(kept(), (8, MOST_BYTES));
    }
}
