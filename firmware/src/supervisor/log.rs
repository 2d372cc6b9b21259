//! What a child says: its last lines, bounded in number and length, with the time each came.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use futures_lite::io::BufReader;
use futures_lite::{AsyncBufReadExt, AsyncRead};

use crate::config::Timestamp;

const LINES: usize = 5000;
/// A longer line is cut.
const LINE_BYTES: usize = 4096;

/// One line of a child's standard output or standard error.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub struct LogLine {
    pub at: Timestamp,
    pub line: String,
}

/// The last lines of a child. Shared between the readers of its pipes and those who look.
#[derive(Debug, Default)]
pub struct Log {
    lines: Mutex<VecDeque<LogLine>>,
}

impl Log {
    pub fn push(&self, line: &str) {
        let mut end = line.len().min(LINE_BYTES);
        while !line.is_char_boundary(end) {
            end -= 1;
        }
        let line = LogLine { at: Timestamp::now(), line: line[..end].to_owned() };
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    /// The newest `count` lines, oldest first.
    pub fn tail(&self, count: usize) -> Vec<LogLine> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().skip(lines.len().saturating_sub(count)).cloned().collect()
    }

    /// Reads a pipe to its end. A line without an end is cut at the limit, so memory stays bounded.
    pub async fn follow(&self, pipe: impl AsyncRead + Unpin) {
        let mut reader = BufReader::new(pipe);
        let mut line: Vec<u8> = Vec::new();
        while let Ok(chunk) = reader.fill_buf().await {
            if chunk.is_empty() {
                break;
            }
            let end = chunk.iter().position(|byte| *byte == b'\n');
            let taken = end.map_or(chunk.len(), |at| at + 1);
            let room = LINE_BYTES.saturating_sub(line.len());
            let text = &chunk[..end.unwrap_or(chunk.len())];
            line.extend_from_slice(&text[..text.len().min(room)]);
            reader.consume(taken);
            if end.is_some() {
                self.push(&String::from_utf8_lossy(&line));
                line.clear();
            }
        }
        if !line.is_empty() {
            self.push(&String::from_utf8_lossy(&line));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(log: &Log) -> Vec<String> {
        log.tail(usize::MAX).into_iter().map(|line| line.line).collect()
    }

    #[test]
    fn lines_are_kept_in_order_and_bounded() {
        let log = Log::default();
        for number in 0..LINES + 5 {
            log.push(&number.to_string());
        }
        assert_eq!(text(&log).len(), LINES);
        let last = [LINES + 3, LINES + 4].map(|number| number.to_string());
        assert_eq!(log.tail(2).into_iter().map(|line| line.line).collect::<Vec<_>>(), last);
    }

    #[test]
    fn a_pipe_is_read_by_lines_however_long() {
        let log = Log::default();
        let long = "x".repeat(LINE_BYTES * 3);
        smol::block_on(log.follow(format!("one\n{long}\nlast").as_bytes()));
        assert_eq!(text(&log), ["one", &long[..LINE_BYTES], "last"]);
    }
}
