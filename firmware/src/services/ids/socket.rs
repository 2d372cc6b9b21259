//! Suricata's command socket: a line of JSON there, a line back. Blocking; one command at a time.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::config::ServiceKind;
use crate::services::ServiceError;

/// A reload of many rules takes long.
pub const RELOAD: Duration = Duration::from_secs(180);

/// A connection to a running engine.
pub struct CommandSocket {
    reader: BufReader<UnixStream>,
}

/// What became of the rules.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RulesetStats {
    pub loaded: u64,
    pub failed: u64,
    pub skipped: u64,
}

fn unreachable(reason: impl std::fmt::Display) -> ServiceError {
    ServiceError::Unreachable { service: ServiceKind::Ids.label(), reason: reason.to_string() }
}

impl CommandSocket {
    /// Connects and says hello. Version 0.2 is the first whose answers end with a line.
    pub fn connect(path: &Path, patience: Duration) -> Result<Self, ServiceError> {
        let stream = UnixStream::connect(path).map_err(unreachable)?;
        stream.set_read_timeout(Some(patience)).map_err(unreachable)?;
        stream.set_write_timeout(Some(patience)).map_err(unreachable)?;
        let mut socket = Self { reader: BufReader::new(stream) };
        socket.exchange(&json!({ "version": "0.2" }))?;
        Ok(socket)
    }

    fn exchange(&mut self, question: &Value) -> Result<Value, ServiceError> {
        let mut line = question.to_string();
        line.push('\n');
        self.reader.get_mut().write_all(line.as_bytes()).map_err(unreachable)?;
        let mut answer = String::new();
        if self.reader.read_line(&mut answer).map_err(unreachable)? == 0 {
            return Err(unreachable("it has closed the connection"));
        }
        let answer: Value = serde_json::from_str(&answer).map_err(unreachable)?;
        match answer.get("return").and_then(Value::as_str) {
            Some("OK") => Ok(answer.get("message").cloned().unwrap_or_default()),
            _ => Err(unreachable(answer.get("message").unwrap_or(&Value::Null))),
        }
    }

    /// Sends a command; its answer is the message.
    pub fn command(&mut self, name: &str, arguments: Option<Value>) -> Result<Value, ServiceError> {
        let mut question = json!({ "command": name });
        if let Some(arguments) = arguments {
            question["arguments"] = arguments;
        }
        self.exchange(&question)
    }

    pub fn ruleset_stats(&mut self) -> Result<RulesetStats, ServiceError> {
        let answer = self.command("ruleset-stats", None)?;
        let number = |name: &str| answer.pointer(&format!("/0/{name}")).and_then(Value::as_u64).unwrap_or(0);
        Ok(RulesetStats {
            loaded: number("rules_loaded"),
            failed: number("rules_failed"),
            skipped: number("rules_skipped"),
        })
    }
}
