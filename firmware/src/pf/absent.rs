//! A host without a packet filter: every question is answered "cannot be reached".

use super::{AnchorName, InterfaceCounters, LoadedRule, LoggedPacket, Pf, PfError, PfInfo, StateEntry};
use crate::config::TableName;

/// No packet filter.
#[derive(Debug, Clone, Copy, Default)]
pub struct Absent;

fn absent<T>() -> Result<T, PfError> {
    Err(PfError::Unreachable("this host has no packet filter".into()))
}

impl Pf for Absent {
    fn is_simulated(&self) -> bool {
        false
    }
    fn check(&self, _: AnchorName, _: &str) -> Result<(), PfError> {
        absent()
    }
    fn load(&self, _: AnchorName, _: &str) -> Result<(), PfError> {
        absent()
    }
    fn rules(&self, _: AnchorName) -> Result<(Vec<LoadedRule>, Vec<LoadedRule>), PfError> {
        absent()
    }
    fn anchors(&self) -> Result<Vec<String>, PfError> {
        absent()
    }
    fn replace_table(&self, _: &TableName, _: &[String]) -> Result<(), PfError> {
        absent()
    }
    fn table(&self, _: &TableName) -> Result<Vec<String>, PfError> {
        absent()
    }
    fn tables(&self) -> Result<Vec<String>, PfError> {
        absent()
    }
    fn states(&self) -> Result<Vec<StateEntry>, PfError> {
        absent()
    }
    fn info(&self) -> Result<PfInfo, PfError> {
        absent()
    }
    fn state_limit(&self) -> Result<u64, PfError> {
        absent()
    }
    fn limits(&self) -> Result<Vec<(String, u64)>, PfError> {
        absent()
    }
    fn timeouts(&self) -> Result<Vec<(String, u64)>, PfError> {
        absent()
    }
    fn set_options(&self, _: &str) -> Result<(), PfError> {
        absent()
    }
    fn interfaces(&self) -> Result<Vec<InterfaceCounters>, PfError> {
        absent()
    }
    fn kill_states_with_label(&self, _: &str) -> Result<u64, PfError> {
        absent()
    }
    fn flush_states(&self) -> Result<u64, PfError> {
        absent()
    }
    fn set_enabled(&self, _: bool) -> Result<(), PfError> {
        absent()
    }
    fn logged(&self) -> async_channel::Receiver<LoggedPacket> {
        async_channel::bounded(1).1
    }
}
