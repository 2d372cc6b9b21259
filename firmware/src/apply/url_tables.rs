//! URL tables: lists of addresses that live on a web server and fill a pf table. Each is fetched when it is
//! saved, on reload, and at its own interval; a table is replaced in pf when its list has changed, and no rule
//! is ever loaded for it. The last good copy lasts across failures and restarts.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::config::{Alias, AliasKind, Config, Id, Timestamp};
use crate::platform::fetch::{FetchError, Fetched, Limits, Validators, fetch};

const DEFAULT_REFRESH: Duration = Duration::from_secs(24 * 3600);
const LIMIT_BYTES: u64 = 16 * 1024 * 1024;
const LIMIT_TIME: Duration = Duration::from_secs(30);
/// After a failure the next attempt comes at the latest after this.
const RETRY: Duration = Duration::from_secs(300);

/// One list as it was fetched last.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Source {
    url: String,
    validators: Validators,
    entries: Vec<String>,
}

/// The copy of one alias, as it lies on disk.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Stored {
    sources: Vec<Source>,
    fetched_at: Option<Timestamp>,
}

#[derive(Debug, Default)]
struct Table {
    stored: Stored,
    entries: Arc<Vec<String>>,
    due: Option<Instant>,
    error: Option<String>,
}

/// What is known of a URL table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct UrlTableStatus {
    /// Addresses and networks in the table.
    pub entries: usize,
    pub fetched_at: Option<Timestamp>,
    /// Why the last fetch failed; the copy before it stays in use.
    pub error: Option<String>,
}

/// The copies of all URL tables.
pub struct UrlTables {
    directory: PathBuf,
    inside_allowed: bool,
    tables: Mutex<HashMap<Id, Table>>,
    /// Counts fetches that have ended.
    fetches: AtomicU64,
    wake: (async_channel::Sender<()>, async_channel::Receiver<()>),
}

impl UrlTables {
    /// Copies are kept in `directory`. `inside_allowed`: private and loopback servers may be asked.
    pub fn new(directory: impl Into<PathBuf>, inside_allowed: bool) -> Self {
        let tables = Mutex::default();
        let fetches = AtomicU64::default();
        Self { directory: directory.into(), inside_allowed, tables, fetches, wake: async_channel::bounded(1) }
    }

    fn path(&self, id: Id) -> PathBuf {
        self.directory.join(format!("{id}.json"))
    }

    fn with_table<T>(&self, id: Id, f: impl FnOnce(&mut Table) -> T) -> T {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let table = tables.entry(id).or_insert_with(|| {
            let text = std::fs::read(self.path(id)).unwrap_or_default();
            let stored: Stored = serde_json::from_slice(&text).unwrap_or_default();
            Table { entries: Arc::new(union(&stored.sources)), stored, ..Table::default() }
        });
        f(table)
    }

    /// The entries of the last good copy; empty before the first.
    pub fn entries(&self, id: Id) -> Arc<Vec<String>> {
        self.with_table(id, |table| table.entries.clone())
    }

    pub fn status(&self, id: Id) -> UrlTableStatus {
        self.with_table(id, |table| UrlTableStatus {
            entries: table.entries.len(),
            fetched_at: table.stored.fetched_at,
            error: table.error.clone(),
        })
    }

    /// How many fetches have ended, well or not: while it stays, so does every status.
    pub fn fetches(&self) -> u64 {
        self.fetches.load(Ordering::Acquire)
    }

    /// Makes every table due at once.
    pub fn refresh_all(&self) {
        for table in self.tables.lock().unwrap_or_else(PoisonError::into_inner).values_mut() {
            table.due = None;
        }
        // Full means that somebody has already asked.
        self.wake.0.try_send(()).ok();
    }

    /// Receives when tables were made due out of turn.
    pub fn woken(&self) -> async_channel::Receiver<()> {
        self.wake.1.clone()
    }

    /// Forgets copies of aliases that are gone, and tells which of the others are due, and when the next one is.
    pub fn due(&self, config: &Config) -> (Vec<Arc<Alias>>, Option<Instant>) {
        let now = Instant::now();
        let wanted: Vec<Arc<Alias>> = config
            .aliases
            .iter()
            .filter(|alias| alias.alias_type == AliasKind::UrlTable && alias.enabled)
            .cloned()
            .collect();
        {
            let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
            tables.retain(|id, _| {
                let stays = config.aliases.contains(id);
                if !stays {
                    std::fs::remove_file(self.path(*id)).ok();
                }
                stays
            });
        }
        let mut due = Vec::new();
        let mut next: Option<Instant> = None;
        for alias in wanted {
            let at = self.with_table(alias.id, |table| {
                let same = table.stored.sources.iter().map(|source| &source.url).eq(alias.entries.iter());
                if !same {
                    table.due = Some(now);
                }
                *table.due.get_or_insert(now)
            });
            if at <= now {
                due.push(alias);
            } else {
                next = Some(next.map_or(at, |next| next.min(at)));
            }
        }
        (due, next)
    }

