//! A stand-in for a packet filter: it keeps what it is given as text and answers with what a test put there. It
//! filters nothing; where the behaviour of packets matters, tests use the simulator.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use aifw::config::TableName;
use aifw::pf::{AnchorName, InterfaceCounters, LoadedRule, LoggedPacket, Pf, PfError, PfInfo, StateEntry};

pub struct StandIn {
    pub info: Mutex<PfInfo>,
    pub interfaces: Mutex<Vec<InterfaceCounters>>,
    pub states: Mutex<Vec<StateEntry>>,
    pub texts: Mutex<BTreeMap<String, String>>,
    pub refuses: AtomicBool,
    pub unreachable: AtomicBool,
    /// How often the state table was read.
    pub state_reads: AtomicU64,
    feed: (async_channel::Sender<LoggedPacket>, async_channel::Receiver<LoggedPacket>),
}

impl Default for StandIn {
    fn default() -> Self {
        let info = PfInfo { enabled: true, states: 3, inserts: 9, ..PfInfo::default() };
        let counters = |name: &str, factor: u64| InterfaceCounters {
            name: name.into(),
            packets_in: 10 * factor,
            packets_out: 20 * factor,
            bytes_in: 1000 * factor,
            bytes_out: 2000 * factor,
            ..InterfaceCounters::default()
        };
        Self {
            info: Mutex::new(info),
            interfaces: Mutex::new(vec![counters("em0", 1), counters("em1", 2), counters("lo0", 1000)]),
            states: Mutex::default(),
            texts: Mutex::default(),
            refuses: AtomicBool::new(false),
            unreachable: AtomicBool::new(false),
            state_reads: AtomicU64::new(0),
            feed: async_channel::unbounded(),
        }
    }
}

impl StandIn {
    pub fn log(&self, packet: LoggedPacket) {
        self.feed.0.try_send(packet).unwrap();
    }
    pub fn count(&self, bytes_in: u64) {
        self.interfaces.lock().unwrap()[0].bytes_in += bytes_in;
    }
    fn reach<T>(&self, answer: T) -> Result<T, PfError> {
        match self.unreachable.load(Ordering::Relaxed) {
            true => Err(PfError::Unreachable("the test says so".into())),
            false => Ok(answer),
        }
    }
}

/// A state as pf would give it.
pub fn state(id: u64, protocol: &str, src: (&str, u16), dst: (&str, u16), bytes: (u64, u64)) -> StateEntry {
    let end = |(ip, port): (&str, u16)| (ip.parse::<IpAddr>().unwrap(), port);
    StateEntry {
        id,
        protocol: protocol.into(),
        src: end(src),
        dst: end(dst),
        state: "ESTABLISHED:ESTABLISHED".into(),
        packets: (1, 2),
        bytes,
        age: Duration::from_secs(17),
        interface: None,
        rtable: None,
    }
}

/// A packet as pflog would give it.
pub fn packet(src: &str, dst: &str, protocol: &str, passed: bool) -> LoggedPacket {
    LoggedPacket {
        at: jiff::Timestamp::now(),
        passed,
        inbound: true,
        interface: "em0".into(),
        protocol: protocol.into(),
        src: src.parse().unwrap(),
        src_port: 40_000,
        dst: dst.parse().unwrap(),
        dst_port: 22,
        reason: "match".into(),
        anchor: "aifw".into(),
        rule_number: Some(3),
        labels: vec!["block-ssh".into()],
    }
}

impl Pf for StandIn {
    fn is_simulated(&self) -> bool {
        true
    }
    fn check(&self, anchor: AnchorName, _: &str) -> Result<(), PfError> {
        if self.refuses.load(Ordering::Relaxed) && anchor == Some("aifw") {
            let message = "stdin:1: syntax error".into();
            return Err(PfError::Refused { anchor: "aifw".into(), message });
        }
        self.reach(())
    }
    fn load(&self, anchor: AnchorName, text: &str) -> Result<(), PfError> {
        self.check(anchor, text)?;
        self.texts.lock().unwrap().insert(anchor.unwrap_or("").into(), text.into());
        Ok(())
    }
    fn rules(&self, anchor: AnchorName) -> Result<(Vec<LoadedRule>, Vec<LoadedRule>), PfError> {
        let texts = self.texts.lock().unwrap();
        let text = texts.get(anchor.unwrap_or("")).cloned().unwrap_or_default();
        let rule = |line: &str| LoadedRule { text: line.into(), ..LoadedRule::default() };
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        let translates =
            |line: &&&str| ["nat", "rdr", "binat", "no "].iter().any(|word| line.starts_with(word));
        let (translation, filter): (Vec<&str>, Vec<&str>) = (
            lines.iter().filter(translates).copied().collect(),
            lines.iter().filter(|line| !translates(line)).copied().collect(),
        );
        self.reach((translation.into_iter().map(rule).collect(), filter.into_iter().map(rule).collect()))
    }
    fn anchors(&self) -> Result<Vec<String>, PfError> {
        self.reach(self.texts.lock().unwrap().keys().filter(|name| !name.is_empty()).cloned().collect())
    }
    fn replace_table(&self, _: &TableName, _: &[String]) -> Result<(), PfError> {
        self.reach(())
    }
    fn table(&self, _: &TableName) -> Result<Vec<String>, PfError> {
        self.reach(Vec::new())
    }
    fn tables(&self) -> Result<Vec<String>, PfError> {
        self.reach(Vec::new())
    }
    fn states(&self) -> Result<Vec<StateEntry>, PfError> {
        self.state_reads.fetch_add(1, Ordering::Relaxed);
        self.reach(self.states.lock().unwrap().clone())
    }
    fn info(&self) -> Result<PfInfo, PfError> {
        self.reach(self.info.lock().unwrap().clone())
    }
    fn state_limit(&self) -> Result<u64, PfError> {
        self.reach(50_000)
    }
    fn interfaces(&self) -> Result<Vec<InterfaceCounters>, PfError> {
        self.reach(self.interfaces.lock().unwrap().clone())
    }
    fn kill_states_with_label(&self, _: &str) -> Result<u64, PfError> {
        self.reach(0)
    }
    fn flush_states(&self) -> Result<u64, PfError> {
        self.reach(0)
    }
    fn set_enabled(&self, enabled: bool) -> Result<(), PfError> {
        self.info.lock().unwrap().enabled = enabled;
        self.reach(())
    }
    fn logged(&self) -> async_channel::Receiver<LoggedPacket> {
        self.feed.1.clone()
    }
}
