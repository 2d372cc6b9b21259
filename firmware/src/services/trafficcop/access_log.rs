//! The proxy's access log: read from its end, and kept small. The daemon holds it open for appending and cannot be
//! told to open it anew, so it is copied and cut.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Lines looked at for one question.
const LINES: usize = 5000;
/// Bytes looked at for one question.
const LOOKED_AT: u64 = 8 << 20;
/// Larger than this it is moved aside.
const LARGEST: u64 = 64 << 20;

/// Of the last 5000 lines the newest `most` that hold `needle` (any case), newest first. No file, no lines.
pub fn tail(path: &Path, needle: Option<&str>, most: usize) -> Vec<String> {
    let Ok(text) = end_of(path) else { return Vec::new() };
    let needle = needle.unwrap_or_default().to_lowercase();
    let lines: Vec<&str> = text.lines().collect();
    let newest = lines.iter().rev().take(LINES).map(|line| crate::services::logs::without_colours(line));
    newest.filter(|line| needle.is_empty() || line.to_lowercase().contains(&needle)).take(most).collect()
}

/// Permission bits of the log.
const MODE: u32 = 0o640;

/// Makes the log and its directory, so that it is not for everybody to read: the daemon would make one that is.
pub fn prepare(path: &Path) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
    }
    let file = OpenOptions::new().create(true).append(true).mode(MODE).open(path)?;
    file.set_permissions(Permissions::from_mode(MODE))
}

/// The last lines of a file as text, from the beginning of a line.
fn end_of(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    let skipped = size.saturating_sub(LOOKED_AT);
    file.seek(SeekFrom::Start(skipped))?;
    let mut bytes = Vec::new();
    file.take(LOOKED_AT).read_to_end(&mut bytes)?;
    let begin = match skipped {
        0 => 0,
        _ => bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |at| at + 1),
    };
    Ok(String::from_utf8_lossy(&bytes[begin..]).into_owned())
}

/// Moves a log that has grown too large to `<name>.1`, which goes. Returns whether it did. A line that is written
/// between copy and cut is lost.
pub fn rotate(path: &Path) -> io::Result<bool> {
    rotate_above(path, LARGEST)
}

fn rotate_above(path: &Path, largest: u64) -> io::Result<bool> {
    match std::fs::metadata(path) {
        Ok(meta) if meta.len() > largest => {}
        Ok(_) => return Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    }
    let mut old = path.as_os_str().to_owned();
    old.push(".1");
    std::fs::copy(path, old)?;
    OpenOptions::new().write(true).open(path)?.set_len(0)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Write;

    #[test]
    fn a_log_is_not_for_everybody_to_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/access.log");
        let mode = || path.metadata().unwrap().permissions().mode() & 0o777;
        prepare(&path).unwrap();
        assert_eq!(mode(), 0o640);
        // As the daemon made it before.
        std::fs::write(&path, "GET /\n").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        prepare(&path).unwrap();
        assert_eq!((mode(), tail(&path, None, 5)), (0o640, vec!["GET /".to_owned()]));
    }

    #[test]
    fn the_end_of_a_log_newest_first_and_its_rotation_under_a_writer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        assert!(tail(&path, None, 5).is_empty());
        let mut writer = OpenOptions::new().create(true).append(true).open(&path).unwrap();
        for number in 0..6000 {
            writeln!(writer, "GET /{number}").unwrap();
        }
        assert_eq!(tail(&path, None, 2), ["GET /5999", "GET /5998"]);
        assert_eq!(tail(&path, Some("get /599"), 20).len(), 10, "5990 to 5999; 599 is too old");
        assert!(tail(&path, Some("/999"), 5).is_empty(), "older than the last 5000");
        assert!(tail(&path, Some("'; rm -rf "), 5).is_empty());
        assert!(!rotate(&path).unwrap());
        assert!(rotate_above(&path, 1000).unwrap());
        writeln!(writer, "GET /new").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "GET /new\n");
        assert!(dir.path().join("access.log.1").metadata().unwrap().len() > 1000);
    }
}
