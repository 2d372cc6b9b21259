//! pf without pf: a simulator that is loaded with the text that would be loaded into pf(4) and then says, packet
//! by packet, what pf would do, with states, translation, tables, anchors, counters and a log. It serves as the
//! sandbox's packet filter, answers `explain`, and lets an apply be tried before it cuts somebody off.
//!
//! Deliberate differences from pf(4): no packet is queued, delayed, normalised or answered (a blocked packet's
//! answer is only named); synproxy and modulate are kept as plain state; evaluation counters count the rules
//! that the index leaves to be looked at; `max-pkt-rate`, `prio` and operating systems are not asked for.

pub mod demo;
pub mod engine;
pub mod evaluate;
pub mod explain;
pub mod flow;
pub mod interfaces;
pub mod load;
pub mod measure;
pub mod replay;
pub mod rules;
pub mod state;
pub mod table;
pub mod tcp;

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use engine::Engine;
pub use explain::{Explanation, Question};
pub use flow::Outcome;
pub use interfaces::SimInterface;

use self::evaluate::Reason;
use self::load::{Plan, TableNames};
use self::state::{Micros, State};
use super::parse::parse;
use super::{AnchorName, InterfaceCounters, LoadedRule, LoggedPacket, Pf, PfError, PfInfo, StateEntry, ast};
use crate::config::{TableName, Timestamp};
use packet::{Direction, Frame, Link, NotAPacket, Packet, protocol_name};

use super::packet;

/// A reader of logged packets that falls behind loses the oldest beyond this number.
const LOG_BACKLOG: usize = 4096;

/// Where `table … file "…"` reads from.
type FileSource = Box<dyn Fn(&str) -> std::io::Result<String> + Send>;

/// The simulator, for use from several threads.
pub struct Simulator {
    engine: Mutex<Engine>,
    files: Mutex<FileSource>,
    readers: Mutex<Vec<async_channel::Sender<LoggedPacket>>>,
}

impl Default for Simulator {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl std::fmt::Debug for Simulator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Simulator").finish_non_exhaustive()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn micros(at: Timestamp) -> Micros {
    at.as_microsecond()
}

impl Simulator {
    /// A pf that is enabled, has no rules (and so passes everything), and stands between these interfaces. Files
    /// of tables are read from the file system.
    pub fn new(interfaces: Vec<SimInterface>) -> Self {
        let mut engine = Engine::default();
        engine.set_interfaces(interfaces);
        Self {
            engine: Mutex::new(engine),
            files: Mutex::new(Box::new(|name| std::fs::read_to_string(Path::new(name)))),
            readers: Mutex::default(),
        }
    }

    /// Tells which interfaces there are. Rules that follow addresses (`(em0)`) see it at once; others, as with
    /// pf, when they are loaded again.
    pub fn set_interfaces(&self, interfaces: Vec<SimInterface>) {
        locked(&self.engine).set_interfaces(interfaces);
    }

    /// Where files that tables name are read from, by the name in the text.
    pub fn set_files(&self, files: impl Fn(&str) -> std::io::Result<String> + Send + 'static) {
        *locked(&self.files) = Box::new(files);
    }

