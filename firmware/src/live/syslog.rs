//! The system log as `/logs` shows it: what this process logs, kept in a ring, and the tail of syslogd(8)'s file.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use log::{Log, Metadata, Record};

use super::sources::{SystemLine, SystemLog};
use crate::config::Timestamp;

/// Lines of this process that are kept.
const RING: usize = 1000;
/// Longest line that is kept whole, in bytes.
const LINE: usize = 2000;
/// How much of the end of a log file is looked at, in bytes.
const TAIL: u64 = 1024 * 1024;

static OF_THIS_PROCESS: OnceLock<Arc<LogRing>> = OnceLock::new();

/// Keeps what this process logs, and hands it on to the logger that prints it.
pub struct LogRing {
    lines: Mutex<VecDeque<SystemLine>>,
    printer: Box<dyn Log>,
}

impl LogRing {
    pub fn new(printer: Box<dyn Log>) -> Self {
        Self { lines: Mutex::default(), printer }
    }
    /// Makes it the logger of this process. Done once, at start.
    pub fn install(self, level: log::LevelFilter) -> Result<(), log::SetLoggerError> {
        let ring = Arc::new(self);
        log::set_boxed_logger(Box::new(Installed(ring.clone())))?;
        log::set_max_level(level);
        // Nobody else can have set it: a logger is installed once.
        let _ = OF_THIS_PROCESS.set(ring);
        Ok(())
    }
    /// The ring that is installed, if one is.
    pub fn of_this_process() -> Option<Arc<Self>> {
        OF_THIS_PROCESS.get().cloned()
    }
    fn take(&self, record: &Record) {
        if !self.printer.enabled(record.metadata()) {
            return;
        }
        let mut text = format!("{}: {}", record.level().as_str().to_ascii_lowercase(), record.args());
        if text.len() > LINE {
            text.truncate(text.floor_char_boundary(LINE));
        }
        let line = SystemLine { at: Timestamp::now(), program: "aifw".into(), text };
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() >= RING {
            lines.pop_front();
        }
        lines.push_back(line);
    }
}

/// Whether a line would be one of the bytes that a library sends and receives: keys are among them, so it is kept from
/// every log, however talkative that is to be.
fn shows_traffic(metadata: &Metadata) -> bool {
    metadata.level() == log::Level::Trace && metadata.target().starts_with("ureq_proto")
}

/// The ring as the logger of the process.
struct Installed(Arc<LogRing>);

impl Log for Installed {
    fn enabled(&self, metadata: &Metadata) -> bool {
        !shows_traffic(metadata) && self.0.printer.enabled(metadata)
    }
    fn log(&self, record: &Record) {
        if shows_traffic(record.metadata()) {
            return;
        }
        self.0.take(record);
        self.0.printer.log(record);
    }
    fn flush(&self) {
        self.0.printer.flush();
    }
}

impl SystemLog for LogRing {
    fn tail(&self, most: usize) -> Vec<SystemLine> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().rev().take(most).cloned().collect()
    }
}

/// A file that syslogd(8) writes: `/var/log/messages`.
#[derive(Debug, Clone)]
pub struct LogFile {
    path: PathBuf,
}

impl LogFile {
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }
    fn end_of_file(&self) -> std::io::Result<Vec<u8>> {
        let mut file = File::open(&self.path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
        let mut end = Vec::new();
        file.take(TAIL).read_to_end(&mut end)?;
        Ok(end)
    }
}

impl SystemLog for LogFile {
    fn tail(&self, most: usize) -> Vec<SystemLine> {
        // No file, no lines: there may be no syslogd.
        let Ok(end) = self.end_of_file() else { return Vec::new() };
        let (now, zone) = (Timestamp::now(), TimeZone::system());
        String::from_utf8_lossy(&end)
            .lines()
            .rev()
            .filter_map(|line| parse(line, now, &zone))
            .take(most)
            .collect()
    }
}

/// Several logs as one.
#[derive(Clone, Default)]
pub struct Merged(pub Vec<Arc<dyn SystemLog>>);

impl SystemLog for Merged {
    fn tail(&self, most: usize) -> Vec<SystemLine> {
        let mut lines: Vec<SystemLine> = self.0.iter().flat_map(|log| log.tail(most)).collect();
        lines.sort_by_key(|line| std::cmp::Reverse(line.at));
        lines.truncate(most);
        lines
    }
}

