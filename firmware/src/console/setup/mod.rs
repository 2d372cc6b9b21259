//! The first-boot dialogue (contract/console.md §1): questions are gathered, judged one by one with the functions
//! that the appliance judges a setup file with, shown in a summary, and sent as one setup file. Nothing is changed
//! before that, and the appliance takes all of it or nothing: whoever leaves, or is cut off, at any question is
//! asked again next time.

mod access;
mod answers;
mod machine;
mod network;

use std::fs::{File, OpenOptions};

use nix::fcntl::{Flock, FlockArg};
use serde_json::Value;
use zeroize::Zeroizing;

use super::client::{Client, ClientError};
use super::terminal::{Left, Terminal};
use crate::api::console::{Checked, Done, Shown};
use answers::Answers;
pub(super) use network::described;

const STEPS: usize = 11;

/// How the dialogue ended.
#[derive(Debug)]
pub enum Outcome {
    Done,
    /// The summary was declined: nothing was changed.
    Declined,
    /// Nothing was changed.
    Left(Left),
    /// Nothing was changed, for this reason.
    Failed(ClientError),
    /// Somebody answers the questions on another terminal.
    Elsewhere,
}

/// One run through the questions.
pub(super) struct Dialogue<'t> {
    terminal: &'t mut Terminal,
    client: &'t Client,
    seen: Shown,
}

/// Asks everything, and sets the appliance up. `reconfigure`: it is set up already.
pub fn run(terminal: &mut Terminal, client: &Client, reconfigure: bool) -> Outcome {
    let seen: Shown = match client.get("/setup") {
        Ok(seen) => seen,
        Err(error) => return Outcome::Failed(error),
    };
    let mut dialogue = Dialogue { terminal, client, seen };
    match dialogue.begin(reconfigure) {
        Ok(outcome) => outcome,
        Err(left) => Outcome::Left(left),
    }
}

/// Held from the first answer on, so that a second terminal does not ask them all, too: every console begins to ask,
/// and the one that somebody sits at goes on. Goes with the process.
fn lock(client: &Client) -> std::io::Result<Option<Flock<File>>> {
    let mut path = client.socket().as_os_str().to_owned();
    path.push(".setup");
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, error)) => Err(error.into()),
    }
}

impl Dialogue<'_> {
    fn heading(&mut self, step: usize, title: &str) {
        let dash = self.terminal.dash();
        self.terminal.line(format_args!("\nStep {step}/{STEPS} {dash} {title}"));
    }

    fn begin(&mut self, reconfigure: bool) -> Result<Outcome, Left> {
        let sandbox = if self.seen.platform == "sandbox" { " (sandbox: pf is simulated)" } else { "" };
        self.terminal.line(format_args!("\nAiFw {} setup{sandbox}", self.seen.version));
        if reconfigure {
            self.terminal.warn("The appliance is set up already; your answers replace its settings.");
            if !self.terminal.yes_no("Continue?", true)? {
                return Ok(Outcome::Declined);
            }
        }
        self.terminal.line("Enter takes the answer in brackets. Ctrl-C leaves, and changes nothing.");
        let root_password = self.root_password()?;
        let _alone = match lock(self.client) {
            Ok(Some(lock)) => Some(lock),
            Ok(None) => return Ok(Outcome::Elsewhere),
            // A folder that cannot be written: the appliance itself sees to it that there is one setup.
            Err(_) => None,
        };
        let answers = self.questions(root_password)?;
        let file = answers.file(reconfigure);
        let checked: Checked = match self.client.post("/setup/check", &file) {
            Ok(checked) => checked,
            Err(error) => return Ok(Outcome::Failed(error)),
        };
        self.terminal.line("\nSummary");
        for (name, value) in answers.summary() {
            self.terminal.line(format_args!("  {name:<15}{value}"));
        }
        for warning in &checked.warnings {
            self.terminal.warn(warning);
        }
        if !self.terminal.yes_no("Apply this configuration?", true)? {
            return Ok(Outcome::Declined);
        }
        self.terminal.line("Applying ...");
        Ok(apply(self.terminal, self.client, &file))
    }

    fn questions(&mut self, root_password: Option<Zeroizing<String>>) -> Result<Answers, Left> {
        let ssh = self.ssh()?;
        let (hostname, timezone) = self.names()?;
        let tuning = self.tuning()?;
        let roles = self.roles()?;
        let wan_static = self.wan()?;
        let lan = match roles.lan.clone() {
            Some(lan) => Some(self.lan(lan, wan_static.map(|(own, _)| own))?),
            None => None,
        };
        let (admin, admin_password) = self.administrator()?;
        let (listen, port, ui) = self.api()?;
        let dns = self.dns()?;
        let policy = self.policy()?;
        let pair = self.pair(&roles)?;
        Ok(Answers {
            root_password,
            ssh,
            hostname,
            timezone,
            tuning,
            wan: roles.wan,
            wan_static,
            lan,
            admin,
            admin_password,
            listen,
            port,
            ui,
            dns,
            policy,
            pair,
        })
    }
}

/// How the API wraps what it has made.
#[derive(serde::Deserialize)]
struct Created<T> {
    data: T,
}

/// Sends a setup file, and shows what came of it.
pub(super) fn apply(terminal: &mut Terminal, client: &Client, file: &Value) -> Outcome {
    let done = match client.post::<Created<Done>>("/setup", file) {
        Ok(created) => created.data,
        Err(error) => return Outcome::Failed(error),
    };
    terminal.ok("The appliance is set up.");
    terminal.line(format_args!("\n  Web UI: {}", done.url));
    terminal.line(format_args!("  API:    {}api/v1/", done.url));
    terminal.line(format_args!("  User:   {}", done.admin));
    let ssh = if done.ssh == "password" { "root, by password" } else { "root, by key only" };
    terminal.line(format_args!("  SSH:    {ssh}"));
    if let Some(digest) = &done.certificate_sha256 {
        // 95 characters: in two, for a screen of 80.
        let (first, second) = digest.split_at(digest.len().min(48));
        terminal.line(format_args!("  Certificate, SHA-256:\n    {first}\n    {second}"));
    }
    if !done.ssh_fingerprints.is_empty() {
        terminal.line("  SSH host keys:");
        for fingerprint in &done.ssh_fingerprints {
            terminal.line(format_args!("    {fingerprint}"));
        }
    }
    for warning in &done.warnings {
        terminal.warn(warning);
    }
    terminal.line("  Tuning that the loader reads is in force after the next reboot.\n");
    Outcome::Done
}
