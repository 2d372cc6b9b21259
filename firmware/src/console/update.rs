//! `aifw update …`: updates from the command line, over the local socket (contract/updates.md §3.5). The same
//! operations as everybody's; root needs no credential there.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::client::{Client, ClientError, SOCKET};

/// A download over a slow line takes its time.
const PATIENCE: Duration = Duration::from_secs(6 * 3600);
const FAILED: u8 = 1;

/// Options of `aifw update`.
#[derive(Debug, Clone, clap::Args)]
pub struct UpdateArguments {
    #[command(subcommand)]
    command: Command,
    /// Where the appliance listens for root
    #[arg(long, value_name = "PATH", default_value = SOCKET, global = true)]
    socket: PathBuf,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum Command {
    /// Which version runs, waits for the next boot, can be had, and can be gone back to
    Status,
    /// Ask the release server
    Check,
    /// Install the newest release, or a package file; it is booted once, and kept if it is healthy
    Install {
        /// A package (.tar.xz), with its .sha256 beside it
        #[arg(long, value_name = "FILE")]
        from: Option<PathBuf>,
        /// The package has no .sha256; its signature is verified all the same
        #[arg(long, requires = "from")]
        skip_checksum: bool,
        /// Restart into it without asking
        #[arg(long, short = 'y')]
        restart: bool,
    },
    /// Go back to the version in the other slot, with the configuration as it left it
    Rollback {
        /// Restart into it without asking
        #[arg(long, short = 'y')]
        restart: bool,
    },
    /// Restart the firmware, or the machine when a version waits for its boot
    Restart,
    /// Reboot in a minute
    Reboot,
    /// Take back a reboot or shutdown that is to come
    CancelReboot,
    /// End a download that is going on
    Cancel,
    /// What was done about updates, newest first
    History,
    /// Look for updates of base system and packages, which are part of the same image
    OsCheck,
    /// Install updates of base system and packages
    OsInstall,
}

#[derive(Debug, thiserror::Error)]
enum CommandError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("{path}: {reason}")]
    File { path: PathBuf, reason: io::Error },
    #[error("{0}: expected the package's checksum there; --skip-checksum goes without")]
    NoChecksum(PathBuf),
}

/// Runs a command; what it says goes to standard output, questions and progress to standard error.
pub fn update(arguments: &UpdateArguments) -> ExitCode {
    let client = Client::new(&arguments.socket).with_patience(PATIENCE);
    match run(&client, &arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("[ERROR] {error}");
            ExitCode::from(FAILED)
        }
    }
}

