//! One program of the base system, run to its end: an argument vector (never a shell), text in, text out, a time
//! limit. The driver of pfctl(8) and the FreeBSD platform stand on it; it knows no program and no room.

use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// User and group without rights, on FreeBSD and on Linux.
const NOBODY: u32 = 65534;

/// A program and how long it may take.
#[derive(Debug, Clone)]
pub struct Tool {
    program: PathBuf,
    limit: Duration,
    unprivileged: bool,
    environment: Vec<(&'static str, String)>,
}

/// How a program ended that ended by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// `None` when a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    pub fn success(&self) -> bool {
        self.code == Some(0)
    }
}

/// Why a program did not come to an end.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    #[error("{} is not installed", .0.display())]
    Missing(PathBuf),
    #[error("{}: {source}", program.display())]
    Io { program: PathBuf, source: io::Error },
    #[error("{} did not end within {} s", program.display(), limit.as_secs_f32())]
    TimedOut { program: PathBuf, limit: Duration },
}

impl Tool {
    /// `program` is a path, or a name to be found on PATH.
    pub fn new(program: impl Into<PathBuf>, limit: Duration) -> Self {
        Self { program: program.into(), limit, unprivileged: false, environment: Vec::new() }
    }

    /// The program runs without the rights of root: as user and group `nobody` (65534) when this process is root's.
    pub fn unprivileged(mut self) -> Self {
        self.unprivileged = true;
        self
    }

