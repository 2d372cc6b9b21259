//! Blocklists, custom blocks and the whitelist (contract/dns.md §3 and §4). They act when they are written.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cron::Cron;
use super::names::as_text;
use crate::config::request::{Maybe, Refusal, check_text, text_or_none, text_or_null};
use crate::config::value::yes;
use crate::config::{BadValue, Config, Invalid, Object};

/// How a list is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    Hosts,
    Domains,
    Adblock,
    Rpz,
}

/// What a client is told that asks for a blocked name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BlockAction {
    #[default]
    Nxdomain,
    Nodata,
    /// Nothing.
    Drop,
    /// An address of the administrator's choice.
    Redirect,
}

/// A list of names to block, fetched from a web server. What is known of its fetches is no configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BlocklistSource {
    pub id: u64,
    pub name: String,
    pub category: String,
    pub url: String,
    pub format: Format,
    pub enabled: bool,
    pub action: BlockAction,
    pub redirect_ip: Option<IpAddr>,
    pub built_in: bool,
}

impl Object for BlocklistSource {
    type Key = u64;
    fn key(&self) -> u64 {
        self.id
    }
}

/// The administrator's own lists are numbered from here; below are those that come with the product.
const FIRST_OWN: u64 = 101;

/// Lists that come with the product, all off: name, category, format, URL.
const BUILT_IN: [(&str, &str, Format, &str); 14] = {
    use Format::{Domains, Hosts};
    [
        (
            "StevenBlack Hosts",
            "ads",
            Hosts,
            "https://raw.githubusercontent.com/StevenBlack/hosts/master/hosts",
        ),
        ("OISD Big", "ads", Domains, "https://big.oisd.nl/domainswild"),
        ("OISD NSFW", "adult", Domains, "https://nsfw.oisd.nl/domainswild"),
        ("AdGuard DNS", "ads", Domains, "https://v.firebog.net/hosts/AdguardDNS.txt"),
        ("EasyList", "ads", Domains, "https://v.firebog.net/hosts/Easylist.txt"),
        ("EasyPrivacy", "tracking", Domains, "https://v.firebog.net/hosts/Easyprivacy.txt"),
        ("Disconnect Tracking", "tracking", Domains, "https://v.firebog.net/hosts/Disconnect-Tracking.txt"),
        ("URLhaus", "malware", Hosts, "https://urlhaus.abuse.ch/downloads/hostfile/"),
        (
            "DigitalSide Threat",
            "malware",
            Domains,
            "https://osint.digitalside.it/Threat-Intel/lists/latestdomains.txt",
        ),
        (
            "Phishing Army",
            "phishing",
            Domains,
            "https://phishing.army/download/phishing_army_blocklist_extended.txt",
        ),
        (
            "NoCoin Mining",
            "crypto",
            Hosts,
            "https://raw.githubusercontent.com/hoshsadiq/adblock-nocoin-list/master/hosts.txt",
        ),
        ("CoinBlocker", "crypto", Hosts, "https://zerodot1.gitlab.io/CoinBlockerLists/hosts"),
        (
            "Smart-TV Tracking",
            "tracking",
            Hosts,
            "https://raw.githubusercontent.com/Perflyst/PiHoleBlocklist/master/SmartTV.txt",
        ),
        (
            "Facebook (social)",
            "social",
            Domains,
            "https://raw.githubusercontent.com/jmdugan/blocklists/master/corporations/facebook/all",
        ),
    ]
};

/// Every list, by id: those that come with the product as the administrator has changed them, and his own.
pub fn sources(config: &Config) -> Vec<Arc<BlocklistSource>> {
    let stored = &config.dns_blocklists;
    let built_in = BUILT_IN.iter().zip(1_u64..).filter(|(_, id)| !stored.contains(id));
    let untouched = built_in.map(|((name, category, format, url), id)| {
        Arc::new(BlocklistSource {
            id,
            name: (*name).into(),
            category: (*category).into(),
            url: (*url).into(),
            format: *format,
            enabled: false,
            action: BlockAction::Nxdomain,
            redirect_ip: None,
            built_in: true,
        })
    });
    let mut all: Vec<_> = untouched.chain(stored.iter().cloned()).collect();
    all.sort_by_key(|source| source.id);
    all
}

pub fn source(config: &Config, id: u64) -> Option<Arc<BlocklistSource>> {
    sources(config).into_iter().find(|source| source.id == id)
}

/// Body of POST.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct SourceRequest {
    pub name: String,
    pub category: String,
    /// `http://` or `https://`; the host must not be inside.
    pub url: String,
    pub format: Format,
    #[serde(default = "yes")]
    pub enabled: bool,
    #[serde(default)]
    pub action: BlockAction,
    #[serde(default, deserialize_with = "text_or_none")]
    pub redirect_ip: Option<IpAddr>,
}

