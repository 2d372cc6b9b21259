//! What somebody sees who sits at the machine: the first-boot dialogue, and the menu that is root's login shell
//! (contract/console.md §1, §7). A client of the appliance over its local socket: everything that is changed here is
//! changed by the API, which judges it and writes the audit entry. It knows neither the store nor pf, and runs only
//! ping(8) and a shell by itself.

mod ask;
pub mod client;
mod menu;
mod setup;
mod shell;
pub mod terminal;
mod update;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::Value;

use client::{Client, ClientError, SOCKET};
use setup::Outcome;
use terminal::{Left, Terminal};
pub use update::{UpdateArguments, update};

/// Setup was not carried out: it was left, or the appliance refused (contract/console.md §1).
const FAILED: u8 = 1;
/// The input file is at fault.
const BAD_FILE: u8 = 2;

/// Options of `aifw setup`.
#[derive(Debug, Clone, clap::Args)]
pub struct SetupArguments {
    /// The appliance is set up already: answer the questions again
    #[arg(long)]
    reconfigure: bool,
    /// Take the answers from a setup file (JSON), ask nothing, apply at once
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print the main ruleset that the answers lead to, and change nothing
    #[arg(long)]
    pub pf_only: bool,
    /// Where the appliance listens for root
    #[arg(long, value_name = "PATH", default_value = SOCKET)]
    socket: PathBuf,
}

/// Options of `aifw console`.
#[derive(Debug, Clone, clap::Args)]
pub struct ConsoleArguments {
    /// Where the appliance listens for root
    #[arg(long, value_name = "PATH", default_value = SOCKET)]
    socket: PathBuf,
    /// Run a command with /bin/sh instead of the menu, as every login shell does (sshd, scp, sftp)
    #[arg(short = 'c', value_name = "COMMAND")]
    command: Option<OsString>,
    /// With -c the command's own arguments; else of no effect
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    rest: Vec<OsString>,
}

/// `aifw console`: the menu, and before it the first-boot dialogue of an appliance that nobody has set up.
pub fn console(arguments: &ConsoleArguments) -> ExitCode {
    if let Some(command) = &arguments.command {
        return shell::become_sh(command, &arguments.rest);
    }
    menu::run(Terminal::open(), Client::new(&arguments.socket));
    ExitCode::SUCCESS
}

/// `aifw setup`, but for `--pf-only`, which asks nobody.
pub fn setup(arguments: &SetupArguments) -> ExitCode {
    let client = Client::new(&arguments.socket);
    let mut terminal = Terminal::open();
    let outcome = match &arguments.config {
        Some(path) => match setup_file(path, arguments.reconfigure) {
            Ok(file) => unattended(&mut terminal, &client, &file),
            Err(reason) => {
                terminal.error(format_args!("{}: {reason}", path.display()));
                return ExitCode::from(BAD_FILE);
            }
        },
        None => match already(&client) {
            Ok(true) if !arguments.reconfigure => {
                terminal.error("the appliance is set up already; --reconfigure asks again");
                return ExitCode::from(FAILED);
            }
            Ok(configured) => setup::run(&mut terminal, &client, configured),
            Err(error) => Outcome::Failed(error),
        },
    };
    tell(&mut terminal, &outcome);
    match outcome {
        Outcome::Done | Outcome::Declined => ExitCode::SUCCESS,
        Outcome::Failed(ClientError::Refused { status: 400, .. }) if arguments.config.is_some() => {
            ExitCode::from(BAD_FILE)
        }
        _ => ExitCode::from(FAILED),
    }
}

fn already(client: &Client) -> Result<bool, ClientError> {
    let seen: crate::api::console::Shown = client.get("/setup")?;
    Ok(seen.configured)
}

/// Why a setup file is none.
#[derive(Debug, thiserror::Error)]
enum FileError {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("no JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("expected a JSON object")]
    NoObject,
}

/// The file as the API takes it.
fn setup_file(path: &Path, reconfigure: bool) -> Result<Value, FileError> {
    let mut file: Value = serde_json::from_slice(&std::fs::read(path)?)?;
    file.as_object_mut().ok_or(FileError::NoObject)?.insert("reconfigure".into(), reconfigure.into());
    Ok(file)
}

fn unattended(terminal: &mut Terminal, client: &Client, file: &Value) -> Outcome {
    match client.post::<crate::api::console::Checked>("/setup/check", file) {
        Ok(checked) => checked.warnings.iter().for_each(|warning| terminal.warn(warning)),
        Err(error) => return Outcome::Failed(error),
    }
    setup::apply(terminal, client, file)
}

/// Says how the dialogue ended.
fn tell(terminal: &mut Terminal, outcome: &Outcome) {
    match outcome {
        Outcome::Done => {}
        Outcome::Declined => terminal.ok("Nothing was changed."),
        Outcome::Left(Left::Interrupted | Left::Ended) => {
            terminal.warn("Setup was left; nothing was changed.")
        }
        Outcome::Failed(error) => {
            terminal.error(error);
            if let ClientError::Refused { .. } = error {
                terminal.warn("Nothing was changed.");
            }
        }
        Outcome::Elsewhere => terminal.warn("Setup is under way on another terminal."),
    }
}