    /// Files that tables name, by name; others do not exist.
    pub fn set_file_contents(&self, contents: HashMap<String, String>) {
        self.set_files(move |name| {
            contents.get(name).cloned().ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotFound))
        });
    }

    /// Takes a packet through pf, in or out of an interface, and on its way through the machine.
    pub fn inject(&self, interface: &str, direction: Direction, packet: &Packet, at: Timestamp) -> Outcome {
        self.with(|engine| engine.inject(interface, direction, packet, micros(at)))
    }

    /// The same with a captured frame.
    pub fn inject_frame(
        &self,
        interface: &str,
        direction: Direction,
        link: Link,
        frame: &[u8],
        at: Timestamp,
    ) -> Result<Outcome, NotAPacket> {
        let frame = Frame::decode(link, frame)?;
        Ok(self.inject(interface, direction, &frame.packet, at))
    }

    /// What pf would do with a packet; changes nothing.
    pub fn explain(&self, interface: &str, direction: Direction, packet: &Packet) -> Explanation {
        locked(&self.engine).explain(interface, direction, packet)
    }

    /// Uses the engine under its lock; what was logged meanwhile goes to the readers.
    pub fn with<T>(&self, work: impl FnOnce(&mut Engine) -> T) -> T {
        let mut engine = locked(&self.engine);
        let result = work(&mut engine);
        let logged = engine.take_logged();
        drop(engine);
        if !logged.is_empty() {
            let mut readers = locked(&self.readers);
            readers.retain(|reader| !reader.is_closed());
            for reader in readers.iter() {
                for packet in &logged {
                    // Full: the oldest makes room.
                    let _ = reader.force_send(packet.clone());
                }
            }
        }
        result
    }

    fn plan(
        &self,
        anchor: AnchorName,
        ruleset: &ast::Ruleset,
        files: load::Files<'_>,
    ) -> Result<(Plan, TableNames), PfError> {
        let (interfaces, mut names) = locked(&self.engine).planning();
        let plan = load::plan(ruleset, path(anchor), &interfaces, &mut names, files)
            .map_err(|e| refused(anchor, e.message))?;
        Ok((plan, names))
    }

    fn parsed(&self, anchor: AnchorName, text: &str) -> Result<ast::Ruleset, PfError> {
        parse(text).map_err(|error| refused(anchor, error.to_string()))
    }
}

fn path<'a>(anchor: AnchorName<'a>) -> &'a str {
    anchor.unwrap_or_default()
}

fn refused(anchor: AnchorName, message: String) -> PfError {
    PfError::Refused { anchor: anchor.unwrap_or("main ruleset").into(), message }
}

fn entry(state: &State, now: Micros) -> StateEntry {
    let (src, dst): ((IpAddr, u16), (IpAddr, u16)) = state.shown();
    StateEntry {
        id: state.id,
        protocol: protocol_name(state.wire.protocol),
        src,
        dst,
        state: state.text(),
        packets: (state.packets[0], state.packets[1]),
        bytes: (state.bytes[0], state.bytes[1]),
        age: Duration::from_micros(u64::try_from(now - state.created).unwrap_or(0)),
        interface: state.bound.then(|| state.interface.to_string()),
        rtable: state.rtable,
    }
}

impl Pf for Simulator {
    fn is_simulated(&self) -> bool {
        true
    }

    fn check(&self, anchor: AnchorName, text: &str) -> Result<(), PfError> {
        let ruleset = self.parsed(anchor, text)?;
        let files = locked(&self.files);
        let (plan, _) = self.plan(anchor, &ruleset, &**files)?;
        locked(&self.engine).fits(path(anchor), &plan).map_err(|e| refused(anchor, e.message))
    }

    fn load(&self, anchor: AnchorName, text: &str) -> Result<(), PfError> {
        let ruleset = self.parsed(anchor, text)?;
        // One load at a time; packets pass while it is planned.
        let files = locked(&self.files);
        let (plan, names) = self.plan(anchor, &ruleset, &**files)?;
        let gone = locked(&self.engine).install(path(anchor), plan, names);
        gone.map(drop).map_err(|e| refused(anchor, e.message))
    }

    fn rules(&self, anchor: AnchorName) -> Result<(Vec<LoadedRule>, Vec<LoadedRule>), PfError> {
        Ok(locked(&self.engine).rules(path(anchor)).unwrap_or_default())
    }

    fn anchors(&self) -> Result<Vec<String>, PfError> {
        Ok(locked(&self.engine).anchors())
    }

    fn replace_table(&self, name: &TableName, entries: &[String]) -> Result<(), PfError> {
        let entries = entries
            .iter()
            .map(|entry| entry.parse())
            .collect::<Result<Vec<table::Entry>, _>>()
            .map_err(|error| refused(None, format!("table <{name}>: {error}")))?;
        // Not while a ruleset is planned: it numbers its tables.
        let _loading = locked(&self.files);
        locked(&self.engine)
            .replace_table(name.as_str(), entries)
            .map_err(|error| refused(None, error.to_string()))
    }

    fn table(&self, name: &TableName) -> Result<Vec<String>, PfError> {
        let engine = locked(&self.engine);
        let table = engine.table("", name.as_str()).ok_or_else(|| PfError::NoTable(name.to_string()))?;
        Ok(table.entries().map(|entry| entry.to_string()).collect())
    }