/// Body of PUT: what is left out stays.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SourceChange {
    pub name: Option<String>,
    pub category: Option<String>,
    pub url: Option<String>,
    pub format: Option<Format>,
    pub enabled: Option<bool>,
    pub action: Option<BlockAction>,
    /// Empty clears.
    #[serde(deserialize_with = "text_or_null")]
    pub redirect_ip: Maybe<IpAddr>,
}

impl SourceRequest {
    /// The list under a new id, which `blocking` then counts on from.
    pub fn create(self, config: &Config, blocking: &mut Blocking) -> Result<BlocklistSource, Refusal> {
        let source = BlocklistSource {
            id: blocking.next_source,
            name: self.name.trim().into(),
            category: self.category.trim().into(),
            url: self.url.trim().into(),
            format: self.format,
            enabled: self.enabled,
            action: self.action,
            redirect_ip: self.redirect_ip,
            built_in: false,
        };
        source.check(config)?;
        blocking.next_source += 1;
        Ok(source)
    }
}

impl SourceChange {
    pub fn change(self, stored: &BlocklistSource, config: &Config) -> Result<BlocklistSource, Refusal> {
        let text =
            |new: Option<String>, old: &str| new.map_or_else(|| old.to_owned(), |new| new.trim().into());
        let source = BlocklistSource {
            id: stored.id,
            name: text(self.name, &stored.name),
            category: text(self.category, &stored.category),
            url: text(self.url, &stored.url),
            format: self.format.unwrap_or(stored.format),
            enabled: self.enabled.unwrap_or(stored.enabled),
            action: self.action.unwrap_or(stored.action),
            redirect_ip: self.redirect_ip.or_keep(stored.redirect_ip),
            built_in: stored.built_in,
        };
        source.check(config)?;
        Ok(source)
    }
}

impl BlocklistSource {
    fn check(&self, config: &Config) -> Result<(), Refusal> {
        for (field, text, most) in
            [("name", &self.name, 128), ("category", &self.category, 64), ("url", &self.url, 2048)]
        {
            if text.is_empty() {
                return Err(Invalid::new(field, "expected text that is not blank").into());
            }
            check_text(field, text, most)?;
        }
        check_url(&self.url).map_err(|bad| bad.field("url"))?;
        if self.action == BlockAction::Redirect && self.redirect_ip.is_none() {
            return Err(Invalid::new("redirect_ip", "expected an address, as action is redirect").into());
        }
        match sources(config).iter().any(|other| other.id != self.id && other.name == self.name) {
            true => Err(Refusal::Conflict(format!("name: there is already a list {:?}", self.name))),
            false => Ok(()),
        }
    }

    /// Whether a list fetched for `other` must be made anew.
    pub fn differs_from(&self, other: &Self) -> bool {
        (&self.url, self.format, self.action, self.redirect_ip)
            != (&other.url, other.format, other.action, other.redirect_ip)
    }
}

/// The name in a URL is looked at here; what it leads to, when it is connected to.
fn check_url(text: &str) -> Result<(), BadValue> {
    let bad = || BadValue::new("expected a URL that begins with http:// or https://");
    let url = url::Url::parse(text).map_err(|_| bad())?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(bad());
    }
    let ip = match url.host().ok_or_else(bad)? {
        url::Host::Domain(name) => {
            let name = name.trim_end_matches('.');
            return match name == "localhost" || name.ends_with(".localhost") {
                true => Err(BadValue::new("expected a host of the internet, not this one")),
                false => Ok(()),
            };
        }
        url::Host::Ipv4(ip) => IpAddr::V4(ip),
        url::Host::Ipv6(ip) => ip.to_canonical(),
    };
    let inside = match ip {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            let shared = a == 100 && (64..128).contains(&b);
            ip.is_loopback() || ip.is_private() || ip.is_link_local() || ip.is_broadcast() || a == 0 || shared
        }
        IpAddr::V6(ip) => {
            ip.is_loopback() || ip.is_unspecified() || ip.is_unicast_link_local() || ip.is_unique_local()
        }
    };
    match inside || ip.is_multicast() {
        true => Err(BadValue::new("expected a public address")),
        false => Ok(()),
    }
}

/// A name, or with `*.` in front every name below it. In lower case, without a final dot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern(Arc<str>);
as_text!(Pattern, "DnsPattern", "a name such as example.com, or *.example.com for the names below it");

