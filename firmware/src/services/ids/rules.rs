//! Rules: parsed from the files of their rulesets, searched, and written out as the one file that the engine reads.
//! Rulesets lie as they were fetched below one directory, a file each; what an administrator has decided about single
//! rules is configuration and comes in from there. Ids of rules are made from what they are (ruleset, gid, sid), so
//! that they outlive every new version.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use serde::{Deserialize, Serialize};

use crate::config::ids::{IdsRuleset, RuleAction, RuleFormat};
use crate::config::{Config, Id, Timestamp};
use crate::services::{ServiceError, files};

/// A rule of a ruleset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub id: Id,
    pub ruleset: Id,
    pub gid: u32,
    pub sid: u32,
    pub rev: u32,
    pub msg: String,
    /// 1 critical to 4 informational.
    pub severity: u8,
    /// As the ruleset has it: a line that is commented out is not.
    pub enabled: bool,
    /// Without the comment sign.
    pub text: Arc<str>,
    action: RuleAction,
    /// Sets a flowbit that other rules test.
    sets_flowbit: bool,
}

impl Rule {
    /// `gid:sid`
    pub fn key(&self) -> String {
        format!("{}:{}", self.gid, self.sid)
    }
}

/// How often a rule has matched, and when last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hits {
    pub count: u64,
    pub last: Option<Timestamp>,
}

/// What is known of a ruleset beside its configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RulesetState {
    pub last_updated: Option<Timestamp>,
    pub last_error: Option<String>,
    #[serde(default)]
    pub validators: crate::platform::fetch::Validators,
}

type Parsed = Arc<Vec<Rule>>;

/// All rules.
pub struct RuleBook {
    directory: PathBuf,
    parsed: RwLock<HashMap<Id, Parsed>>,
    states: Mutex<BTreeMap<Id, RulesetState>>,
    hits: Mutex<BTreeMap<String, Hits>>,
    classes: HashMap<String, u8>,
}

impl RuleBook {
    pub fn new(directory: PathBuf) -> Self {
        let read = |name: &str| std::fs::read(directory.join(name)).ok();
        let states = read("state.json").and_then(|text| serde_json::from_slice(&text).ok());
        let hits = read("hits.json").and_then(|text| serde_json::from_slice(&text).ok());
        let classes = ["/usr/local/etc/suricata", "/etc/suricata"]
            .iter()
            .find_map(|place| std::fs::read_to_string(Path::new(place).join("classification.config")).ok());
        Self {
            parsed: RwLock::default(),
            states: Mutex::new(states.unwrap_or_default()),
            hits: Mutex::new(hits.unwrap_or_default()),
            classes: priorities(&classes.unwrap_or_default()),
            directory,
        }
    }

    fn file(&self, ruleset: Id) -> PathBuf {
        self.directory.join(format!("{ruleset}.rules"))
    }

    /// The rules of a ruleset, by sid; read from the disk the first time.
    pub fn of(&self, ruleset: Id) -> Parsed {
        if let Some(known) = self.parsed.read().unwrap_or_else(PoisonError::into_inner).get(&ruleset) {
            return known.clone();
        }
        let text = std::fs::read(self.file(ruleset)).unwrap_or_default();
        let rules = Arc::new(self.parse(ruleset, &String::from_utf8_lossy(&text)));
        self.parsed.write().unwrap_or_else(PoisonError::into_inner).insert(ruleset, rules.clone());
        rules
    }

    fn parse(&self, ruleset: Id, text: &str) -> Vec<Rule> {
        let mut best: BTreeMap<(u32, u32), Rule> = BTreeMap::new();
        for line in text.lines() {
            let Some(rule) = parse_line(ruleset, line, &self.classes) else { continue };
            match best.get(&(rule.gid, rule.sid)) {
                Some(known) if known.rev >= rule.rev => {}
                _ => {
                    best.insert((rule.gid, rule.sid), rule);
                }
            }
        }
        let mut rules: Vec<Rule> = best.into_values().collect();
        rules.sort_by_key(|rule| (rule.sid, rule.gid));
        rules
    }