fn run(client: &Client, command: &Command) -> Result<(), CommandError> {
    let post = |path: &str| client.post::<Value>(path, &json!({}));
    match command {
        Command::Status => show(&client.get("/updates/aifw/status")?),
        Command::Check => show(&post("/updates/aifw/check")?),
        Command::Install { from, skip_checksum, restart } => {
            let done = watched(client, || match from {
                Some(path) => upload(client, path, *skip_checksum),
                None => Ok(post("/updates/aifw/install")?),
            })?;
            finish(client, &done, *restart)?;
        }
        Command::Rollback { restart } => finish(client, &post("/updates/aifw/rollback")?, *restart)?,
        Command::Restart => tell(&post("/updates/aifw/restart")?),
        Command::Reboot => tell(&post("/updates/aifw/reboot")?),
        Command::CancelReboot => tell(&post("/updates/cancel-power")?),
        Command::Cancel => tell(&post("/updates/aifw/cancel")?),
        Command::History => history(&client.get("/updates/history")?),
        Command::OsCheck => tell(&post("/updates/check")?),
        Command::OsInstall => tell(&watched(client, || Ok(post("/updates/install")?))?),
    }
    Ok(())
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn tell(answer: &Value) {
    println!("{}", text(answer, "message"));
}

fn show(info: &Value) {
    println!("running:  {}", text(info, "running_version"));
    if info["trying"] == true {
        println!("          booted for the first time, not found healthy yet");
    }
    if info["restart_pending"] == true {
        println!("waiting:  {}, for the next boot", text(info, "current_version"));
    }
    match text(info, "latest_version") {
        "" => println!("latest:   not asked for yet"),
        latest if info["update_available"] == true => println!("latest:   {latest}, can be installed"),
        latest => println!("latest:   {latest}"),
    }
    if let Some(backup) = info["backup_version"].as_str() {
        println!("go back:  {backup}");
    }
}

fn history(rows: &Value) {
    for row in rows["data"].as_array().into_iter().flatten() {
        let word = |key| text(row, key);
        println!("{}  {:<14} {:<10} {}", word("created_at"), word("action"), word("status"), word("details"));
    }
}

/// What was done, and the restart that it asks for.
fn finish(client: &Client, done: &Value, restart: bool) -> Result<(), CommandError> {
    tell(done);
    if done["restart_required"] != true {
        return Ok(());
    }
    if let Some(reason) = done["reboot_reason"].as_str() {
        println!("{reason}");
    }
    if restart || agreed("Restart into it now?") {
        tell(&client.post("/updates/aifw/restart", &json!({}))?);
    } else {
        println!("It is booted with the next restart: aifw update restart");
    }
    Ok(())
}

/// No, unless somebody says yes.
fn agreed(question: &str) -> bool {
    eprint!("{question} [y/N] ");
    let mut line = String::new();
    match io::stdin().read_line(&mut line) {
        Ok(count) if count > 0 => matches!(line.trim(), "y" | "Y" | "yes"),
        _ => false,
    }
}

/// The package as a form (RFC 7578), with its checksum.
fn upload(client: &Client, path: &Path, skip_checksum: bool) -> Result<Value, CommandError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |reason| CommandError::File { path, reason }
    };
    let mut file = File::open(path).map_err(failed(path))?;
    let length = file.metadata().map_err(failed(path))?.len();
    let mut side = path.as_os_str().to_owned();
    side.push(".sha256");
    let side = PathBuf::from(side);
    let checksum = match std::fs::read_to_string(&side) {
        _ if skip_checksum => String::new(),
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(CommandError::NoChecksum(side)),
        Err(error) => return Err(failed(&side)(error)),
    };
    let boundary = format!("aifw-{}", uuid::Uuid::new_v4().simple());
    let part = |name: &str| format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"");
    let head = format!(
        "{}\r\n\r\n{}\r\n{}; filename=\"package.tar.xz\"\r\nContent-Type: application/x-xz\r\n\r\n",
        part("sha256"),
        checksum.trim(),
        part("tarball")
    );
    let tail = format!("\r\n--{boundary}--\r\n");
    let whole = head.len() as u64 + length + tail.len() as u64;
    let mut body = head.as_bytes().chain((&mut file).take(length)).chain(tail.as_bytes());
    let kind = format!("multipart/form-data; boundary={boundary}");
    Ok(client.send("/updates/aifw/install-local", &kind, whole, &mut body)?)
}

/// Shows on a terminal how far a long operation is.
fn watched<T>(client: &Client, work: impl FnOnce() -> Result<T, CommandError>) -> Result<T, CommandError> {
    if !io::stderr().is_terminal() {
        return work();
    }
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(500));
                let job = client.get::<Value>("/updates/status").map(|status| status["job"].clone());
                if let Some(line) = job.ok().as_ref().and_then(progress) {
                    eprint!("\r{line:<60}");
                    io::stderr().flush().ok();
                }
            }
            eprint!("\r{:<60}\r", "");
        });
        let done = work();
        over.store(true, Ordering::Relaxed);
        done
    })
}

/// `writing 45 % (12.3 of 27.0 MB)`
fn progress(job: &Value) -> Option<String> {
    let stage = job["stage"].as_str()?.replace('_', " ");
    let done = job["done"].as_f64()?;
    Some(match job["total"].as_f64().filter(|total| *total > 0.0) {
        Some(total) => {
            format!("{stage} {:.0} % ({:.1} of {:.1} MB)", 100.0 * done / total, done / 1e6, total / 1e6)
        }
        None => format!("{stage} ({:.1} MB)", done / 1e6),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_far_a_job_is() {
        let told = |job: Value| progress(&job);
        let job = json!({ "stage": "reading_back", "done": 12_300_000, "total": 24_600_000 });
        assert_eq!(told(job).as_deref(), Some("reading back 50 % (12.3 of 24.6 MB)"));
        let job = json!({ "stage": "downloading", "done": 1_000_000, "total": null });
        assert_eq!(told(job).as_deref(), Some("downloading (1.0 MB)"));
        assert_eq!(told(Value::Null), None);
    }
}