    /// Fetches an alias's lists; `true` when its entries have changed. Blocking.
    pub fn refresh(&self, alias: &Alias) -> bool {
        let before = self.with_table(alias.id, |table| table.stored.clone());
        let limits = Limits { bytes: LIMIT_BYTES, time: LIMIT_TIME, inside_allowed: self.inside_allowed };
        let interval = alias.refresh_secs.map_or(DEFAULT_REFRESH, |secs| Duration::from_secs(secs.into()));
        let mut error = None;
        let sources: Vec<Source> = alias
            .entries
            .iter()
            .map(|url| {
                let known = before.sources.iter().find(|source| source.url == *url).cloned();
                match refresh_source(url, known.clone(), limits) {
                    Ok(source) => source,
                    Err(failure) => {
                        log::warn!("URL table {}: {failure}", alias.name);
                        error = Some(failure.to_string());
                        known.unwrap_or_else(|| Source { url: url.clone(), ..Source::default() })
                    }
                }
            })
            .collect();
        let failed = error.is_some();
        let fetched_at = if failed { before.fetched_at } else { Some(Timestamp::now()) };
        let stored = Stored { sources, fetched_at };
        self.keep(alias.id, &stored);
        let changed = self.with_table(alias.id, |table| {
            let entries = union(&stored.sources);
            let changed = *table.entries != entries;
            if changed {
                table.entries = Arc::new(entries);
            }
            table.stored = stored;
            table.error = error;
            table.due = Some(Instant::now() + if failed { interval.min(RETRY) } else { interval });
            changed
        });
        self.fetches.fetch_add(1, Ordering::Release);
        changed
    }

    fn keep(&self, id: Id, stored: &Stored) {
        let path = self.path(id);
        let temporary = path.with_extension("new");
        let kept = std::fs::create_dir_all(&self.directory)
            .and_then(|()| std::fs::write(&temporary, serde_json::to_vec(stored).unwrap_or_default()))
            .and_then(|()| std::fs::rename(&temporary, &path));
        if let Err(error) = kept {
            // The table works without the copy on disk; only a restart would miss it.
            log::warn!("URL table copy {}: {error}", path.display());
        }
    }
}

fn refresh_source(url: &str, known: Option<Source>, limits: Limits) -> Result<Source, FetchError> {
    let validators = known.as_ref().map(|source| source.validators.clone()).unwrap_or_default();
    match (fetch(url, &validators, limits)?, known) {
        (Fetched::NotModified, Some(source)) => Ok(source),
        (Fetched::NotModified, None) => Ok(Source { url: url.to_owned(), ..Source::default() }),
        (Fetched::Document { body, validators }, _) => {
            let entries = parse_list(&String::from_utf8_lossy(&body));
            Ok(Source { url: url.to_owned(), validators, entries })
        }
    }
}

fn union(sources: &[Source]) -> Vec<String> {
    let mut seen = std::collections::HashSet::new();
    let all = sources.iter().flat_map(|source| &source.entries);
    all.filter(|entry| seen.insert(entry.as_str())).cloned().collect()
}

/// The addresses and networks of a list: the first word of each line, `#` and `;` begin comments, other
/// words are passed over.
pub fn parse_list(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| line.split(['#', ';']).next()?.split_whitespace().next())
        .filter(|word| word.parse::<IpAddr>().is_ok() || word.parse::<IpNet>().is_ok())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_list_is_the_first_word_of_each_line() {
        let text = "# comment\n192.0.2.1 some text\n  2001:db8::/32 ; note\n\n10.0.0.0/8#x\nnot-an-address\n;192.0.2.9\n10.0.0.0/40\n";
        assert_eq!(parse_list(text), ["192.0.2.1", "2001:db8::/32", "10.0.0.0/8"]);
    }

    #[test]
    fn a_copy_lasts_and_goes_with_its_alias() {
        let directory = tempfile::tempdir().unwrap();
        let id = Id::new_v4();
        let tables = UrlTables::new(directory.path(), true);
        let source =
            Source { url: "http://x/".into(), entries: vec!["192.0.2.1".into()], ..Source::default() };
        tables.keep(id, &Stored { sources: vec![source], fetched_at: None });
        let reopened = UrlTables::new(directory.path(), true);
        assert_eq!(*reopened.entries(id), ["192.0.2.1"]);
        reopened.due(&Config::default());
        assert!(!directory.path().join(format!("{id}.json")).exists());
    }
}
