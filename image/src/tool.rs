//! Programs that this tool runs: whether they are there, what to install when they are not, and how they ended.
//! Always an argument vector, never a shell.

use std::env;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Why a step could not be done, and what helps.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{program} is not installed; Debian and Ubuntu: apt-get install {package}")]
    Missing { program: String, package: &'static str },
    #[error("{program} could not be started: {source}")]
    Start { program: String, source: std::io::Error },
    #[error("{program} {arguments} failed: {how}")]
    Failed { program: String, arguments: String, how: String },
    #[error("{path}: {source}")]
    File { path: PathBuf, source: std::io::Error },
    /// An I/O error whose file the caller names.
    #[error(transparent)]
    Unnamed(#[from] std::io::Error),
    #[error("cargo built no program named {0}")]
    NothingBuilt(String),
    #[error("not built: {0}")]
    NotBuilt(String),
    #[error(transparent)]
    Unproven(Box<crate::components::Unproven>),
    #[error("{0}: expected a directory without a colon in its name")]
    BadPath(PathBuf),
    #[error("neither AIFW_COMPONENTS nor XDG_CACHE_HOME nor HOME is set: no place to keep the daemons in")]
    NoCache,
    #[error("no FreeBSD toolchain: {0}")]
    NoToolchain(String),
    #[error("{what} has more than {limit} bytes, which is all there is room for")]
    TooLarge { what: String, limit: u64 },
    #[error("{path}: {source}")]
    Disk { path: PathBuf, source: Box<crate::disk::DiskError> },
    #[error("{path}: {source}")]
    Ufs { path: PathBuf, source: Box<crate::ufs::UfsError> },
    #[error(transparent)]
    Sets(Box<crate::sets::SetError>),
    #[error(transparent)]
    Accounts(#[from] crate::accounts::AccountError),
    #[error(transparent)]
    Slot(Box<crate::slot::SlotError>),
    #[error(transparent)]
    Key(#[from] crate::release::KeyError),
    #[error(transparent)]
    Release(Box<crate::release::ReleaseError>),
    #[error(transparent)]
    Download(Box<crate::sets::DownloadError>),
    #[error("{path}: not everything is right ({wrong} of the above)")]
    NotRight { path: PathBuf, wrong: usize },
    #[error("{path} is not a FreeBSD program: {reason}")]
    NotFreeBsd { path: PathBuf, reason: String },
}

/// Names the file that an I/O error is about.
pub fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.into();
    move |source| Error::File { path, source }
}

/// Where a program is: on PATH, or where an ordinary user's PATH often does not lead.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    let folders = env::split_paths(&path).chain(usual);
    folders.map(|folder| folder.join(program)).find(|candidate| is_executable(candidate))
}

/// A program, or the error that names the package it comes in.
pub fn require(program: &str, package: &'static str) -> Result<PathBuf, Error> {
    find(program).ok_or_else(|| Error::Missing { program: program.into(), package })
}

pub fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

/// Runs a command with the terminal's output and no input.
pub fn run(command: &mut Command) -> Result<(), Error> {
    let status = command
        .stdin(Stdio::null())
        .status()
        .map_err(|source| Error::Start { program: program(command), source })?;
    if status.success() { Ok(()) } else { Err(failed(command, status.to_string())) }
}

/// Runs a command with a limit, its output into `log`. What is still running then is killed.
pub fn run_within(command: &mut Command, limit: Duration, log: &Path) -> Result<(), Error> {
    let output = File::create(log).map_err(file(log))?;
    let both = output.try_clone().map_err(file(log))?;
    let mut child = spawn(command.stdout(output).stderr(both))?;
    let status = wait_within(command, &mut child, limit)?;
    if status.success() {
        return Ok(());
    }
    Err(failed(command, format!("{status}, see {}", log.display())))
}

/// The few words that a command prints to standard output, with a limit of time. What is still running then is
/// killed.
pub fn output_within(command: &mut Command, limit: Duration) -> Result<String, Error> {
    let mut child = spawn(command.stdout(Stdio::piped()))?;
    let status = wait_within(command, &mut child, limit)?;
    if !status.success() {
        return Err(failed(command, status.to_string()));
    }
    let mut bytes = Vec::new();
    if let Some(mut pipe) = child.stdout.take() {
        pipe.read_to_end(&mut bytes).map_err(|source| Error::Start { program: program(command), source })?;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn spawn(command: &mut Command) -> Result<Child, Error> {
    let child = command.stdin(Stdio::null()).spawn();
    child.map_err(|source| Error::Start { program: program(command), source })
}

fn wait_within(command: &Command, child: &mut Child, limit: Duration) -> Result<ExitStatus, Error> {
    let end = Instant::now() + limit;
    loop {
        let polled = child.try_wait().map_err(|source| Error::Start { program: program(command), source })?;
        match polled {
            Some(status) => return Ok(status),
            None if Instant::now() >= end => {
                // It may have ended by itself since; then there is nothing to kill.
                let _ = child.kill();
                let _ = child.wait();
                return Err(failed(command, format!("no end after {} s", limit.as_secs())));
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

pub fn failed(command: &Command, how: String) -> Error {
    let arguments: Vec<_> = command.get_args().map(|argument| argument.to_string_lossy()).collect();
    Error::Failed { program: program(command), arguments: arguments.join(" "), how }
}

fn program(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_missing_program_names_its_package() {
        let error = require("no-such-program-here", "some-package").unwrap_err();
        assert_eq!(
            error.to_string(),
            "no-such-program-here is not installed; Debian and Ubuntu: apt-get install some-package"
        );
    }

    #[test]
    fn failures_say_what_was_run() {
        let error = run(Command::new("sh").args(["-c", "exit 3"])).unwrap_err();
        assert_eq!(error.to_string(), "sh -c exit 3 failed: exit status: 3");
    }

    #[test]
    fn a_command_that_does_not_end_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        let began = Instant::now();
        let mut command = Command::new("sleep");
        let error = run_within(command.arg("600"), Duration::from_millis(100), &folder.path().join("log"))
            .unwrap_err();
        assert!(error.to_string().starts_with("sleep 600 failed: no end after"), "{error}");
        assert!(began.elapsed() < Duration::from_secs(60));
    }
}
