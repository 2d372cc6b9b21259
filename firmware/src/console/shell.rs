//! Other programs on the same terminal: a shell, ping(8), and what a login shell is asked to run with `-c`.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::unistd::{getpgrp, tcsetpgrp};

use super::terminal::Terminal;

const SH: &str = "/bin/sh";
/// What a shell cannot be started with (sh(1): 126).
const NOT_STARTED: u8 = 126;

/// `-c COMMAND`: this process becomes /bin/sh, so that sshd's commands, scp and sftp work as with any shell.
pub fn become_sh(command: &OsStr, rest: &[OsString]) -> ExitCode {
    let error = Command::new(SH).arg("-c").arg(command).args(rest).exec();
    eprintln!("[ERROR] {SH}: {error}");
    ExitCode::from(NOT_STARTED)
}

/// Signals of the keyboard are the program's while it runs; it gets them as every program does.
struct Ignoring(Vec<(Signal, SigAction)>);

impl Ignoring {
    fn begin() -> Self {
        let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
        let signals = [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTSTP, Signal::SIGTTOU];
        let before = signals.into_iter().filter_map(|signal| {
            // SAFETY: ignoring a signal runs no code of ours.
            let before = unsafe { sigaction(signal, &ignore) };
            Some((signal, before.ok()?))
        });
        Self(before.collect())
    }
}

impl Drop for Ignoring {
    fn drop(&mut self) {
        for (signal, before) in &self.0 {
            // SAFETY: this is what was set before.
            let _ = unsafe { sigaction(*signal, before) };
        }
    }
}

/// Runs a program until it ends, with the terminal as it was found.
pub fn run(terminal: &mut Terminal, program: &str, arguments: &[&str]) -> io::Result<()> {
    let mut command = Command::new(program);
    command.args(arguments);
    // SAFETY: sigaction(2) may be called between fork and exec.
    unsafe {
        command.pre_exec(|| {
            let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
            for signal in [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTSTP, Signal::SIGTTOU] {
                sigaction(signal, &default)?;
            }
            Ok(())
        });
    }
    terminal.lend(|| {
        let _ignoring = Ignoring::begin();
        let ended = command.status();
        // A shell that was killed has left the terminal with its own process group.
        let _ = tcsetpgrp(std::io::stdin(), getpgrp());
        ended.map(|_| ())
    })
}

pub fn interactive(terminal: &mut Terminal) -> io::Result<()> {
    terminal.line("exit leads back to the menu.");
    run(terminal, SH, &[])
}
