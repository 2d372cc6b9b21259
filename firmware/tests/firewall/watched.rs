//! A wrapper of the simulator that writes down what it is asked, so that a test can count. It decides nothing
//! itself, except that it refuses texts with a word that the test has chosen: a stand-in for a pf that is
//! stricter than the simulator.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use aifw::config::TableName;
use aifw::pf::sim::Simulator;
use aifw::pf::{AnchorName, InterfaceCounters, LoadedRule, LoggedPacket, Pf, PfError, PfInfo, StateEntry};

pub struct Watched {
    inner: Arc<Simulator>,
    refused: Option<&'static str>,
    pub loads: AtomicUsize,
    pub checks: Mutex<Vec<(String, String)>>,
    /// Tables in the order in which they were replaced, with the number of their entries.
    pub tables: async_channel::Receiver<(String, usize)>,
    replaced: async_channel::Sender<(String, usize)>,
}

impl Watched {
    pub fn new(inner: Arc<Simulator>) -> Self {
        let (replaced, tables) = async_channel::unbounded();
        Self { inner, refused: None, loads: AtomicUsize::new(0), checks: Mutex::default(), tables, replaced }
    }
    pub fn refusing(self, word: &'static str) -> Self {
        Self { refused: Some(word), ..self }
    }
    pub fn loads(&self) -> usize {
        self.loads.load(Ordering::SeqCst)
    }
    /// Anchor and text of every check since the last time.
    pub fn take_checks(&self) -> Vec<(String, String)> {
        std::mem::take(&mut self.checks.lock().unwrap())
    }
    /// Tables replaced since the last time.
    pub fn take_tables(&self) -> Vec<(String, usize)> {
        std::iter::from_fn(|| self.tables.try_recv().ok()).collect()
    }
}

impl Pf for Watched {
    fn is_simulated(&self) -> bool {
        self.inner.is_simulated()
    }
    fn check(&self, anchor: AnchorName, text: &str) -> Result<(), PfError> {
        self.checks.lock().unwrap().push((anchor.unwrap_or_default().into(), text.into()));
        match self.refused.filter(|word| text.contains(word)) {
            Some(word) => {
                Err(PfError::Refused { anchor: "test".into(), message: format!("line 1: no {word}") })
            }
            None => self.inner.check(anchor, text),
        }
    }
    fn load(&self, anchor: AnchorName, text: &str) -> Result<(), PfError> {
        self.loads.fetch_add(1, Ordering::SeqCst);
        self.inner.load(anchor, text)
    }
    fn rules(&self, anchor: AnchorName) -> Result<(Vec<LoadedRule>, Vec<LoadedRule>), PfError> {
        self.inner.rules(anchor)
    }
    fn anchors(&self) -> Result<Vec<String>, PfError> {
        self.inner.anchors()
    }
    fn replace_table(&self, name: &TableName, entries: &[String]) -> Result<(), PfError> {
        self.inner.replace_table(name, entries)?;
        self.replaced.try_send((name.to_string(), entries.len())).unwrap();
        Ok(())
    }
    fn table(&self, name: &TableName) -> Result<Vec<String>, PfError> {
        self.inner.table(name)
    }
    fn tables(&self) -> Result<Vec<String>, PfError> {
        self.inner.tables()
    }
    fn states(&self) -> Result<Vec<StateEntry>, PfError> {
        self.inner.states()
    }
    fn info(&self) -> Result<PfInfo, PfError> {
        self.inner.info()
    }
    fn state_limit(&self) -> Result<u64, PfError> {
        self.inner.state_limit()
    }
    fn interfaces(&self) -> Result<Vec<InterfaceCounters>, PfError> {
        self.inner.interfaces()
    }
    fn kill_states_with_label(&self, label: &str) -> Result<u64, PfError> {
        self.inner.kill_states_with_label(label)
    }
    fn flush_states(&self) -> Result<u64, PfError> {
        self.inner.flush_states()
    }
    fn set_enabled(&self, enabled: bool) -> Result<(), PfError> {
        self.inner.set_enabled(enabled)
    }
    fn logged(&self) -> async_channel::Receiver<LoggedPacket> {
        self.inner.logged()
    }
}