    /// Adds to the program's environment.
    pub fn env(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.environment.push((name, value.into()));
        self
    }

    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Runs the program with these arguments and `input` on its standard input, and waits for its end. The
    /// C locale holds. When the time is over, the program and what it started are killed.
    pub fn run<A: AsRef<std::ffi::OsStr>>(&self, arguments: &[A], input: &str) -> Result<Ended, ToolError> {
        let end = Instant::now() + self.limit;
        let mut command = Command::new(&self.program);
        if self.unprivileged && nix::unistd::geteuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        let mut child = command
            .args(arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A group of its own: a Ctrl-C meant for us does not end it half-way, and it can be killed whole.
            .process_group(0)
            .spawn()
            .map_err(|source| self.failed(source))?;
        let outcome = self.follow(&mut child, input, end);
        if outcome.is_err() {
            kill_group(&child);
            // Collects the dead process; how it ended is no longer of interest.
            let _ = child.wait();
        }
        outcome
    }

    /// As [`Tool::run`] without input, for a program that leaves a process behind which keeps its outputs open
    /// (shutdown(8)): what it has said until its own end is what counts.
    pub fn launch<A: AsRef<std::ffi::OsStr>>(&self, arguments: &[A]) -> Result<Ended, ToolError> {
        let end = Instant::now() + self.limit;
        let mut child = Command::new(&self.program)
            .args(arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|source| self.failed(source))?;
        let code = loop {
            match child.try_wait() {
                Ok(Some(status)) => break status.code(),
                Ok(None) if Instant::now() < end => std::thread::sleep(Duration::from_millis(5)),
                Ok(None) => {
                    kill_group(&child);
                    let _ = child.wait();
                    return Err(self.timed_out());
                }
                Err(source) => return Err(self.failed(source)),
            }
        };
        let stdout = child.stdout.take().map(said_so_far).unwrap_or_default();
        let stderr = child.stderr.take().map(said_so_far).unwrap_or_default();
        Ok(Ended { code, stdout, stderr })
    }

    fn follow(&self, child: &mut Child, input: &str, end: Instant) -> Result<Ended, ToolError> {
        if let Some(mut stdin) = child.stdin.take() {
            if input.len() <= PIPE {
                write_input(&mut stdin, input.as_bytes()).map_err(|source| self.failed(source))?;
            } else {
                let input = input.to_owned();
                // What cannot be written is told by the program's own exit status.
                std::thread::spawn(move || write_input(&mut stdin, input.as_bytes()));
            }
        }
        let stdout = child.stdout.take().map(collect);
        let stderr = child.stderr.take().map(collect);
        let text = |from: Option<mpsc::Receiver<Vec<u8>>>| -> Result<String, ToolError> {
            let Some(from) = from else { return Ok(String::new()) };
            let left = end.saturating_duration_since(Instant::now());
            let bytes = from.recv_timeout(left).map_err(|_| self.timed_out())?;
            Ok(String::from_utf8(bytes)
                .unwrap_or_else(|bad| String::from_utf8_lossy(bad.as_bytes()).into_owned()))
        };
        let stdout = text(stdout)?;
        let stderr = text(stderr)?;
        // Both ends are closed, so the program is ending; one that closed them and goes on is rare enough to poll.
        let mut pause = Duration::from_micros(50);
        loop {
            if let Some(status) = child.try_wait().map_err(|source| self.failed(source))? {
                return Ok(Ended { code: status.code(), stdout, stderr });
            }
            if Instant::now() >= end {
                return Err(self.timed_out());
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }

    fn timed_out(&self) -> ToolError {
        ToolError::TimedOut { program: self.program.clone(), limit: self.limit }
    }

    fn failed(&self, source: io::Error) -> ToolError {
        match source.kind() {
            io::ErrorKind::NotFound => ToolError::Missing(self.program.clone()),
            _ => ToolError::Io { program: self.program.clone(), source },
        }
    }
}

/// A pipe takes at least this much before a reader is needed (pipe(4): 16 KiB; POSIX promises 512 bytes).
const PIPE: usize = 4096;

/// A program that ends without reading all of its input is no error here.
fn write_input(stdin: &mut impl Write, input: &[u8]) -> io::Result<()> {
    match stdin.write_all(input) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

/// Reads a pipe to its end in the background; what could be read arrives as one message.
fn collect(mut pipe: impl Read + Send + 'static) -> mpsc::Receiver<Vec<u8>> {
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // A broken pipe ends the text just as its end does.
        let _ = pipe.read_to_end(&mut bytes);
        let _ = send.send(bytes);
    });
    receive
}

/// What lies in a pipe now, without waiting for more.
fn said_so_far(mut pipe: impl Read + std::os::fd::AsFd) -> String {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let mut bytes = Vec::new();
    if fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).is_ok() {
        // Ends with the pipe's end, or when nothing is in it: what was read by then is kept.
        let _ = pipe.read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn kill_group(child: &Child) {
    if let Ok(group) = i32::try_from(child.id()) {
        // It may have ended by itself in the meantime; then nothing is left to kill.
        let _ =
            nix::sys::signal::killpg(nix::unistd::Pid::from_raw(group), nix::sys::signal::Signal::SIGKILL);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn sh() -> Tool {
        Tool::new("sh", Duration::from_secs(20))
    }

    #[test]
    fn input_output_and_status_come_through() {
        let ended = sh().run(&["-c", "cat; echo oops >&2; exit 3"], "pass all\n").unwrap();
        let expected = Ended { code: Some(3), stdout: "pass all\n".into(), stderr: "oops\n".into() };
        assert_eq!(ended, expected);
    }

    #[test]
    fn megabytes_pass_both_ways_without_a_deadlock() {
        let input = "block in from 192.0.2.1\n".repeat(200_000);
        let ended = sh().run(&["-c", "cat"], &input).unwrap();
        assert!(ended.stdout == input && ended.success());
    }

    #[test]
    fn a_program_may_leave_its_input_unread() {
        let ended = sh().run(&["-c", "exec <&-; exit 0"], &"x".repeat(1_000_000)).unwrap();
        assert!(ended.success());
    }

    #[test]
    fn a_process_left_behind_is_not_waited_for() {
        let began = Instant::now();
        let ended = sh().launch(&["-c", "sleep 30 & echo \"shutdown: [pid $!]\"; exit 0"]).unwrap();
        assert!(ended.success() && ended.stdout.starts_with("shutdown: [pid "), "{ended:?}");
        assert!(began.elapsed() < Duration::from_secs(15));
        let pid = ended.stdout.trim_start_matches("shutdown: [pid ").trim_end_matches("]\n");
        sh().run(&["-c", &format!("kill {pid}")], "").unwrap();
    }

    #[test]
    fn arguments_are_not_read_by_a_shell() {
        let ended = Tool::new("printf", Duration::from_secs(20)).run(&["%s", "$(id); `id` 'x"], "").unwrap();
        assert_eq!(ended.stdout, "$(id); `id` 'x");
    }

    #[test]
    fn what_takes_too_long_is_killed_with_its_children() {
        let began = Instant::now();
        let tool = Tool::new("sh", Duration::from_millis(200));
        let error = tool.run(&["-c", "sleep 600 & sleep 600"], "").unwrap_err();
        assert_eq!(error.to_string(), "sh did not end within 0.2 s");
        let error = tool.run(&["-c", "exec >&- 2>&-; sleep 600"], "").unwrap_err();
        assert!(matches!(error, ToolError::TimedOut { .. }));
        assert!(began.elapsed() < Duration::from_secs(60));
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = Tool::new("/nonexistent/pfctl", Duration::from_secs(1)).run::<&str>(&[], "").unwrap_err();
        assert_eq!(error.to_string(), "/nonexistent/pfctl is not installed");
    }
}
