//! rDNS's control socket: commands of one line and answers of one line, and the two streams (`watch`,
//! `tail-blocks`). Called by the daemon's reload, by statistics and by the API's stream; knows no HTTP.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_io::{Async, Timer};
use futures_lite::io::BufReader;
use futures_lite::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, StreamExt, future};
use serde::Deserialize;
use std::os::unix::net::UnixStream;

use crate::compile::services::Places;
use crate::services::ServiceError;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Reading a million rules takes its time.
const RELOAD_PATIENCE: Duration = Duration::from_secs(60);
/// Longest answer taken, in bytes; the longest real one (`top-blocked 1000`) stays well below.
const LONGEST: u64 = 1024 * 1024;

/// The way to a running rDNS. Costs nothing until it is asked.
#[derive(Debug, Clone)]
pub struct Control {
    socket: PathBuf,
}

/// What `reload-rpz` answers.
#[derive(Debug, Deserialize)]
struct Reloaded {
    ok: bool,
    rules: Option<u64>,
    error: Option<String>,
}

impl Control {
    /// Of the daemon whose directories these are.
    pub fn of(places: &Places) -> Self {
        Self { socket: Self::socket(places) }
    }

    /// Where its socket lies.
    pub fn socket(places: &Places) -> PathBuf {
        places.run.join("control.sock")
    }

    pub fn path(&self) -> &Path {
        &self.socket
    }

    /// Sends one command and returns its one line of answer. `ERROR: …` is an error with the daemon's own words.
    pub async fn ask(&self, command: &str) -> Result<String, ServiceError> {
        self.ask_within(command, PATIENCE).await
    }

    async fn ask_within(&self, command: &str, patience: Duration) -> Result<String, ServiceError> {
        let talk = async {
            let mut connection = self.send(command).await?;
            let mut line = String::new();
            (&mut connection).take(LONGEST).read_line(&mut line).await.map_err(unreachable)?;
            Ok(line)
        };
        let line = within(patience, talk).await?;
        let line = line.trim_end();
        match line.strip_prefix("ERROR: ") {
            _ if line.is_empty() => Err(unreachable("it closed the connection without an answer")),
            Some(refusal) => Err(unreachable(refusal)),
            None => Ok(line.to_owned()),
        }
    }

    /// Lets it read all its RPZ files again; returns how many rules it then has. No query is lost meanwhile.
    pub async fn reload_rpz(&self) -> Result<u64, ServiceError> {
        let answer = self.ask_within("reload-rpz", RELOAD_PATIENCE).await?;
        let reloaded: Reloaded = serde_json::from_str(&answer).map_err(unreachable)?;
        match reloaded {
            Reloaded { ok: true, rules, .. } => Ok(rules.unwrap_or_default()),
            Reloaded { error, .. } => Err(unreachable(error.unwrap_or_else(|| "RPZ not reloaded".into()))),
        }
    }

    /// Forgets what it has cached of these names.
    pub async fn flush_names(&self, names: &[String]) -> Result<(), ServiceError> {
        for name in names {
            self.ask(&format!("flush-name {name}")).await?;
        }
        Ok(())
    }

    /// `rDNS 1.17.25`.
    pub async fn version(&self) -> Result<String, ServiceError> {
        self.ask("version").await
    }

    /// Sends `watch <seconds>` or `tail-blocks <n>`; the lines come as long as the stream is held.
    pub async fn stream(&self, command: &str) -> Result<Lines, ServiceError> {
        let connection = within(PATIENCE, self.send(command)).await?;
        Ok(Lines { lines: connection.lines() })
    }

    async fn send(&self, command: &str) -> Result<BufReader<Async<UnixStream>>, ServiceError> {
        let mut connection = Async::<UnixStream>::connect(&self.socket).await.map_err(unreachable)?;
        connection.write_all(format!("{command}\n").as_bytes()).await.map_err(unreachable)?;
        Ok(BufReader::new(connection))
    }
}

/// Lines of a stream. Dropped, the connection is closed.
pub struct Lines {
    lines: futures_lite::io::Lines<BufReader<Async<UnixStream>>>,
}

impl Lines {
    /// The next line; `None` when the daemon has closed, or is gone.
    pub async fn next(&mut self) -> Option<String> {
        self.lines.next().await.and_then(Result::ok)
    }
}

fn unreachable(reason: impl std::fmt::Display) -> ServiceError {
    ServiceError::Unreachable { service: "rDNS", reason: reason.to_string() }
}

async fn within<T>(
    patience: Duration,
    work: impl Future<Output = Result<T, ServiceError>>,
) -> Result<T, ServiceError> {
    future::or(work, async {
        Timer::after(patience).await;
        Err(unreachable(format!("no answer within {} s", patience.as_secs())))
    })
    .await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::net::UnixListener;

    use super::*;

    /// A daemon that answers one connection.
    fn daemon(dir: &Path, answer: &'static str) -> (Control, std::thread::JoinHandle<String>) {
        let control = Control { socket: dir.join("s") };
        let listener = UnixListener::bind(&control.socket).unwrap();
        let said = std::thread::spawn(move || {
            let (mut connection, _) = listener.accept().unwrap();
            let mut line = String::new();
            BufReader::new(&connection).read_line(&mut line).unwrap();
            connection.write_all(answer.as_bytes()).unwrap();
            line
        });
        (control, said)
    }

    fn once<T>(answer: &'static str, ask: impl AsyncFnOnce(Control) -> T) -> (T, String) {
        let dir = tempfile::tempdir().unwrap();
        let (control, said) = daemon(dir.path(), answer);
        (smol::block_on(ask(control)), said.join().unwrap())
    }

    #[test]
    fn one_line_is_asked_and_one_line_is_answered() {
        let (answer, said) = once("PONG\n", async |control| control.ask("ping").await.unwrap());
        assert_eq!((answer.as_str(), said.as_str()), ("PONG", "ping\n"));
    }

    #[test]
    fn a_reload_counts_its_rules_or_says_why_not() {
        let (rules, said) =
            once("{\"ok\":true,\"rules\":7}\n", async |control| control.reload_rpz().await.unwrap());
        assert_eq!((rules, said.as_str()), (7, "reload-rpz\n"));
        let (refused, _) = once("{\"ok\":false,\"error\":\"rpz not configured\"}\n", async |control| {
            control.reload_rpz().await.unwrap_err().to_string()
        });
        assert_eq!(refused, "rDNS does not answer: rpz not configured");
    }

    #[test]
    fn refusals_silence_and_absence_are_errors() {
        let words = async |control: Control| control.ask("x").await.unwrap_err().to_string();
        assert!(once("ERROR: unknown command 'x'\n", words).0.ends_with("unknown command 'x'"));
        assert!(once("", words).0.ends_with("without an answer"));
        let nobody = Control { socket: "/nonexistent/s".into() };
        assert!(matches!(
            smol::block_on(nobody.ask("ping")),
            Err(ServiceError::Unreachable { service: "rDNS", .. })
        ));
    }

    #[test]
    fn a_stream_gives_lines_until_it_is_closed() {
        let (lines, _) = once("one\ntwo\n", async |control| {
            let mut lines = control.stream("watch 1").await.unwrap();
            [lines.next().await, lines.next().await, lines.next().await]
        });
        assert_eq!(lines, [Some("one".to_owned()), Some("two".into()), None]);
    }
}
