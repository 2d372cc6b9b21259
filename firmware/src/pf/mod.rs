//! pf: its language, a simulator that reads it, and the driver of FreeBSD's pfctl(8). Everything that loads or
//! asks a packet filter goes through the [`Pf`] trait; the simulator and pfctl stand behind it alike.

pub mod absent;
pub mod ast;
mod ast_words;
pub mod expand;
mod lex;
pub mod names;
pub mod packet;
pub mod parse;
pub mod pfctl;
pub mod pflog;
pub mod print;
pub mod sim;

pub use lex::keyword;

use std::net::IpAddr;
use std::time::Duration;

use crate::config::{TableName, Timestamp};

/// Where a ruleset is loaded: `None` is the main ruleset, `Some("aifw-nat")` an anchor.
pub type AnchorName<'a> = Option<&'a str>;

#[derive(Debug, thiserror::Error)]
pub enum PfError {
    /// pf refused the text; the message names line and column where it is known.
    #[error("{anchor}: {message}")]
    Refused { anchor: String, message: String },
    #[error("pf cannot be reached: {0}")]
    Unreachable(String),
    #[error("no table <{0}>")]
    NoTable(String),
}

/// What `pfctl -si` tells.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PfInfo {
    pub enabled: bool,
    pub states: u64,
    pub searches: u64,
    pub inserts: u64,
    pub removals: u64,
    /// Counters by name as printed (`match`, `bad-offset` …).
    pub counters: Vec<(String, u64)>,
}

/// Sums of one interface's counters of `pfctl -vvsI`: passed packets and bytes, both families.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InterfaceCounters {
    pub name: String,
    pub packets_in: u64,
    pub packets_out: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub packets_blocked: u64,
    pub bytes_blocked: u64,
}

/// One loaded rule as pf prints it, with its counters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadedRule {
    pub text: String,
    pub labels: Vec<String>,
    pub evaluations: u64,
    pub packets: u64,
    pub bytes: u64,
    pub states: u64,
}

/// One entry of the state table, the originator as source.
#[derive(Debug, Clone, PartialEq)]
pub struct StateEntry {
    /// pf's state id.
    pub id: u64,
    /// Lower case: `tcp`, `udp`, `icmp`, `ipv6-icmp` …
    pub protocol: String,
    pub src: (IpAddr, u16),
    pub dst: (IpAddr, u16),
    /// As pf prints it: `ESTABLISHED:ESTABLISHED`.
    pub state: String,
    /// Originator to responder, and back.
    pub packets: (u64, u64),
    pub bytes: (u64, u64),
    pub age: Duration,
    /// `None` where pf says `all`.
    pub interface: Option<String>,
    pub rtable: Option<u32>,
}

/// A packet that pf logged (pflog(4)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedPacket {
    pub at: Timestamp,
    /// `true` = passed.
    pub passed: bool,
    pub inbound: bool,
    pub interface: String,
    /// `tcp`, `udp`, `icmp`, `ipv6-icmp`, `esp` … `""` when unknown.
    pub protocol: String,
    pub src: IpAddr,
    pub src_port: u16,
    pub dst: IpAddr,
    pub dst_port: u16,
    /// `match`, `bad-offset`, `fragment`, `short` …
    pub reason: String,
    pub anchor: String,
    pub rule_number: Option<u32>,
    /// Labels of the deciding rule, where they are known.
    pub labels: Vec<String>,
}

/// A packet filter. Calls block (pfctl is a process): from async code run them with `blocking::unblock`,
/// except on a simulator (`is_simulated`), which answers at once.
pub trait Pf: Send + Sync {
    fn is_simulated(&self) -> bool;
    /// Whether the text would load (`pfctl -n`); changes nothing.
    fn check(&self, anchor: AnchorName, text: &str) -> Result<(), PfError>;
    /// Replaces a ruleset as a whole, or leaves the old one in place.
    fn load(&self, anchor: AnchorName, text: &str) -> Result<(), PfError>;
    /// Loaded translation rules, then filter rules, of one ruleset.
    fn rules(&self, anchor: AnchorName) -> Result<(Vec<LoadedRule>, Vec<LoadedRule>), PfError>;
    /// Names of all anchors that exist, sorted.
    fn anchors(&self) -> Result<Vec<String>, PfError>;
    /// Makes the main ruleset's table hold exactly these entries (`-T replace`): `1.2.3.4`, `10.0.0.0/8`, `!10.1.0.0/16`.
    fn replace_table(&self, name: &TableName, entries: &[String]) -> Result<(), PfError>;
    fn table(&self, name: &TableName) -> Result<Vec<String>, PfError>;
    fn tables(&self) -> Result<Vec<String>, PfError>;
    fn states(&self) -> Result<Vec<StateEntry>, PfError>;
    fn info(&self) -> Result<PfInfo, PfError>;
    /// Hard limit of the state table (`pfctl -sm`).
    fn state_limit(&self) -> Result<u64, PfError>;
    /// All hard limits by name (`pfctl -sm`); no limit is the largest number.
    fn limits(&self) -> Result<Vec<(String, u64)>, PfError> {
        Err(PfError::Unreachable("its limits cannot be asked".into()))
    }
    /// Time-outs by name, in seconds; `adaptive.*` are counts of states (`pfctl -st`).
    fn timeouts(&self) -> Result<Vec<(String, u64)>, PfError> {
        Err(PfError::Unreachable("its time-outs cannot be asked".into()))
    }
    /// Sets the options of the text (`set limit`, `set timeout`) beside those that are set, and nothing else: rules,
    /// tables and states stay (`pfctl -O -m -f`).
    fn set_options(&self, text: &str) -> Result<(), PfError> {
        let _ = text;
        Err(PfError::Unreachable("its options cannot be set".into()))
    }
    fn interfaces(&self) -> Result<Vec<InterfaceCounters>, PfError>;
    /// `pfctl -k label -k LABEL`; how many were killed.
    fn kill_states_with_label(&self, label: &str) -> Result<u64, PfError>;
    /// `pfctl -k ADDRESS`: states that this address has made. How many were killed; a filter that cannot tell kills none.
    fn kill_states_from(&self, source: IpAddr) -> Result<u64, PfError> {
        let _ = source;
        Ok(0)
    }
    fn flush_states(&self) -> Result<u64, PfError>;
    fn set_enabled(&self, enabled: bool) -> Result<(), PfError>;
    /// Packets logged from now on; bounded, the oldest are dropped for a reader that does not read.
    fn logged(&self) -> async_channel::Receiver<LoggedPacket>;
}
