//! The engine's log of events (eve.json): followed from where it was read last, also across a rotation and a restart;
//! each alert in it becomes an [`Alert`].

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::alerts::{Alert, Classification, Stored, key_of};
use crate::config::{Id, Timestamp};
use crate::services::files;

/// Read at once at most.
const BATCH: u64 = 4 << 20;
/// Larger than this the file is moved aside.
const LARGEST: u64 = 64 << 20;
/// Old files that are kept.
const KEPT: u32 = 3;

/// Where it was read up to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    inode: u64,
    offset: u64,
}

/// Follows the log.
#[derive(Debug)]
pub struct Tailer {
    path: PathBuf,
    state: PathBuf,
    place: Place,
}

impl Tailer {
    /// `log` is the directory of the log, `data` keeps the place.
    pub fn new(log: &Path, data: &Path) -> Self {
        let state = data.join("eve.place");
        let place = std::fs::read(&state).ok().and_then(|text| serde_json::from_slice(&text).ok());
        Self { path: log.join("eve.json"), state, place: place.unwrap_or_default() }
    }

    /// Whole lines that are new. Blocks.
    pub fn read(&mut self) -> io::Result<Vec<String>> {
        let mut lines = Vec::new();
        // What was written to a file before it was moved aside comes first.
        let rotated = self.path.with_extension("json.1");
        if let Ok(meta) = std::fs::metadata(&rotated)
            && meta.ino() == self.place.inode
        {
            self.read_file(&rotated, &mut lines)?;
            if lines.is_empty() {
                self.place = Place::default();
            }
        }
        if lines.is_empty() {
            match std::fs::metadata(&self.path) {
                Ok(meta) => {
                    // Another file, or one that was cut: from its beginning.
                    if meta.ino() != self.place.inode || meta.len() < self.place.offset {
                        self.place = Place { inode: meta.ino(), offset: 0 };
                    }
                    let path = self.path.clone();
                    self.read_file(&path, &mut lines)?;
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(lines)
    }

    fn read_file(&mut self, path: &Path, lines: &mut Vec<String>) -> io::Result<()> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(self.place.offset))?;
        let mut bytes = Vec::new();
        file.take(BATCH).read_to_end(&mut bytes)?;
        let Some(end) = bytes.iter().rposition(|byte| *byte == b'\n') else {
            // A line longer than a batch is no alert of ours.
            if bytes.len() as u64 == BATCH {
                self.place.offset += BATCH;
            }
            return Ok(());
        };
        self.place.offset += end as u64 + 1;
        lines.extend(String::from_utf8_lossy(&bytes[..end]).lines().map(str::to_owned));
        Ok(())
    }

    /// Remembers the place, once what was read is kept.
    pub fn keep(&self) {
        if let Ok(text) = serde_json::to_vec(&self.place)
            && let Err(error) = files::write(&self.state, &text, 0o600)
        {
            log::warn!("alerts: {error}");
        }
    }

    /// Moves a file that has grown too large aside; `true` = the engine must open it anew.
    pub fn rotate(&self) -> io::Result<bool> {
        rotate_above(&self.path, LARGEST)
    }
}

fn rotate_above(path: &Path, largest: u64) -> io::Result<bool> {
    if std::fs::metadata(path).map_or(true, |meta| meta.len() <= largest) {
        return Ok(false);
    }
    for number in (1..KEPT).rev() {
        let name = |number: u32| path.with_extension(format!("json.{number}"));
        std::fs::rename(name(number), name(number + 1)).ok();
    }
    std::fs::rename(path, path.with_extension("json.1"))?;
    Ok(true)
}

/// An alert in a line of the log, and its key; `None` for every other event.
pub fn alert(line: &str, received: Timestamp, keep_event: bool) -> Option<(String, Stored)> {
    let event: Value = serde_json::from_str(line).ok()?;
    if event.get("event_type").and_then(Value::as_str) != Some("alert") {
        return None;
    }
    let text = |path: &str| event.pointer(path).and_then(Value::as_str);
    let number = |path: &str| event.pointer(path).and_then(Value::as_u64);
    let port = |path: &str| number(path).and_then(|port| u16::try_from(port).ok());
    let action = match text("/alert/action") {
        Some("blocked") if event.pointer("/verdict/reject").is_some() => "reject",
        Some("blocked") => "drop",
        _ => "alert",
    };
    let excerpt = text("/payload_printable").map(|text| text.chars().take(256).collect::<String>());
    let alert = Alert {
        id: Id::new_v4(),
        timestamp: moment(text("/timestamp")?)?,
        signature_id: number("/alert/signature_id").and_then(|sid| u32::try_from(sid).ok()),
        signature_msg: text("/alert/signature").unwrap_or_default().to_owned(),
        severity: number("/alert/severity").unwrap_or(3).clamp(1, 4) as u8,
        src_ip: text("/src_ip")?.parse().ok()?,
        src_port: port("/src_port"),
        dst_ip: text("/dest_ip")?.parse().ok()?,
        dst_port: port("/dest_port"),
        protocol: text("/proto").unwrap_or_default().to_ascii_lowercase(),
        action: action.into(),
        rule_source: "custom".into(),
        flow_id: number("/flow_id").map(|id| id.to_string()),
        payload_excerpt: excerpt.filter(|text| !text.is_empty()),
        metadata: metadata(&event),
        acknowledged: false,
        classification: Classification::default(),
        analyst_notes: None,
    };
    let key = key_of(&event);
    let payload = text("/payload").map(str::to_owned);
    Some((key, Stored { alert, received, payload, event: keep_event.then_some(event) }))
}

/// `2026-06-01T08:00:01.000000+0000`: RFC 3339 but for the colon in the offset.
fn moment(text: &str) -> Option<Timestamp> {
    let at = text.len().checked_sub(2)?;
    let (front, minutes) = (text.get(..at)?, text.get(at..)?);
    if front.ends_with(':') { text.parse().ok() } else { format!("{front}:{minutes}").parse().ok() }
}

fn metadata(event: &Value) -> Option<BTreeMap<String, String>> {
    let plain = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Array(list) => {
            let parts: Vec<String> =
                list.iter().map(|one| one.as_str().map_or_else(|| one.to_string(), str::to_owned)).collect();
            Some(parts.join(","))
        }
        _ => None,
    };
    let mut found = BTreeMap::new();
    for (name, path) in [
        ("category", "/alert/category"),
        ("rev", "/alert/rev"),
        ("gid", "/alert/gid"),
        ("app_proto", "/app_proto"),
        ("in_iface", "/in_iface"),
        ("direction", "/direction"),
        ("hostname", "/http/hostname"),
        ("url", "/http/url"),
        ("http_method", "/http/http_method"),
        ("dns_rrname", "/dns/query/0/rrname"),
        ("tls_sni", "/tls/sni"),
    ] {
        if let Some(value) = event.pointer(path).and_then(plain) {
            found.insert(name.to_owned(), value);
        }
    }
    if let Some(Value::Object(own)) = event.pointer("/alert/metadata") {
        found.extend(own.iter().filter_map(|(name, value)| Some((name.clone(), plain(value)?))));
    }
    (!found.is_empty()).then_some(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Write;

    const LINE: &str = r#"{"timestamp":"2026-06-01T08:00:01.250000+0000","flow_id":281478211505859,"event_type":"alert","src_ip":"192.168.1.10","src_port":123,"dest_ip":"192.0.2.123","dest_port":123,"proto":"UDP","alert":{"action":"blocked","gid":1,"signature_id":7,"rev":1,"signature":"x","category":"c","severity":3,"metadata":{"cve":["a","b"]}},"verdict":{"action":"drop","reject":["tcp-reset"]},"payload":"QUI=","payload_printable":"AB"}"#;

    #[test]
    fn an_event_becomes_an_alert() {
        let (_, stored) = alert(LINE, Timestamp::UNIX_EPOCH, false).unwrap();
        let alert = &stored.alert;
        assert_eq!(alert.timestamp.to_string(), "2026-06-01T08:00:01.25Z");
        assert_eq!(
            (alert.action.as_str(), alert.protocol.as_str(), alert.signature_id),
            ("reject", "udp", Some(7))
        );
        assert_eq!(alert.metadata.as_ref().unwrap()["cve"], "a,b");
        assert_eq!(alert.flow_id.as_deref(), Some("281478211505859"));
        assert!(super::alert(r#"{"event_type":"dns"}"#, Timestamp::UNIX_EPOCH, false).is_none());
        assert!(super::alert("{", Timestamp::UNIX_EPOCH, false).is_none());
    }

    #[test]
    fn the_log_is_followed_across_rotation_and_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("eve.json");
        let mut writer = File::create(&path).unwrap();
        let mut tailer = Tailer::new(dir.path(), dir.path());
        write!(writer, "one\ntwo\nthr").unwrap();
        assert_eq!(tailer.read().unwrap(), ["one", "two"]);
        tailer.keep();
        writeln!(writer, "ee").unwrap();
        let mut again = Tailer::new(dir.path(), dir.path());
        assert_eq!(again.read().unwrap(), ["three"]);
        writeln!(writer, "four").unwrap();
        assert!(rotate_above(&path, 3).unwrap());
        // The engine has not opened it anew yet.
        writeln!(writer, "five").unwrap();
        std::fs::write(&path, "six\n").unwrap();
        let mut all = Vec::new();
        for _ in 0..4 {
            all.extend(again.read().unwrap());
        }
        assert_eq!(all, ["four", "five", "six"]);
    }
}