    /// Replaces a ruleset's rules as a whole; refuses text in which there is none, and keeps the old ones. Returns how
    /// many there are now.
    pub fn replace(&self, ruleset: Id, text: &str) -> Result<usize, ServiceError> {
        let rules = self.parse(ruleset, text);
        if rules.is_empty() {
            return Err(ServiceError::Refused("there is no rule in it".into()));
        }
        files::write(&self.file(ruleset), text.as_bytes(), 0o600)?;
        let count = rules.len();
        self.parsed.write().unwrap_or_else(PoisonError::into_inner).insert(ruleset, Arc::new(rules));
        Ok(count)
    }

    /// Forgets a ruleset with its rules.
    pub fn remove(&self, ruleset: Id) {
        std::fs::remove_file(self.file(ruleset)).ok();
        self.parsed.write().unwrap_or_else(PoisonError::into_inner).remove(&ruleset);
        self.set_state(ruleset, None);
    }

    pub fn state(&self, ruleset: Id) -> RulesetState {
        self.states.lock().unwrap_or_else(PoisonError::into_inner).get(&ruleset).cloned().unwrap_or_default()
    }

    pub fn set_state(&self, ruleset: Id, state: Option<RulesetState>) {
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        match state {
            Some(state) => drop(states.insert(ruleset, state)),
            None => drop(states.remove(&ruleset)),
        }
        self.keep("state.json", &*states);
    }

    fn keep(&self, name: &str, what: &impl Serialize) {
        if let Ok(text) = serde_json::to_vec(what)
            && let Err(error) = files::write(&self.directory.join(name), &text, 0o600)
        {
            log::warn!("rules of the intrusion detection: {error}");
        }
    }

    pub fn hits(&self, key: &str) -> Hits {
        self.hits.lock().unwrap_or_else(PoisonError::into_inner).get(key).copied().unwrap_or_default()
    }

    /// Counts matches, by `gid:sid`.
    pub fn hit(&self, keys: impl IntoIterator<Item = (String, Timestamp)>) {
        let mut hits = self.hits.lock().unwrap_or_else(PoisonError::into_inner);
        let mut any = false;
        for (key, at) in keys {
            let hit = hits.entry(key).or_default();
            hit.count += 1;
            hit.last = hit.last.max(Some(at));
            any = true;
        }
        if any {
            self.keep("hits.json", &*hits);
        }
    }

    /// Every rule that the configuration knows, by sid, with its ruleset.
    pub fn all(&self, config: &Config) -> Vec<(Arc<IdsRuleset>, Parsed)> {
        let mut rulesets: Vec<&Arc<IdsRuleset>> = config.ids_rulesets.iter().collect();
        rulesets.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
        rulesets.into_iter().map(|ruleset| (ruleset.clone(), self.of(ruleset.id))).collect()
    }

    /// A rule by its id, or by its sid as a number.
    pub fn find(&self, config: &Config, wanted: &str) -> Option<Rule> {
        let by_id: Option<Id> = wanted.parse().ok();
        let by_sid: Option<u32> = wanted.parse().ok();
        let is = |rule: &&Rule| Some(rule.id) == by_id || Some(rule.sid) == by_sid;
        self.all(config).iter().find_map(|(_, rules)| rules.iter().find(is).cloned())
    }

    /// The file for the engine: enabled rules of enabled rulesets, each gid:sid once (the highest revision), their
    /// action as decided. And what about it is to be told.
    pub fn text(&self, config: &Config) -> (String, Vec<String>) {
        let mut best: BTreeMap<(u32, u32), Rule> = BTreeMap::new();
        let mut notes = Vec::new();
        for (ruleset, rules) in self.all(config) {
            if !ruleset.enabled {
                continue;
            }
            if ruleset.rule_format != RuleFormat::Suricata {
                notes.push(format!("ruleset {:?} is not in Suricata's language, and not used", ruleset.name));
                continue;
            }
            for rule in rules.iter() {
                match best.get(&(rule.gid, rule.sid)) {
                    Some(known) if known.rev >= rule.rev => {}
                    _ => drop(best.insert((rule.gid, rule.sid), rule.clone())),
                }
            }
        }
        let drops =
            if config.ids.mode == crate::config::ids::Mode::Ips { config.ids.ips_drop_severity } else { 0 };
        let mut text = String::new();
        for rule in best.values() {
            let decided = config.ids_overrides.get(&rule.key());
            let enabled = decided.and_then(|decided| decided.enabled).unwrap_or(rule.enabled);
            let action = decided.and_then(|decided| decided.action);
            let action = action
                .or((rule.severity <= drops && rule.action == RuleAction::Alert).then_some(RuleAction::Drop));
            if !enabled {
                // Others may test what it sets: it is kept, and silent.
                if rule.enabled && rule.sets_flowbit {
                    text.push_str(&silent(&rule.text));
                    text.push('\n');
                }
                continue;
            }
            match action {
                Some(action) => {
                    text.push_str(action.as_str());
                    text.push_str(rule.text.find(' ').map_or("", |at| &rule.text[at..]));
                }
                None => text.push_str(&rule.text),
            }
            text.push('\n');
        }
        (text, notes)
    }