/// A line as syslogd(8) writes it, in the form of RFC 3164 (`Nov 23 21:44:22 host program[pid]: text`, local time,
/// no year) or of RFC 5424 (`<13>1 2026-11-23T21:44:22Z host program pid - - text`).
fn parse(line: &str, now: Timestamp, zone: &TimeZone) -> Option<SystemLine> {
    let after_priority = line.strip_prefix('<').and_then(|rest| rest.split_once(">1 ")).map(|(_, rest)| rest);
    if let Some(rest) = after_priority {
        let mut words = rest.splitn(7, ' ');
        let at = words.next()?.parse().ok()?;
        let program = words.nth(1)?.to_owned();
        let text = words.nth(3)?.to_owned();
        return Some(SystemLine { at, program, text });
    }
    let (time, rest) = line.split_at_checked(15)?;
    let at = local_time(time, now, zone)?;
    let (_host, rest) = rest.strip_prefix(' ')?.split_once(' ')?;
    let (tag, text) = rest.split_once(": ").or_else(|| rest.split_once(':'))?;
    let program = tag.split('[').next().unwrap_or(tag).to_owned();
    Some(SystemLine { at, program, text: text.to_owned() })
}

/// `Nov 23 21:44:22`: the newest such moment that is not (by more than a day) in the future.
fn local_time(text: &str, now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = MONTHS.iter().position(|name| text.starts_with(name))? as i8 + 1;
    let day: i8 = text.get(4..6)?.trim().parse().ok()?;
    let mut clock = text.get(7..15)?.split(':').map(|part| part.parse::<i8>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    let year = now.to_zoned(zone.clone()).year();
    [year, year - 1].into_iter().find_map(|year| {
        let civil = DateTime::new(year, month, day, hour, minute, second, 0).ok()?;
        let at = civil.to_zoned(zone.clone()).ok()?.timestamp();
        (at.as_second() <= now.as_second() + 86_400).then_some(at)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn now() -> Timestamp {
        "2026-01-02T10:00:00Z".parse().unwrap()
    }

    #[test]
    fn lines_of_syslogd_are_read_in_both_forms() {
        let line =
            parse("Jan  2 09:15:07 aifw sshd[812]: Server listening on :: port 22.", now(), &TimeZone::UTC);
        assert_eq!(
            line.unwrap(),
            SystemLine {
                at: "2026-01-02T09:15:07Z".parse().unwrap(),
                program: "sshd".into(),
                text: "Server listening on :: port 22.".into()
            }
        );
        // December of last year, and a line of the kernel, which has no pid.
        let line =
            parse("Dec 31 23:59:59 aifw kernel: pflog0: promiscuous mode enabled", now(), &TimeZone::UTC);
        let line = line.unwrap();
        assert_eq!((line.at.to_string().as_str(), line.program.as_str()), ("2025-12-31T23:59:59Z", "kernel"));
        let line =
            parse("<13>1 2026-01-02T09:15:07.25Z aifw rdnsd 77 - - zone loaded: ok", now(), &TimeZone::UTC);
        let line = line.unwrap();
        assert_eq!((line.program.as_str(), line.text.as_str()), ("rdnsd", "zone loaded: ok"));
        for odd in [
            "",
            "last message repeated 3 times",
            "Xyz 12 10:00:00 a b: c",
            "Jan 99 10:00:00 a b: c",
            "Jän 2 ☃",
        ] {
            assert_eq!(parse(odd, now(), &TimeZone::UTC), None, "{odd}");
        }
    }

    #[test]
    fn the_newest_lines_come_first_and_logs_merge_by_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("messages");
        std::fs::write(&path, "Jan  1 10:00:00 h a: one\nJan  1 10:00:02 h b: three\n").unwrap();
        let file = LogFile::new(&path);
        let texts = |lines: Vec<SystemLine>| lines.into_iter().map(|line| line.text).collect::<Vec<_>>();
        assert_eq!(texts(file.tail(10)), ["three", "one"]);
        let other = dir.path().join("other");
        std::fs::write(&other, "Jan  1 10:00:01 h c: two\n").unwrap();
        let merged =
            Merged(vec![Arc::new(file), Arc::new(LogFile::new(other)), Arc::new(LogFile::new("/nowhere"))]);
        assert_eq!(texts(merged.tail(2)), ["three", "two"]);
    }

    #[test]
    fn the_ring_keeps_the_newest_of_this_process() {
        struct Silent;
        impl Log for Silent {
            fn enabled(&self, metadata: &Metadata) -> bool {
                metadata.level() <= log::Level::Info
            }
            fn log(&self, _: &Record) {}
            fn flush(&self) {}
        }
        let ring = LogRing::new(Box::new(Silent));
        for n in 0..RING + 5 {
            ring.take(&Record::builder().level(log::Level::Warn).args(format_args!("line {n}")).build());
        }
        ring.take(&Record::builder().level(log::Level::Debug).args(format_args!("too fine")).build());
        let lines = ring.tail(2);
        assert_eq!(lines[0].text, format!("warn: line {}", RING + 4));
        assert_eq!((lines.len(), ring.tail(9999).len()), (2, RING));
    }
}
