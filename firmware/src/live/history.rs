//! The dashboard's past: one slim tick a second, already serialised (contract/live.md §9.3). The newest 600,
//! which every new client is sent, lie ready; older ones are compressed, a minute at a time.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::DeflateEncoder;

/// Entries that a client is sent.
pub const SENT: usize = 600;
/// Entries that are compressed together.
const CHUNK: usize = 60;

/// A slim tick as JSON; `head` bytes of it stand before the part that needs `ids:read`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    json: Box<[u8]>,
    head: u32,
}

impl Entry {
    /// `head` is an object without its closing brace, `ids` the value of its last field, if there is one.
    pub fn new(mut head: Vec<u8>, ids: Option<&[u8]>) -> Self {
        let length = head.len() as u32;
        if let Some(ids) = ids {
            head.extend_from_slice(br#","ids":"#);
            head.extend_from_slice(ids);
        }
        head.push(b'}');
        Self { json: head.into_boxed_slice(), head: length }
    }
    /// The entry for a client, in pieces: with what needs `ids:read`, or without.
    pub fn pieces(&self, with_ids: bool) -> [&[u8]; 2] {
        if with_ids { [&self.json, b""] } else { [&self.json[..self.head as usize], b"}"] }
    }
}

/// Entries of a past minute, compressed.
#[derive(Debug)]
struct Chunk {
    packed: Box<[u8]>,
    /// Entries that count; fewer than were packed once the oldest are past the capacity.
    entries: usize,
}

/// The ring.
#[derive(Debug)]
pub struct History {
    capacity: usize,
    old: VecDeque<Chunk>,
    newest: VecDeque<Arc<Entry>>,
    old_entries: usize,
    bytes: usize,
}

impl History {
    /// `capacity` in entries, which are seconds.
    pub fn new(capacity: usize) -> Self {
        Self { capacity, old: VecDeque::new(), newest: VecDeque::new(), old_entries: 0, bytes: 0 }
    }
    pub fn push(&mut self, entry: Entry) {
        self.bytes += entry.json.len();
        self.newest.push_back(Arc::new(entry));
        if self.newest.len() >= SENT + CHUNK {
            self.pack();
        }
        self.trim();
    }
    /// A smaller capacity trims at once.
    pub fn set_capacity(&mut self, capacity: usize) {
        self.capacity = capacity;
        self.trim();
    }
    pub fn len(&self) -> usize {
        self.old_entries + self.newest.len()
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Bytes that the entries take as they are kept.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
    /// What a new client is sent: the newest entries, oldest first.
    pub fn sent(&self) -> Vec<Arc<Entry>> {
        self.newest.iter().skip(self.newest.len().saturating_sub(SENT)).cloned().collect()
    }

    fn pack(&mut self) {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
        for entry in self.newest.drain(..CHUNK) {
            self.bytes -= entry.json.len();
            // Writing into memory does not fail.
            let _ = encoder.write_all(&entry.head.to_le_bytes());
            let _ = encoder.write_all(&(entry.json.len() as u32).to_le_bytes());
            let _ = encoder.write_all(&entry.json);
        }
        let packed = encoder.finish().unwrap_or_default().into_boxed_slice();
        self.bytes += packed.len();
        self.old_entries += CHUNK;
        self.old.push_back(Chunk { packed, entries: CHUNK });
    }

    fn trim(&mut self) {
        while self.len() > self.capacity {
            let excess = self.len() - self.capacity;
            match self.old.front_mut() {
                Some(chunk) if chunk.entries > excess => {
                    chunk.entries -= excess;
                    self.old_entries -= excess;
                }
                Some(_) => {
                    if let Some(chunk) = self.old.pop_front() {
                        self.old_entries -= chunk.entries;
                        self.bytes -= chunk.packed.len();
                    }
                }
                None => match self.newest.pop_front() {
                    Some(entry) => self.bytes -= entry.json.len(),
                    None => return,
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    fn entry(n: usize) -> Entry {
        Entry::new(format!(r#"{{"type":"status_update","n":{n}"#).into_bytes(), Some(b"{}"))
    }
    fn text(entry: &Entry, with_ids: bool) -> String {
        String::from_utf8(entry.pieces(with_ids).concat()).unwrap()
    }

    #[test]
    fn the_newest_600_are_sent_oldest_first() {
        let mut history = History::new(1800);
        (0..1000).for_each(|n| history.push(entry(n)));
        let sent = history.sent();
        assert_eq!((history.len(), sent.len()), (1000, 600));
        assert_eq!(text(&sent[0], true), r#"{"type":"status_update","n":400,"ids":{}}"#);
        assert_eq!(text(&sent[599], false), r#"{"type":"status_update","n":999}"#);
    }

    #[test]
    fn the_capacity_is_exact_and_shrinking_trims_at_once() {
        let mut history = History::new(1800);
        for n in 0..4000 {
            history.push(entry(n));
            assert_eq!(history.len(), (n + 1).min(1800));
        }
        history.set_capacity(1000);
        assert_eq!(history.len(), 1000);
        history.set_capacity(300);
        assert_eq!((history.len(), history.sent().len()), (300, 300));
        assert_eq!(text(&history.sent()[299], false), r#"{"type":"status_update","n":3999}"#);
        let bytes: usize = history.sent().iter().map(|entry| entry.json.len()).sum();
        assert_eq!(history.bytes(), bytes);
    }

    #[test]
    fn old_entries_are_small() {
        let mut history = History::new(100_000);
        let long = "x".repeat(2000);
        for n in 0..6000 {
            history.push(Entry::new(format!(r#"{{"n":{n},"filler":"{long}""#).into_bytes(), None));
        }
        assert_eq!(history.len(), 6000);
        assert!(history.bytes() < 660 * 2100 + 200_000, "{}", history.bytes());
    }
}