    /// What a rule does now.
    pub fn action(&self, config: &Config, gid: u32, sid: u32) -> Option<RuleAction> {
        let key = format!("{gid}:{sid}");
        let decided = config.ids_overrides.get(&key).and_then(|decided| decided.action);
        decided.or_else(|| {
            let drops = config.ids.ips_drop_severity;
            self.all(config).iter().filter(|(ruleset, _)| ruleset.enabled).find_map(|(_, rules)| {
                let at = rules.binary_search_by_key(&(sid, gid), |rule| (rule.sid, rule.gid)).ok()?;
                let rule = &rules[at];
                Some(if rule.severity <= drops && rule.action == RuleAction::Alert {
                    RuleAction::Drop
                } else {
                    rule.action
                })
            })
        })
    }

    /// The ruleset of a rule.
    pub fn ruleset_of(&self, config: &Config, gid: u32, sid: u32) -> Option<Id> {
        self.all(config).iter().find_map(|(ruleset, rules)| {
            rules.binary_search_by_key(&(sid, gid), |rule| (rule.sid, rule.gid)).ok().map(|_| ruleset.id)
        })
    }
}

/// `config classification: name,text,priority`
fn priorities(text: &str) -> HashMap<String, u8> {
    let lines = text.lines().filter_map(|line| line.trim().strip_prefix("config classification:"));
    lines
        .filter_map(|rest| {
            let mut parts = rest.split(',');
            let name = parts.next()?.trim().to_owned();
            Some((name, parts.next_back()?.trim().parse().ok()?))
        })
        .collect()
}

/// The rule, which does what it does and says nothing.
fn silent(text: &str) -> String {
    match text.rfind(')') {
        Some(at) => format!("{} noalert;{}", text[..at].trim_end(), &text[at..]),
        None => text.to_owned(),
    }
}

/// A rule, active or commented out; `None` for everything else.
fn parse_line(ruleset: Id, line: &str, classes: &HashMap<String, u8>) -> Option<Rule> {
    let line = line.trim();
    let (enabled, text) = match line.strip_prefix('#') {
        Some(rest) => (false, rest.trim_start_matches(['#', ' '])),
        None => (true, line),
    };
    let action = match text.split_whitespace().next()? {
        "alert" => RuleAction::Alert,
        "drop" => RuleAction::Drop,
        "reject" | "rejectsrc" | "rejectdst" | "rejectboth" => RuleAction::Reject,
        "pass" => RuleAction::Pass,
        _ => return None,
    };
    let (begin, end) = (text.find('(')?, text.rfind(')')?);
    let options = options(text.get(begin + 1..end)?);
    let value = |name: &str| options.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let sid: u32 = value("sid")?.parse().ok()?;
    let gid = value("gid").and_then(|gid| gid.parse().ok()).unwrap_or(1);
    let msg = value("msg").unwrap_or_default().trim_matches('"').replace("\\;", ";").replace("\\\"", "\"");
    let priority = value("priority").and_then(|priority| priority.parse::<u8>().ok());
    let class = value("classtype").and_then(|class| classes.get(class).copied());
    let severity = priority.or(class).unwrap_or(3).clamp(1, 4);
    let sets_flowbit = options.iter().any(|(name, value)| {
        name == "flowbits" && (value.starts_with("set,") || value.starts_with("toggle,"))
    });
    Some(Rule {
        id: rule_id(ruleset, gid, sid),
        ruleset,
        gid,
        sid,
        rev: value("rev").and_then(|rev| rev.parse().ok()).unwrap_or(0),
        msg,
        severity,
        enabled,
        text: text.into(),
        action,
        sets_flowbit,
    })
}

