//! One second of the appliance: what was sampled, and the frame that clients get, serialised once for each
//! combination of permissions that some client has.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use serde::Serialize;

use super::blocked::Logged;
use super::history::Entry;
use super::states::{StateTable, tick_row};
use super::view::{
    IdsView, InterfaceView, MemoryBreakdown, ServiceView, SlimIds, Status, SystemView, TunnelView,
};
use crate::config::{Permission, PermissionSet};

/// States in a tick.
pub const CONNECTIONS: usize = 2000;
/// Blocked packets in a tick.
pub const BLOCKED: usize = 50;

/// A frame, shared between all clients that are sent it.
pub type Shared = Arc<[u8]>;

/// What the sampler knows at one second.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Counts the seconds since the start.
    pub number: u64,
    /// Unix milliseconds.
    pub ts: i64,
    pub taken: Instant,
    pub status: Status,
    pub system: SystemView,
    pub memory: MemoryBreakdown,
    pub interfaces: Vec<InterfaceView>,
    pub services: Vec<ServiceView>,
    pub vpn: Option<Vec<TunnelView>>,
    pub ids: Option<IdsView>,
}

/// Which parts of a tick a client may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Audience {
    pub connections: bool,
    pub vpn: bool,
    pub ids: bool,
}

impl Audience {
    pub fn of(permissions: PermissionSet) -> Self {
        Self {
            connections: permissions.contains(Permission::ConnectionsView),
            vpn: permissions.contains(Permission::VpnRead),
            ids: permissions.contains(Permission::IdsRead),
        }
    }
    fn index(self) -> usize {
        usize::from(self.connections) | usize::from(self.vpn) << 1 | usize::from(self.ids) << 2
    }
}

/// A sample with what only listeners need.
#[derive(Debug)]
pub struct Tick {
    pub sample: Arc<Sample>,
    states: Arc<StateTable>,
    /// Oldest first.
    blocked: Vec<Arc<Logged>>,
    frames: [OnceLock<Shared>; 8],
}

impl Tick {
    pub fn new(sample: Arc<Sample>, states: Arc<StateTable>, blocked: Vec<Arc<Logged>>) -> Self {
        Self { sample, states, blocked, frames: Default::default() }
    }

    /// The `status_update` frame for clients with these permissions.
    pub fn frame(&self, audience: Audience) -> Shared {
        self.frames[audience.index()].get_or_init(|| self.serialise(audience).into()).clone()
    }

    fn serialise(&self, audience: Audience) -> Vec<u8> {
        let sample = &*self.sample;
        let mut object = ObjectWriter::new();
        object.field("type", &"status_update");
        object.field("ts", &sample.ts);
        object.field("status", &sample.status);
        object.field("system", &sample.system);
        object.field("interfaces", &sample.interfaces);
        object.field("services", &sample.services);
        object.field("connection_summary", &self.states.summary);
        if audience.connections {
            let connections: Vec<_> = self.states.entries.iter().take(CONNECTIONS).map(tick_row).collect();
            let blocked: Vec<_> = self.blocked.iter().map(|packet| packet.brief()).collect();
            object.field("connections", &connections);
            object.field("blocked", &blocked);
            object.field("top_talkers", &self.states.talkers());
        } else {
            let nothing: [(); 0] = [];
            object.field("connections", &nothing);
            object.field("blocked", &nothing);
            object.field("top_talkers", &nothing);
        }
        if let Some(vpn) = sample.vpn.as_ref().filter(|tunnels| audience.vpn && !tunnels.is_empty()) {
            object.field("vpn", vpn);
        }
        if let Some(ids) = sample.ids.as_ref().filter(|_| audience.ids) {
            object.field("ids", ids);
        }
        object.finish()
    }
}

impl Sample {
    /// The slim tick that the history keeps.
    pub fn history_entry(&self) -> Entry {
        let mut object = ObjectWriter::new();
        object.field("type", &"status_update");
        object.field("ts", &self.ts);
        object.field("status", &self.status);
        object.field("system", &self.system);
        object.field("interfaces", &self.interfaces);
        object.field("services", &self.services);
        let ids = self.ids.as_ref().map(|ids| json(&SlimIds::from(ids)));
        Entry::new(object.unclosed(), ids.as_deref())
    }
}

/// Serialising our own types into memory does not fail: keys are strings, and numbers that are not finite are
/// kept out by the sampler.
fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_else(|_| b"null".to_vec())
}

/// A JSON object, field by field.
struct ObjectWriter(Vec<u8>);

impl ObjectWriter {
    fn new() -> Self {
        Self(vec![b'{'])
    }
    fn field(&mut self, name: &str, value: &impl Serialize) {
        if self.0.len() > 1 {
            self.0.push(b',');
        }
        self.0.extend_from_slice(&json(&name));
        self.0.push(b':');
        self.0.extend_from_slice(&json(value));
    }
    fn unclosed(self) -> Vec<u8> {
        self.0
    }
    fn finish(mut self) -> Vec<u8> {
        self.0.push(b'}');
        self.0
    }
}
