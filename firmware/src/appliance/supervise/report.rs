//! What `aifw supervise` tells: one line a step on the system's console, the same in the log on the data partition.
//! init(8) starts programs without open files, so that log is standard output and standard error, too.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::config::Timestamp;

const LOG: &str = "aifw.log";
/// A log larger than this is laid aside, in the place of the one that was laid aside before.
const LARGEST: u64 = 1024 * 1024;

/// Console and log.
pub struct Report {
    console: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Kept open: closing a serial line waits for what is not sent yet.
    device: Option<File>,
    /// Told before there was a log.
    kept: Vec<String>,
    /// Directory of the log, once there is one.
    log: Option<PathBuf>,
}

impl Report {
    pub fn new(console: PathBuf) -> Self {
        Self { console, inner: Mutex::default() }
    }

    pub fn ok(&self, text: &str) {
        self.say("[OK]", text);
    }
    pub fn warn(&self, text: &str) {
        self.say("[!]", text);
    }
    pub fn error(&self, text: &str) {
        self.say("[ERROR]", text);
    }

    fn say(&self, mark: &str, text: &str) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.print(&self.console, &format!("aifw: {mark} {text}\n"));
        let line = format!("{:.3} {mark} {text}\n", Timestamp::now());
        match inner.log {
            // Standard error is the log.
            Some(_) => drop(io::stderr().write_all(line.as_bytes())),
            None => inner.kept.push(line),
        }
    }

    /// From now on the log lies in this directory, and holds what was told before.
    pub fn log_to(&self, directory: &Path) -> io::Result<()> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        turn_over(directory)?;
        inner.log = Some(directory.to_owned());
        let kept: String = inner.kept.drain(..).collect();
        io::stderr().write_all(kept.as_bytes())
    }

    /// Lays a log aside that has become large.
    pub fn tidy(&self) {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(directory) = &inner.log else { return };
        let large = fs::metadata(directory.join(LOG)).map_or(true, |log| log.len() > LARGEST);
        if large && let Err(error) = turn_over(directory) {
            log::warn!("{}: {error}", directory.display());
        }
    }
}

impl Inner {
    /// A console that takes nothing holds nobody up.
    fn print(&mut self, console: &Path, line: &str) {
        for _ in 0..2 {
            if self.device.is_none() {
                let mut options = OpenOptions::new();
                options.append(true).custom_flags(nix::libc::O_NOCTTY | nix::libc::O_NONBLOCK);
                self.device = options.open(console).ok();
            }
            let Some(device) = &mut self.device else { return };
            match device.write_all(line.as_bytes()) {
                // It was revoked (init(8) does that): there may be a new one under the name.
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => self.device = None,
                _ => return,
            }
        }
    }
}

/// Opens the log as standard output and standard error; one that is large is laid aside first.
fn turn_over(directory: &Path) -> io::Result<()> {
    let path = directory.join(LOG);
    if fs::metadata(&path).is_ok_and(|log| log.len() > LARGEST) {
        fs::rename(&path, directory.join(format!("{LOG}.0")))?;
    }
    let log = OpenOptions::new().append(true).create(true).mode(0o600).open(&path)?;
    nix::unistd::dup2_stdout(&log)?;
    nix::unistd::dup2_stderr(&log)?;
    Ok(())
}