    fn tables(&self) -> Result<Vec<String>, PfError> {
        Ok(locked(&self.engine).table_names())
    }

    fn states(&self) -> Result<Vec<StateEntry>, PfError> {
        let mut engine = locked(&self.engine);
        let now = engine.now();
        engine.purge(now);
        Ok(engine.states().iter().map(|state| entry(state, now)).collect())
    }

    fn info(&self) -> Result<PfInfo, PfError> {
        let mut engine = locked(&self.engine);
        let now = engine.now();
        engine.purge(now);
        // Every counter that pfctl prints, in its order; those that cannot happen here stay at 0.
        let counters = [
            ("match", Some(Reason::Match)),
            ("bad-offset", None),
            ("fragment", Some(Reason::Fragment)),
            ("short", Some(Reason::Short)),
            ("normalize", None),
            ("memory", Some(Reason::Memory)),
            ("bad-timestamp", None),
            ("congestion", None),
            ("ip-option", Some(Reason::IpOption)),
            ("proto-cksum", None),
            ("state-mismatch", Some(Reason::StateMismatch)),
            ("state-insert", None),
            ("state-limit", Some(Reason::StateLimit)),
            ("src-limit", Some(Reason::SrcLimit)),
            ("synproxy", None),
            ("map-failed", Some(Reason::MapFailed)),
            ("translate", Some(Reason::Translate)),
        ];
        let states = engine.states();
        Ok(PfInfo {
            enabled: engine.enabled(),
            states: states.len() as u64,
            searches: states.searches,
            inserts: states.inserts,
            removals: states.removals,
            counters: counters
                .into_iter()
                .map(|(name, reason)| (name.to_owned(), reason.map_or(0, |r| engine.reason_count(r))))
                .collect(),
        })
    }

    fn state_limit(&self) -> Result<u64, PfError> {
        Ok(locked(&self.engine).states().limit() as u64)
    }

    fn limits(&self) -> Result<Vec<(String, u64)>, PfError> {
        let engine = locked(&self.engine);
        let options = engine.options();
        let limits = [
            ("states", options.states),
            ("src-nodes", options.src_nodes),
            ("frags", options.frags),
            ("table-entries", options.table_entries),
        ];
        Ok(limits.into_iter().map(|(name, limit)| (name.to_owned(), limit.into())).collect())
    }

    fn timeouts(&self) -> Result<Vec<(String, u64)>, PfError> {
        let engine = locked(&self.engine);
        let timeouts = &engine.options().timeouts;
        let of = |which: &ast::Timeout| (which.to_string(), timeouts.get(*which).unwrap_or(0).into());
        Ok(ast::Timeout::ALL.iter().map(of).collect())
    }

    fn set_options(&self, text: &str) -> Result<(), PfError> {
        let ruleset = self.parsed(None, text)?;
        let mut options = Vec::new();
        for statement in &ruleset.statements {
            match &statement.item {
                ast::Item::Set(option) => options.push(option),
                other => return Err(refused(None, format!("expected an option, not {other}"))),
            }
        }
        locked(&self.engine).set_options(options.into_iter());
        Ok(())
    }

    fn interfaces(&self) -> Result<Vec<InterfaceCounters>, PfError> {
        Ok(locked(&self.engine).traffic())
    }

    fn kill_states_with_label(&self, label: &str) -> Result<u64, PfError> {
        let mut engine = locked(&self.engine);
        Ok(engine.states_mut().kill(|state| state.rule.labels.iter().any(|l| **l == *label)))
    }

    fn kill_states_from(&self, source: IpAddr) -> Result<u64, PfError> {
        let own = |state: &State| state.wire.addr[state::place(state.direction)] == source;
        Ok(locked(&self.engine).states_mut().kill(own))
    }

    fn flush_states(&self) -> Result<u64, PfError> {
        Ok(locked(&self.engine).states_mut().kill(|_| true))
    }

    fn set_enabled(&self, enabled: bool) -> Result<(), PfError> {
        locked(&self.engine).set_enabled(enabled);
        Ok(())
    }

    fn logged(&self) -> async_channel::Receiver<LoggedPacket> {
        let (sender, receiver) = async_channel::bounded(LOG_BACKLOG);
        locked(&self.readers).push(sender);
        receiver
    }
}

#[cfg(test)]
mod tests;
