//! A small process that outlives the supervisor by a moment, to end the children of one that was killed. The death
//! signal that each child has (see `child`) is lost when the child changes its user, as name servers do; the guardian
//! knows them by the lines that it is sent, and that its input ends tells it that the supervisor has.

use std::collections::BTreeSet;
use std::io::{self, BufRead, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

use nix::sys::signal::Signal;

use super::child::signal_group;

/// The argument that makes our program a guardian.
const ARGUMENT: &str = "guardian";

static POSTED: OnceLock<Mutex<ChildStdin>> = OnceLock::new();

/// Starts `program guardian`, once per process.
pub fn post(program: &Path) -> io::Result<()> {
    if POSTED.get().is_some() {
        return Ok(());
    }
    let mut command = Command::new(program);
    command.arg(ARGUMENT).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    // A group of its own: what ends this process from the terminal does not end it first.
    let mut child = command.process_group(0).spawn()?;
    if let Some(stdin) = child.stdin.take() {
        // Whoever came first has it; this one's guardian then sees its input end.
        POSTED.set(Mutex::new(stdin)).ok();
    }
    Ok(())
}

fn tell(sign: char, pid: u32) {
    let Some(posted) = POSTED.get() else { return };
    let mut stdin = posted.lock().unwrap_or_else(PoisonError::into_inner);
    // One that is gone can do nothing for us.
    stdin.write_all(format!("{sign}{pid}\n").as_bytes()).ok();
}

/// A child, by its process group.
pub(super) fn started(pid: u32) {
    tell('+', pid);
}

pub(super) fn ended(pid: u32) {
    tell('-', pid);
}

/// The guardian itself: returns when its input has ended and everything it knew is dead.
pub fn stand(input: impl BufRead) {
    let mut groups = BTreeSet::new();
    for line in input.lines().map_while(Result::ok) {
        let known = |sign: char| line.strip_prefix(sign).and_then(|pid| pid.parse::<u32>().ok());
        if let Some(pid) = known('+') {
            groups.insert(pid);
        } else if let Some(pid) = known('-') {
            groups.remove(&pid);
        }
    }
    groups.into_iter().for_each(|pid| signal_group(pid, Signal::SIGKILL));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    #[test]
    fn those_that_have_not_ended_are_killed_when_the_input_ends() {
        let sleeper = || Command::new("sleep").arg("600").process_group(0).spawn().unwrap();
        let (mut left, mut known) = (sleeper(), sleeper());
        stand(format!("+{}\n+{}\nnonsense\n-{}\n", left.id(), known.id(), known.id()).as_bytes());
        assert_eq!(left.wait().unwrap().signal(), Some(9));
        assert!(known.try_wait().unwrap().is_none());
        known.kill().unwrap();
        known.wait().unwrap();
    }
}
