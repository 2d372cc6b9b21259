//! Alerts: kept in memory and in a redb file beside the engine's data, bounded in bytes and age; acknowledged and
//! classified by people.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::ids::IdsSettings;
use crate::config::{Id, Timestamp};

const TABLE: TableDefinition<u64, &[u8]> = TableDefinition::new("alerts");
/// Newest alerts that are compared with for doubles.
const REMEMBERED: usize = 20_000;

/// How a person judges an alert.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Classification {
    #[default]
    Unreviewed,
    #[serde(alias = "true_positive")]
    Confirmed,
    FalsePositive,
    Investigating,
}

impl Classification {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreviewed => "unreviewed",
            Self::Confirmed => "confirmed",
            Self::FalsePositive => "false_positive",
            Self::Investigating => "investigating",
        }
    }
}

/// An alert, as the API shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Alert {
    pub id: Id,
    pub timestamp: Timestamp,
    pub signature_id: Option<u32>,
    pub signature_msg: String,
    /// 1 critical, 2 high, 3 medium, 4 info.
    pub severity: u8,
    pub src_ip: IpAddr,
    pub src_port: Option<u16>,
    pub dst_ip: IpAddr,
    pub dst_port: Option<u16>,
    /// Lower case.
    pub protocol: String,
    /// `alert`, `drop`, `reject` or `pass`.
    pub action: String,
    /// `et_open` or `custom`.
    pub rule_source: String,
    pub flow_id: Option<String>,
    /// The first 256 characters.
    pub payload_excerpt: Option<String>,
    pub metadata: Option<BTreeMap<String, String>>,
    pub acknowledged: bool,
    pub classification: Classification,
    pub analyst_notes: Option<String>,
}

/// An alert with what is shown of a single one only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stored {
    #[serde(flatten)]
    pub alert: Alert,
    /// When it was read; what its own time says may be the past.
    pub received: Timestamp,
    /// Base64.
    pub payload: Option<String>,
    /// The engine's record.
    pub event: Option<Value>,
}

/// The alerts of this appliance. The file is opened when there is something to read or to write.
pub struct Alerts {
    path: PathBuf,
    inner: Mutex<Inner>,
    database: OnceLock<Option<Database>>,
}

#[derive(Default)]
struct Inner {
    /// What was kept has been read.
    looked: bool,
    /// Oldest first: number, alert, bytes.
    held: VecDeque<(u64, Arc<Stored>, u64)>,
    bytes: u64,
    next: u64,
    seen: HashSet<String>,
    order: VecDeque<String>,
    /// Since the store was made.
    total: u64,
    listeners: Vec<async_channel::Sender<Arc<Stored>>>,
}

/// How full the store is.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    pub count: usize,
    pub bytes: u64,
    pub oldest: Option<Timestamp>,
    pub total: u64,
}

impl Alerts {
    /// Alerts that are kept in a directory.
    pub fn new(data: &Path) -> Self {
        Self { path: data.join("alerts.redb"), inner: Mutex::default(), database: OnceLock::new() }
    }

    /// The file; one that cannot be read is put aside. `None` = alerts are kept in memory only.
    fn database(&self) -> Option<&Database> {
        let open = || {
            let path = &self.path;
            if let Some(directory) = path.parent()
                && let Err(error) = crate::services::files::make_directory(directory, 0o755)
            {
                log::warn!("alerts: {error}");
            }
            let opened = Database::create(path).or_else(|error| {
                log::error!("{}: {error}; begun anew", path.display());
                std::fs::rename(path, path.with_extension("damaged")).ok();
                Database::create(path)
            });
            opened.map_err(|error| log::error!("{}: {error}; alerts are kept in memory", path.display())).ok()
        };
        self.database.get_or_init(open).as_ref()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::mem::replace(&mut inner.looked, true)
            && self.path.exists()
            && let Some(database) = self.database()
            && let Err(error) = read(database, &mut inner)
        {
            log::error!("{}: {error}", self.path.display());
        }
        inner
    }

    /// Takes alerts that are new, each under a key that is the same for the same alert. Returns those taken. Blocks.
    pub fn add(&self, new: Vec<(String, Stored)>, settings: &IdsSettings) -> Vec<Arc<Stored>> {
        let mut taken = Vec::new();
        let mut rows: Vec<(u64, Vec<u8>)> = Vec::new();
        let mut gone = Vec::new();
        {
            let mut inner = self.lock();
            for (key, stored) in new {
                if !inner.seen.insert(key.clone()) {
                    continue;
                }
                inner.order.push_back(key);
                if inner.order.len() > REMEMBERED
                    && let Some(old) = inner.order.pop_front()
                {
                    inner.seen.remove(&old);
                }
                let row = serde_json::to_vec(&stored).unwrap_or_default();
                let (number, stored) = (inner.next, Arc::new(stored));
                inner.next += 1;
                inner.total += 1;
                inner.bytes += row.len() as u64;
                inner.held.push_back((number, stored.clone(), row.len() as u64));
                rows.push((number, row));
                taken.push(stored);
            }
            let most = u64::from(settings.alert_buffer_mb) << 20;
            while inner.bytes > most
                && let Some((number, _, bytes)) = inner.held.pop_front()
            {
                inner.bytes -= bytes;
                gone.push(number);
            }
            for stored in &taken {
                inner
                    .listeners
                    .retain(|listener| !listener.is_closed() && listener.force_send(stored.clone()).is_ok());
            }
        }
        self.write(rows, gone);
        taken
    }