impl Pattern {
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// The name without `*.`, and whether there was one.
    pub fn parts(&self) -> (&str, bool) {
        self.0.strip_prefix("*.").map_or((&*self.0, false), |name| (name, true))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether this is a name that can be blocked: labels of 1 to 63 letters (any case), digits, `-` inside and `_`, two
/// or more of them unless `single`, at most 253 bytes in all; no final dot.
pub fn is_name(name: &str, single: bool) -> bool {
    let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(fine)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && (single || name.contains('.')) && name.split('.').all(label)
}

impl FromStr for Pattern {
    type Err = BadValue;
    fn from_str(text: &str) -> Result<Self, BadValue> {
        let text = text.trim();
        let text = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let (name, below) = text.strip_prefix("*.").map_or((text.as_str(), false), |name| (name, true));
        match is_name(name, below) {
            true => Ok(Self(text.into())),
            false => Err(BadValue::new(
                "expected a name such as example.com or *.example.com: labels of 1 to 63 of a-z 0-9 _ -, at most 253 in all",
            )),
        }
    }
}

/// A custom block or an entry of the whitelist.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PatternEntry {
    pub id: u64,
    pub pattern: Pattern,
    pub note: Option<String>,
}

impl Object for PatternEntry {
    type Key = u64;
    fn key(&self) -> u64 {
        self.id
    }
    fn words(&self) -> Vec<Arc<str>> {
        vec![self.pattern.0.clone()]
    }
}

/// Body of POST.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct PatternRequest {
    pub pattern: Pattern,
    #[serde(default, deserialize_with = "text_or_none")]
    pub note: Option<String>,
}

impl PatternRequest {
    /// Refuses a note that is none; the pattern is valid by its type.
    pub fn check(&self) -> Result<(), Invalid> {
        self.note.as_ref().map_or(Ok(()), |note| check_text("note", note, 255))
    }
}

/// When lists are fetched, and whether they block at all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Blocking {
    pub cron: Cron,
    /// Fetched soon after a start of the appliance.
    pub on_boot: bool,
    /// Lists that are fetched at a time: 1 to 32.
    pub concurrency: u8,
    /// The master switch.
    pub enabled: bool,
    /// Ids are not used twice.
    pub next_source: u64,
    pub next_entry: u64,
}

impl Default for Blocking {
    fn default() -> Self {
        Self {
            // The text is a constant: every night at three.
            cron: "0 0 3 * * *".parse().unwrap_or_else(|_| Cron::never()),
            on_boot: true,
            concurrency: 4,
            enabled: false,
            next_source: FIRST_OWN,
            next_entry: 1,
        }
    }
}

/// Body of PUT of the schedule: what is left out stays.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ScheduleChange {
    pub cron: Option<Cron>,
    pub on_boot: Option<bool>,
    pub concurrency: Option<u8>,
    pub enabled: Option<bool>,
}

impl ScheduleChange {
    pub fn change(self, stored: &Blocking) -> Result<Blocking, Invalid> {
        let concurrency = self.concurrency.unwrap_or(stored.concurrency);
        if !(1..=32).contains(&concurrency) {
            return Err(Invalid::new("concurrency", "expected 1 to 32"));
        }
        Ok(Blocking {
            cron: self.cron.unwrap_or_else(|| stored.cron.clone()),
            on_boot: self.on_boot.unwrap_or(stored.on_boot),
            concurrency,
            enabled: self.enabled.unwrap_or(stored.enabled),
            ..stored.clone()
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn patterns_have_one_spelling() {
        let text = |text: &str| text.parse::<Pattern>().unwrap().to_string();
        assert_eq!(text(" Ads.Example.COM. "), "ads.example.com");
        assert_eq!(text("*._x.test"), "*._x.test");
        assert_eq!(text("*.test"), "*.test");
        let long = "a".repeat(64);
        for bad in
            ["com", "a..b", "-a.b", "a-.b", "*", "*.", "a.*.b", "a b.c", "ü.test", "", &format!("{long}.b")]
        {
            assert!(bad.parse::<Pattern>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_inside_is_no_source() {
        for good in ["https://lists.example/x", "http://8.8.8.8/", "https://[2600::1]/x"] {
            assert!(check_url(good).is_ok(), "{good}");
        }
        for bad in [
            "ftp://lists.example/",
            "http://127.0.0.1/x",
            "http://[::1]/",
            "http://10.1.2.3/",
            "http://0/",
            "http://0x7f000001/",
            "http://[::ffff:10.0.0.1]/",
            "http://localhost/",
            "http://a.localhost./",
            "http://169.254.169.254/",
            "x",
            "http://",
            "http://[fd00::1]/",
            "http://100.64.0.1/",
            "file:///etc/passwd",
        ] {
            assert!(check_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_fresh_system_has_fourteen_lists_and_none_is_on() {
        let all = sources(&Config::default());
        assert_eq!(all.len(), 14);
        assert!(
            all.iter()
                .all(|source| source.built_in && !source.enabled && source.check(&Config::default()).is_ok())
        );
    }
}
