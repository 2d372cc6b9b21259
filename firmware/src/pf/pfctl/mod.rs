//! FreeBSD's pfctl(8) behind the [`Pf`] trait: an argument vector, text on standard input, a time limit. Each
//! concern has one file that holds both what is sent and how the answer is read; the readers are pure. The
//! program's path can be set, so that tests drive it against a stand-in.

mod info;
mod interfaces;
mod labels;
mod rules;
mod states;
mod tables;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use labels::LabelCache;
pub use labels::LabelCounters;

use super::{
    AnchorName, InterfaceCounters, LoadedRule, LoggedPacket, Pf, PfError, PfInfo, StateEntry, pflog,
};
use crate::config::TableName;
use crate::tool::{Ended, Tool};

/// Where FreeBSD has it.
const PFCTL: &str = "/sbin/pfctl";
/// Loading a table of a million entries takes seconds; nothing that works takes this long.
const LIMIT: Duration = Duration::from_secs(30);

/// The machine's packet filter.
pub struct Pfctl {
    tool: Tool,
    labels: Arc<LabelCache>,
    log: pflog::Log,
}

impl Default for Pfctl {
    fn default() -> Self {
        Self::new()
    }
}

impl Pfctl {
    pub fn new() -> Self {
        Self::with_program(PFCTL)
    }

    /// Another program in pfctl's place.
    pub fn with_program(program: impl Into<PathBuf>) -> Self {
        let tool = Tool::new(program, LIMIT);
        let labels = Arc::new(LabelCache::new(tool.clone()));
        let known = labels.clone();
        let log = pflog::Log::new(move |packet| packet.labels = known.of(packet));
        Self { tool, labels, log }
    }

    /// Counters by label (`pfctl -sl`) of the main ruleset.
    pub fn labels(&self) -> Result<Vec<LabelCounters>, PfError> {
        Ok(labels::read(&self.ask(labels::SHOW)?))
    }

    fn run(&self, arguments: &[&str], input: &str) -> Result<Ended, PfError> {
        run(&self.tool, arguments, input)
    }

    fn ask(&self, arguments: &[&str]) -> Result<String, PfError> {
        ask(&self.tool, arguments)
    }

    /// Runs a command that tells a count on either output.
    fn count(&self, arguments: &[&str]) -> Result<u64, PfError> {
        let ended = self.run(arguments, "")?;
        if !ended.success() {
            return Err(unreachable(&ended));
        }
        Ok(states::read_count(&ended.stderr).or_else(|| states::read_count(&ended.stdout)).unwrap_or(0))
    }

    /// Hands a ruleset over; `arguments` are those in front of the anchor's.
    fn submit(&self, anchor: AnchorName, arguments: &[&str], text: &str) -> Result<(), PfError> {
        let ended = self.run(&[&rules::place(anchor), arguments].concat(), text)?;
        if ended.success() {
            self.labels.forget();
            return Ok(());
        }
        Err(match rules::read_refusal(&ended.stderr) {
            Some(message) => PfError::Refused { anchor: anchor.unwrap_or("main").into(), message },
            None => unreachable(&ended),
        })
    }
}

/// Runs pfctl to its end, whatever that is.
fn run(tool: &Tool, arguments: &[&str], input: &str) -> Result<Ended, PfError> {
    let ended = tool.run(arguments, input).map_err(|error| PfError::Unreachable(error.to_string()))?;
    Ok(Ended { stderr: without_noise(&ended.stderr), ..ended })
}

/// Runs a question; anything but success means that pf cannot be asked.
fn ask(tool: &Tool, arguments: &[&str]) -> Result<String, PfError> {
    let ended = run(tool, arguments, "")?;
    if ended.success() { Ok(ended.stdout) } else { Err(unreachable(&ended)) }
}

/// pfctl says at nearly every call that the kernel lacks ALTQ; that is as it should be and no message.
fn without_noise(stderr: &str) -> String {
    const NOISE: [&str; 2] = ["No ALTQ support in kernel", "ALTQ related functions disabled"];
    stderr.lines().filter(|line| !NOISE.contains(line)).map(|line| format!("{line}\n")).collect()
}