    /// New alerts, as they come; a slow listener loses the oldest.
    pub fn listen(&self) -> async_channel::Receiver<Arc<Stored>> {
        let (sender, receiver) = async_channel::bounded(256);
        self.lock().listeners.push(sender);
        receiver
    }

    /// All, newest first.
    pub fn newest_first(&self) -> Vec<Arc<Stored>> {
        self.lock().held.iter().rev().map(|(_, stored, _)| stored.clone()).collect()
    }

    pub fn get(&self, id: Id) -> Option<Arc<Stored>> {
        self.lock()
            .held
            .iter()
            .rev()
            .map(|(_, stored, _)| stored)
            .find(|stored| stored.alert.id == id)
            .cloned()
    }

    pub fn usage(&self) -> Usage {
        let inner = self.lock();
        Usage {
            count: inner.held.len(),
            bytes: inner.bytes,
            oldest: inner.held.front().map(|(_, stored, _)| stored.alert.timestamp),
            total: inner.total,
        }
    }

    /// Changes one; `false` = there is none. Blocks.
    pub fn edit(&self, id: Id, edit: impl FnOnce(&mut Alert)) -> bool {
        let row = {
            let mut inner = self.lock();
            let Some(at) = inner.held.iter().rposition(|(_, stored, _)| stored.alert.id == id) else {
                return false;
            };
            let (number, stored, bytes) = &mut inner.held[at];
            let mut changed = (**stored).clone();
            edit(&mut changed.alert);
            let row = serde_json::to_vec(&changed).unwrap_or_default();
            let (old, new) = (*bytes, row.len() as u64);
            *stored = Arc::new(changed);
            *bytes = new;
            let number = *number;
            inner.bytes = inner.bytes - old + new;
            (number, row)
        };
        self.write(vec![row], Vec::new());
        true
    }

    /// Removes those that were received before a moment (all without one). Returns how many. Blocks.
    pub fn purge(&self, before: Option<Timestamp>) -> usize {
        let gone: Vec<u64> = {
            let mut inner = self.lock();
            let old = |stored: &Stored| before.is_none_or(|before| stored.received < before);
            let (out, kept): (Vec<_>, Vec<_>) =
                std::mem::take(&mut inner.held).into_iter().partition(|(_, stored, _)| old(stored));
            inner.held = kept.into();
            inner.bytes = inner.held.iter().map(|(_, _, bytes)| bytes).sum();
            out.into_iter().map(|(number, ..)| number).collect()
        };
        let count = gone.len();
        self.write(Vec::new(), gone);
        count
    }

    /// Drops what is more than `megabytes` (MiB), and what was received longer than `seconds` ago. Blocks.
    pub fn fit(&self, megabytes: u32, seconds: u32) {
        let most = u64::from(megabytes) << 20;
        let mut gone = Vec::new();
        {
            let mut inner = self.lock();
            while inner.bytes > most
                && let Some((number, _, bytes)) = inner.held.pop_front()
            {
                inner.bytes -= bytes;
                gone.push(number);
            }
        }
        self.write(Vec::new(), gone);
        if let Ok(before) = Timestamp::from_second(Timestamp::now().as_second() - i64::from(seconds)) {
            self.purge(Some(before));
        }
    }

    fn write(&self, rows: Vec<(u64, Vec<u8>)>, gone: Vec<u64>) {
        if rows.is_empty() && gone.is_empty() {
            return;
        }
        let Some(database) = self.database() else { return };
        let written = || -> Result<(), redb::Error> {
            let mut transaction = database.begin_write()?;
            // Alerts may be lost to a power cut: the engine's own log has them, and is read again.
            transaction.set_durability(redb::Durability::None)?;
            {
                let mut table = transaction.open_table(TABLE)?;
                for (number, row) in &rows {
                    table.insert(number, row.as_slice())?;
                }
                for number in &gone {
                    table.remove(number)?;
                }
            }
            transaction.commit()?;
            Ok(())
        };
        if let Err(error) = written() {
            log::warn!("alerts: {error}");
        }
    }

    /// Makes what was written last until a power cut.
    pub fn sync(&self) {
        let Some(Some(database)) = self.database.get() else { return };
        if let Err(error) = database
            .begin_write()
            .map_err(redb::Error::from)
            .and_then(|transaction| Ok(transaction.commit()?))
        {
            log::warn!("alerts: {error}");
        }
    }
}

/// The same alert has the same key, also when it is read twice.
pub fn key_of(event: &Value) -> String {
    let part = |path: &str| event.pointer(path).map(ToString::to_string).unwrap_or_default();
    [part("/timestamp"), part("/flow_id"), part("/alert/signature_id"), part("/tx_id"), part("/pcap_cnt")]
        .join("|")
}

fn read(database: &Database, inner: &mut Inner) -> Result<(), redb::Error> {
    let transaction = database.begin_read()?;
    let table = match transaction.open_table(TABLE) {
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(()),
        table => table?,
    };
    for row in table.iter()? {
        let (number, row) = row?;
        let Ok(stored) = serde_json::from_slice::<Stored>(row.value()) else { continue };
        let bytes = row.value().len() as u64;
        inner.bytes += bytes;
        inner.next = number.value() + 1;
        if let Some(event) = &stored.event {
            inner.seen.insert(key_of(event));
            inner.order.push_back(key_of(event));
        }
        inner.held.push_back((number.value(), Arc::new(stored), bytes));
    }
    inner.total = inner.next;
    Ok(())
}
