//! A pseudo-terminal with a command on it. What is typed is typed after what it answers has appeared.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::unistd::setsid;

const PATIENCE: Duration = Duration::from_secs(60);

/// One pseudo-terminal and the command on it.
pub struct Line {
    pub child: Child,
    /// `None`: hung up.
    master: Option<File>,
    /// Everything that was written, and how far it was looked at.
    pub seen: String,
    at: usize,
}

impl Line {
    pub fn run(mut command: Command) -> Self {
        // No other child of this process may hold the terminal open: hanging up would not be one.
        let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let mut options = File::options();
        options.read(true).write(true).custom_flags(nix::libc::O_NOCTTY);
        let slave = options.open(ptsname_r(&master).unwrap()).unwrap();
        command
            .stdin(Stdio::from(slave.try_clone().unwrap()))
            .stdout(Stdio::from(slave.try_clone().unwrap()))
            .stderr(Stdio::from(slave))
            .env("TERM", "vt100")
            .env("PS1", "sh> ")
            .env_remove("LC_ALL")
            .env_remove("LANG");
        // SAFETY: setsid(2) and ioctl(2) may be called between fork and exec.
        unsafe {
            command.pre_exec(|| {
                setsid()?;
                // The terminal becomes this session's, so that hanging up is heard.
                if nix::libc::ioctl(0, nix::libc::TIOCSCTTY as _, 0) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            });
        }
        let child = command.spawn().unwrap();
        Self { child, master: Some(File::from(OwnedFd::from(master))), seen: String::new(), at: 0 }
    }

    /// Reads what there is; false at the end.
    fn read(&mut self, wait: Duration) -> bool {
        let master = self.master.as_mut().unwrap();
        let mut watched = [PollFd::new(master.as_fd(), PollFlags::POLLIN)];
        if poll(&mut watched, PollTimeout::try_from(wait).unwrap()).unwrap_or(0) == 0 {
            return true;
        }
        let mut bytes = [0; 4096];
        match master.read(&mut bytes) {
            // On Linux EIO is how a terminal ends whose other side was closed.
            Ok(0) | Err(_) => false,
            Ok(count) => {
                self.seen.push_str(&String::from_utf8_lossy(&bytes[..count]));
                true
            }
        }
    }

    /// Waits until this text appears after what was awaited before.
    pub fn expect(&mut self, text: &str) -> &mut Self {
        let begun = Instant::now();
        loop {
            if let Some(place) = self.seen[self.at..].find(text) {
                self.at += place + text.len();
                return self;
            }
            let open = self.read(Duration::from_millis(200));
            let late = begun.elapsed() > PATIENCE;
            if !open && self.seen[self.at..].contains(text) {
                continue;
            }
            assert!(
                open && !late,
                "{text:?} does not appear after:\n{}\n----\n{}",
                &self.seen[..self.at],
                &self.seen[self.at..]
            );
        }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.master.as_mut().unwrap().write_all(bytes.as_ref()).unwrap();
        self
    }

    /// Waits for a prompt, and answers it.
    pub fn answer(&mut self, prompt: &str, text: &str) -> &mut Self {
        self.expect(prompt).send(format!("{text}\r"))
    }

    pub fn answers(&mut self, all: &[(&str, &str)]) -> &mut Self {
        for (prompt, text) in all {
            self.answer(prompt, text);
        }
        self
    }

    /// Reads to the end; how the command ended.
    pub fn end(&mut self) -> ExitStatus {
        let begun = Instant::now();
        while self.master.is_some() && self.read(Duration::from_millis(200)) {
            assert!(begun.elapsed() < PATIENCE, "does not end:\n{}", self.seen);
            if let Some(status) = self.child.try_wait().unwrap() {
                while self.read(Duration::ZERO) && self.readable() {}
                return status;
            }
        }
        self.child.wait().unwrap()
    }

    fn readable(&self) -> bool {
        let mut watched = [PollFd::new(self.master.as_ref().unwrap().as_fd(), PollFlags::POLLIN)];
        poll(&mut watched, PollTimeout::ZERO).unwrap_or(0) > 0
            && watched[0].revents().is_some_and(|events| events.contains(PollFlags::POLLIN))
    }

    /// As a modem that loses its carrier.
    pub fn hang_up(&mut self) -> ExitStatus {
        self.master = None;
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begun.elapsed() < PATIENCE, "lives on after the line was hung up");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Whether the terminal shows what is typed (termios ECHO) and ends lines by itself (ICANON).
    pub fn modes(&self) -> (bool, bool) {
        use nix::sys::termios::{LocalFlags, tcgetattr};
        let flags = tcgetattr(self.master.as_ref().unwrap()).unwrap().local_flags;
        (flags.contains(LocalFlags::ECHO), flags.contains(LocalFlags::ICANON))
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