fn unreachable(ended: &Ended) -> PfError {
    let said = ended.stderr.trim();
    PfError::Unreachable(match (said, ended.code) {
        ("", Some(code)) => format!("pfctl ended with {code}"),
        ("", None) => "pfctl was killed".into(),
        (said, _) => said.strip_prefix("pfctl: ").unwrap_or(said).into(),
    })
}

impl Pf for Pfctl {
    fn is_simulated(&self) -> bool {
        false
    }
    fn check(&self, anchor: AnchorName, text: &str) -> Result<(), PfError> {
        self.submit(anchor, rules::CHECK, text)
    }
    fn load(&self, anchor: AnchorName, text: &str) -> Result<(), PfError> {
        self.submit(anchor, rules::LOAD, text)
    }
    fn rules(&self, anchor: AnchorName) -> Result<(Vec<LoadedRule>, Vec<LoadedRule>), PfError> {
        let place = rules::place(anchor);
        let ask = |what: &[&str]| self.ask(&[&place, what].concat()).map(|text| rules::read(&text));
        Ok((ask(rules::SHOW_TRANSLATION)?, ask(rules::SHOW_FILTER)?))
    }
    fn anchors(&self) -> Result<Vec<String>, PfError> {
        Ok(rules::read_anchors(&self.ask(rules::SHOW_ANCHORS)?))
    }
    fn replace_table(&self, name: &TableName, entries: &[String]) -> Result<(), PfError> {
        let ended = self.run(&tables::replace(name), &tables::lines(entries))?;
        if ended.success() { Ok(()) } else { Err(tables::refusal(name, &ended)) }
    }
    fn table(&self, name: &TableName) -> Result<Vec<String>, PfError> {
        let ended = self.run(&tables::show(name), "")?;
        if !ended.success() {
            return Err(tables::refusal(name, &ended));
        }
        let entries = tables::read_entries(&ended.stdout);
        // FreeBSD 15.1 answers an unknown table like an empty one.
        if entries.is_empty() && !self.tables()?.iter().any(|known| known == name.as_str()) {
            return Err(PfError::NoTable(name.to_string()));
        }
        Ok(entries)
    }
    fn tables(&self) -> Result<Vec<String>, PfError> {
        Ok(tables::read_names(&self.ask(tables::SHOW_NAMES)?))
    }
    fn states(&self) -> Result<Vec<StateEntry>, PfError> {
        Ok(states::read(&self.ask(states::SHOW)?))
    }
    fn info(&self) -> Result<PfInfo, PfError> {
        Ok(info::read(&self.ask(info::SHOW)?))
    }
    fn state_limit(&self) -> Result<u64, PfError> {
        let text = self.ask(info::SHOW_LIMITS)?;
        info::read_limit(&text, "states")
            .ok_or_else(|| PfError::Unreachable("pfctl -sm names no limit of states".into()))
    }
    fn limits(&self) -> Result<Vec<(String, u64)>, PfError> {
        Ok(info::read_limits(&self.ask(info::SHOW_LIMITS)?))
    }
    fn timeouts(&self) -> Result<Vec<(String, u64)>, PfError> {
        Ok(info::read_timeouts(&self.ask(info::SHOW_TIMEOUTS)?))
    }
    fn set_options(&self, text: &str) -> Result<(), PfError> {
        self.submit(None, rules::MERGE_OPTIONS, text)
    }
    fn interfaces(&self) -> Result<Vec<InterfaceCounters>, PfError> {
        Ok(interfaces::read(&self.ask(interfaces::SHOW)?))
    }
    fn kill_states_with_label(&self, label: &str) -> Result<u64, PfError> {
        self.count(&states::kill_label(label))
    }
    fn kill_states_from(&self, source: IpAddr) -> Result<u64, PfError> {
        self.count(&states::kill_source(&source.to_string()))
    }
    fn flush_states(&self) -> Result<u64, PfError> {
        self.count(states::FLUSH)
    }
    fn set_enabled(&self, enabled: bool) -> Result<(), PfError> {
        let ended = self.run(&[if enabled { "-e" } else { "-d" }], "")?;
        // "already enabled" and "not enabled" end with 1, and are what was wanted.
        if ended.success() || info::is_already(&ended.stderr, enabled) {
            Ok(())
        } else {
            Err(unreachable(&ended))
        }
    }
    fn logged(&self) -> async_channel::Receiver<LoggedPacket> {
        self.log.subscribe()
    }
}

#[cfg(test)]
mod tests;