fn rule_id(ruleset: Id, gid: u32, sid: u32) -> Id {
    let digest = ring::digest::digest(&ring::digest::SHA256, format!("{ruleset}:{gid}:{sid}").as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest.as_ref()[..16]);
    // Version 8 and the variant of RFC 9562.
    (bytes[6], bytes[8]) = (bytes[6] & 0x0f | 0x80, bytes[8] & 0x3f | 0x80);
    Id::from_bytes(bytes)
}

/// `name: value;` or `name;`, quotes and backslashes respected.
fn options(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let (mut current, mut quoted, mut escaped) = (String::new(), false, false);
    for c in text.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            ';' if !quoted => {
                let (name, value) = current.split_once(':').unwrap_or((&current, ""));
                found.push((name.trim().to_owned(), value.trim().to_owned()));
                current.clear();
                continue;
            }
            _ => {}
        }
        current.push(c);
    }
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::ids::{IdsOverride, seeds};

    const RULES: &str = r#"
# a comment
alert http any any -> any any (msg:"ET one\; two (x)"; content:"a;b"; classtype:trojan-activity; sid:2000001; rev:3;)
#alert tcp any any -> any any (msg:"off"; sid:2000002; rev:1;)
drop udp any any -> any 53 (msg:"bit"; flowbits:set,seen; priority:2; sid:2000003; rev:1;)
alert tcp any any -> any any (msg:"older"; sid:2000001; rev:2;)
nonsense
alert tcp any any -> any any (msg:"no sid";)
"#;

    fn book() -> (tempfile::TempDir, RuleBook, Config) {
        let dir = tempfile::tempdir().unwrap();
        let mut book = RuleBook::new(dir.path().join("rulesets"));
        book.classes =
            priorities("config classification: trojan-activity,A Network Trojan was detected, 1\n");
        let mut config = Config::default();
        config.ids_rulesets.insert(IdsRuleset { enabled: true, ..seeds().remove(0) });
        (dir, book, config)
    }

    #[test]
    fn rules_are_read_with_their_severity_and_keep_their_ids() {
        let (_dir, book, config) = book();
        let ruleset = seeds().remove(0).id;
        assert_eq!(book.replace(ruleset, RULES).unwrap(), 3);
        let rules = book.of(ruleset);
        let told: Vec<_> =
            rules.iter().map(|rule| (rule.sid, rule.msg.as_str(), rule.severity, rule.enabled)).collect();
        assert_eq!(
            told,
            [
                (2_000_001, "ET one; two (x)", 1, true),
                (2_000_002, "off", 3, false),
                (2_000_003, "bit", 2, true)
            ]
        );
        let id = rules[0].id;
        book.replace(ruleset, &RULES.replace("rev:3", "rev:4")).unwrap();
        assert_eq!((book.of(ruleset)[0].id, book.of(ruleset)[0].rev), (id, 4));
        assert_eq!(book.find(&config, "2000003").unwrap().msg, "bit");
        assert_eq!(book.find(&config, &id.to_string()).unwrap().sid, 2_000_001);
        assert!(book.replace(ruleset, "<html>").is_err());
        assert_eq!(book.of(ruleset).len(), 3, "what holds no rule replaces nothing");
        let again = RuleBook::new(book.directory.clone());
        assert_eq!(again.of(ruleset).len(), 3);
    }

    #[test]
    fn decisions_change_the_file_for_the_engine() {
        let (_dir, book, mut config) = book();
        let ruleset = seeds().remove(0).id;
        book.replace(ruleset, RULES).unwrap();
        let lines = |config: &Config| -> Vec<String> {
            book.text(config)
                .0
                .lines()
                .map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" "))
                .collect()
        };
        assert_eq!(lines(&config), ["alert http", "drop udp"]);
        let decide = |rule: &str, enabled, action| IdsOverride { rule: rule.into(), enabled, action };
        config.ids_overrides.insert(decide("1:2000001", None, Some(RuleAction::Drop)));
        config.ids_overrides.insert(decide("1:2000002", Some(true), None));
        config.ids_overrides.insert(decide("1:2000003", Some(false), None));
        assert_eq!(lines(&config), ["drop http", "alert tcp", "drop udp"]);
        assert!(book.text(&config).0.ends_with("rev:1; noalert;)\n"), "{}", book.text(&config).0);
        assert_eq!(book.action(&config, 1, 2_000_001), Some(RuleAction::Drop));
    }
}
