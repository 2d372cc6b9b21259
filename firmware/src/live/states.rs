//! The state table at one moment, and what is told about it: a summary, the top talkers, rows for clients.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Instant;

use super::view::{Connection, ConnectionSummary, Talker};
use crate::pf::StateEntry;

/// Talkers in a tick.
const TALKERS: usize = 10;

/// pf's state table as it was read at `at`, largest by bytes first, then by id.
#[derive(Debug)]
pub struct StateTable {
    pub at: Instant,
    pub entries: Vec<StateEntry>,
    pub summary: ConnectionSummary,
}

impl StateTable {
    pub fn new(at: Instant, mut entries: Vec<StateEntry>) -> Self {
        entries
            .sort_unstable_by_key(|state| (std::cmp::Reverse(state.bytes.0 + state.bytes.1), wire_id(state)));
        let summary = summarise(&entries);
        Self { at, entries, summary }
    }

    /// The summary alone.
    pub fn without_entries(self) -> Self {
        Self { entries: Vec::new(), ..self }
    }

    /// The hosts whose connections carry most, both directions added.
    pub fn talkers(&self) -> Vec<Talker> {
        let mut by_host: HashMap<IpAddr, (u64, u64)> = HashMap::new();
        for state in &self.entries {
            let (bytes, connections) = by_host.entry(state.src.0).or_default();
            *bytes += state.bytes.0 + state.bytes.1;
            *connections += 1;
        }
        let mut talkers: Vec<Talker> =
            by_host.into_iter().map(|(ip, (bytes, connections))| Talker { ip, bytes, connections }).collect();
        talkers.sort_unstable_by_key(|talker| {
            (std::cmp::Reverse((talker.bytes, talker.connections)), talker.ip)
        });
        talkers.truncate(TALKERS);
        talkers
    }
}

fn summarise(entries: &[StateEntry]) -> ConnectionSummary {
    let mut summary = ConnectionSummary { total: entries.len() as u64, ..Default::default() };
    for state in entries {
        match state.protocol.as_str() {
            "tcp" => summary.tcp += 1,
            "udp" => summary.udp += 1,
            protocol if protocol.starts_with("icmp") || protocol == "ipv6-icmp" => summary.icmp += 1,
            _ => summary.other += 1,
        }
    }
    summary
}

/// A state's id as a number that JavaScript keeps exactly (53 bits). pfctl prints ids in network byte order,
/// so that neighbours differ in the *high* bits (`40b3046b00000000`, `41b3046b00000000`): these are folded onto
/// the low ones instead of being cut off.
pub fn wire_id(state: &StateEntry) -> u64 {
    const KEPT: u32 = 53;
    (state.id & ((1 << KEPT) - 1)) ^ (state.id >> KEPT)
}

/// A state as clients see it.
pub fn row(state: &StateEntry) -> Connection<'_> {
    Connection {
        id: wire_id(state),
        protocol: &state.protocol,
        src_addr: state.src.0,
        src_port: state.src.1,
        dst_addr: state.dst.0,
        dst_port: state.dst.1,
        state: &state.state,
        packets_in: state.packets.0,
        bytes_in: state.bytes.0,
        packets_out: state.packets.1,
        bytes_out: state.bytes.1,
        age_secs: state.age.as_secs(),
        iface: state.interface.as_deref(),
        rtable: state.rtable,
    }
}

/// As [`row`], without what a tick leaves out.
pub fn tick_row(state: &StateEntry) -> Connection<'_> {
    Connection { iface: None, rtable: None, ..row(state) }
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use std::time::Duration;

    use super::*;

    pub(in crate::live) fn state(id: u64, protocol: &str, src: &str, bytes: (u64, u64)) -> StateEntry {
        StateEntry {
            id,
            protocol: protocol.into(),
            src: (src.parse().unwrap(), 40_000),
            dst: ("192.0.2.7".parse().unwrap(), 443),
            state: "ESTABLISHED:ESTABLISHED".into(),
            packets: (3, 4),
            bytes,
            age: Duration::from_secs(61),
            interface: None,
            rtable: None,
        }
    }

    #[test]
    fn ids_that_differ_in_the_high_bits_only_stay_apart() {
        // From pfctl -vvss of FreeBSD 15.1.
        let printed = [0x40b3046b00000000, 0x41b3046b00000000, 0x42b3046b00000000, 0x44b3046b00000000];
        let mut ids: Vec<u64> =
            printed.iter().map(|id| wire_id(&state(*id, "tcp", "10.0.0.1", (0, 0)))).collect();
        assert!(ids.iter().all(|id| *id < 1 << 53));
        ids.dedup();
        assert_eq!(ids.len(), 4);
        assert_eq!(wire_id(&state(17, "tcp", "10.0.0.1", (0, 0))), 17);
    }

    #[test]
    fn the_table_is_ordered_by_bytes_then_id_and_summarised() {
        let table = StateTable::new(
            Instant::now(),
            vec![
                state(9, "udp", "10.0.0.2", (5, 5)),
                state(3, "tcp", "10.0.0.1", (10, 0)),
                state(4, "ipv6-icmp", "fd00::1", (100, 1)),
                state(5, "esp", "10.0.0.2", (1, 0)),
            ],
        );
        assert_eq!(table.entries.iter().map(|state| state.id).collect::<Vec<_>>(), [4, 3, 9, 5]);
        assert_eq!(table.summary, ConnectionSummary { total: 4, tcp: 1, udp: 1, icmp: 1, other: 1 });
        let talkers = table.talkers();
        assert_eq!(talkers[0], Talker { ip: "fd00::1".parse().unwrap(), bytes: 101, connections: 1 });
        assert_eq!(talkers[1], Talker { ip: "10.0.0.2".parse().unwrap(), bytes: 11, connections: 2 });
        assert_eq!(talkers[2], Talker { ip: "10.0.0.1".parse().unwrap(), bytes: 10, connections: 1 });
    }
}
