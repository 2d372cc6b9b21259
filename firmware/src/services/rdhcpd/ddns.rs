//! Names of DHCP clients in the DNS: updates (RFC 2136, signed with TSIG, RFC 8945) that follow from the leases. The
//! daemon itself sends none. Only what was entered from here is ever replaced or removed: a name that somebody else
//! has stays theirs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hickory_proto::op::{ResponseCode, update_message};
use hickory_proto::rr::rdata::{A, AAAA, PTR};
use hickory_proto::rr::{Name, RData, Record, RecordSet};
use serde::{Deserialize, Serialize};

use super::client::Lease;
use crate::config::Config;
use crate::config::dhcp::DhcpDdns;
use crate::config::dhcp::remote::server;
use crate::services::dns_update::{self, Transport, UpdateError, UpdateServer, full_name};
use crate::services::files;

/// What was entered, or may have been.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entered {
    name: String,
    ttl: u32,
    /// The zone of `name`; empty where an earlier version did not note it.
    #[serde(default)]
    zone: String,
    /// The update was sent, and no answer has come yet.
    #[serde(default)]
    doubtful: bool,
    /// The reverse zone has it, too.
    reverse: bool,
    #[serde(default)]
    reverse_zone: String,
}

/// An update that failed, and is not tried again before `until`.
#[derive(Debug)]
struct Waiting {
    name: String,
    /// It was a removal.
    goes: bool,
    until: Instant,
    pause: Duration,
    error: String,
}

impl Waiting {
    fn is(&self, name: &str, goes: bool) -> bool {
        (self.name.as_str(), self.goes) == (name, goes)
    }
}

/// Keeps the DNS as the leases are.
#[derive(Debug, Default)]
pub struct Ddns {
    /// Held while the server is asked, which takes as long as it takes.
    work: Mutex<State>,
    last_error: Mutex<Option<String>>,
}

#[derive(Debug, Default)]
struct State {
    /// By address; `None` until it was read from the disk.
    entered: Option<BTreeMap<IpAddr, Entered>>,
    waiting: BTreeMap<IpAddr, Waiting>,
    settings: Option<DhcpDdns>,
}

impl Ddns {
    /// Why the last update failed, if it did. Does not wait for one that is under way.
    pub fn last_error(&self) -> Option<String> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Enters and removes what the leases (all of them that are bound) ask for; removes everything when the settings
    /// are off. `directory` keeps what was entered. Blocks; returns the number of updates made.
    pub fn follow(&self, config: &Config, leases: &[Lease], directory: PathBuf) -> usize {
        let path = directory.join("ddns.json");
        let settings = &*config.dhcp_ddns;
        let mut state = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        let read = || std::fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok());
        let mut entered = state.entered.take().unwrap_or_else(|| read().unwrap_or_default());
        if state.settings.as_ref() != Some(settings) {
            // What failed with other settings may not with these.
            state.waiting.clear();
            state.settings = Some(settings.clone());
        }
        let wanted = if settings.enabled { wanted(config, leases) } else { BTreeMap::new() };
        let mut made = 0;
        let mut error = None;
        if settings.enabled || (!entered.is_empty() && !settings.dns_server.is_empty()) {
            let keep = |entered: &BTreeMap<IpAddr, Entered>| {
                let text = serde_json::to_vec(entered).unwrap_or_default();
                if let Err(error) = files::write(&path, &text, 0o600) {
                    log::warn!("DDNS: {error}");
                }
            };
            match Updater::new(settings) {
                Ok(updater) => made = follow(&updater, &wanted, &mut entered, &mut state.waiting, &keep),
                Err(bad) => error = Some(bad.to_string()),
            }
        } else {
            state.waiting.clear();
        }
        state.entered = Some(entered);
        let error = error.or_else(|| state.waiting.values().next().map(|waiting| waiting.error.clone()));
        let mut last = self.last_error.lock().unwrap_or_else(PoisonError::into_inner);
        if *last != error
            && let Some(error) = &error
        {
            log::warn!("DDNS: {error}");
        }
        *last = error;
        made
    }
}

/// Names by address. A reservation's name wins over what its client says; of several clients of one name the last to
/// come has it.
fn wanted(config: &Config, leases: &[Lease]) -> BTreeMap<IpAddr, String> {
    let label = |name: &str| -> Option<String> {
        let first = name.split('.').next().unwrap_or_default().to_ascii_lowercase();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        let fits = (1..=63).contains(&first.len()) && first.bytes().all(plain);
        (fits && !first.starts_with('-') && !first.ends_with('-')).then_some(first)
    };
    let mut leases: Vec<&Lease> = leases.iter().filter(|lease| lease.state == "bound").collect();
    leases.sort_by_key(|lease| (lease.start_time, lease.ip));
    let mut owner: BTreeMap<(String, bool), IpAddr> = BTreeMap::new();
    for reserved in [false, true] {
        for lease in &leases {
            let reservation =
                config.dhcp_reservations.iter().find(|one| one.ip_address.parse() == Ok(lease.ip));
            if reservation.is_some() != reserved {
                continue;
            }
            let given = reservation.and_then(|one| one.hostname.clone()).or_else(|| lease.hostname.clone());
            if let Some(label) = given.as_deref().and_then(label) {
                owner.insert((label, lease.ip.is_ipv6()), lease.ip);
            }
        }
    }
    owner.into_iter().map(|((label, _), ip)| (ip, label)).collect()
}

const FIRST_PAUSE: Duration = Duration::from_secs(15);
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// One round: what is gone first, then what is new. `keep` writes down what was entered, before and after each update.
/// A server that does not answer ends the round.
fn follow(
    updater: &Updater,
    wanted: &BTreeMap<IpAddr, String>,
    entered: &mut BTreeMap<IpAddr, Entered>,
    waiting: &mut BTreeMap<IpAddr, Waiting>,
    keep: &dyn Fn(&BTreeMap<IpAddr, Entered>),
) -> usize {
    let full = |label: &str| format!("{label}.{}", updater.forward.to_utf8());
    let now = Instant::now();
    waiting.retain(|ip, _| wanted.contains_key(ip) || entered.contains_key(ip));
    let ips: BTreeSet<IpAddr> = entered.keys().chain(wanted.keys()).copied().collect();
    let mut made = 0;
    let is_gone = |ip: &IpAddr, entered: &BTreeMap<IpAddr, Entered>| {
        let stays = |known: &Entered| {
            wanted.get(ip).is_some_and(|label| full(label) == known.name) && updater.points(*ip, known)
        };
        entered.get(ip).is_some_and(|known| !stays(known))
    };
    // A name that goes may be another address's from now on.
    let (gone, others): (Vec<IpAddr>, Vec<IpAddr>) = ips.into_iter().partition(|ip| is_gone(ip, entered));
    for ip in
        gone.iter().copied().chain(others).chain(gone.iter().copied().filter(|ip| wanted.contains_key(ip)))
    {
        let goes = is_gone(&ip, entered);
        let name = match (goes, wanted.get(&ip), entered.get(&ip)) {
            (false, Some(label), _) => full(label),
            (_, _, Some(known)) => known.name.clone(),
            _ => continue,
        };
        if waiting.get(&ip).is_some_and(|held| held.is(&name, goes) && held.until > now) {
            continue;
        }
        let outcome = match goes {
            true => updater.remove(ip, entered, keep),
            false => updater.enter(ip, &name, entered, keep),
        };
        match outcome {
            Ok(updates) => {
                waiting.remove(&ip);
                made += updates;
            }
            Err(error) => {
                let before = waiting.get(&ip).filter(|held| held.is(&name, goes)).map(|held| held.pause * 2);
                let pause = before.unwrap_or(FIRST_PAUSE).min(LONGEST_PAUSE);
                let held = Waiting { name, goes, until: now + pause, pause, error: error.to_string() };
                waiting.insert(ip, held);
                if matches!(error, UpdateError::NoAnswer { .. } | UpdateError::Unsigned { .. }) {
                    break;
                }
            }
        }
    }
    made
}

/// Sends updates.
struct Updater {
    server: UpdateServer,
    forward: Name,
    reverse: [Option<Name>; 2],
    ttl: u32,
}

impl Updater {
    fn new(settings: &DhcpDdns) -> Result<Self, UpdateError> {
        let zone = |what: &str, text: &str| (!text.is_empty()).then(|| full_name(what, text)).transpose();
        let signer = match settings.tsig_key.as_str() {
            "" => None,
            key => Some(dns_update::signer(key, &settings.tsig_algorithm, &settings.tsig_secret)?),
        };
        let address = server(&settings.dns_server);
        let address =
            address.ok_or_else(|| UpdateError::Settings("dns_server: expected an address".into()))?;
        Ok(Self {
            server: UpdateServer { address, signer, transport: Transport::Udp },
            forward: full_name("forward_zone", &settings.forward_zone)?,
            reverse: [
                zone("reverse_zone_v4", &settings.reverse_zone_v4)?,
                zone("reverse_zone_v6", &settings.reverse_zone_v6)?,
            ],
            ttl: settings.ttl,
        })
    }

    fn records(&self, ip: IpAddr, name: &str, ttl: u32) -> Result<Records, UpdateError> {
        let bad = |error: hickory_proto::ProtoError| UpdateError::Settings(format!("{name}: {error}"));
        let own = Name::from_str(name).map_err(bad)?;
        let data = match ip {
            IpAddr::V4(ip) => RData::A(A(ip)),
            IpAddr::V6(ip) => RData::AAAA(AAAA(ip)),
        };
        let pointer = self.pointer(ip, name, ttl)?;
        Ok(Records {
            forward: Record::from_rdata(own, ttl, data).into(),
            reverse: self.zone_of_pointer(ip).map(|zone| (zone, pointer)),
        })
    }

    fn pointer(&self, ip: IpAddr, name: &str, ttl: u32) -> Result<RecordSet, UpdateError> {
        let bad = |error: hickory_proto::ProtoError| UpdateError::Settings(format!("{name}: {error}"));
        let own = Name::from_str(name).map_err(bad)?;
        Ok(Record::from_rdata(Name::from(ip), ttl, RData::PTR(PTR(own))).into())
    }

    /// Whether what the reverse zones were told is what these settings mean.
    fn points(&self, ip: IpAddr, known: &Entered) -> bool {
        known.reverse_zone.is_empty()
            || self.zone_of_pointer(ip).is_some_and(|zone| zone.to_utf8() == known.reverse_zone)
    }

    fn zone_of_pointer(&self, ip: IpAddr) -> Option<Name> {
        self.reverse[usize::from(ip.is_ipv6())].clone().filter(|zone| zone.zone_of(&Name::from(ip)))
    }

    /// Enters a name and an address that have no record yet, or what of them is missing; returns 1, or 0 where all was
    /// there. What is sent is noted before: an answer that does not come leaves a record that is ours all the same.
    fn enter(
        &self,
        ip: IpAddr,
        name: &str,
        entered: &mut BTreeMap<IpAddr, Entered>,
        keep: &dyn Fn(&BTreeMap<IpAddr, Entered>),
    ) -> Result<usize, UpdateError> {
        let records = self.records(ip, name, self.ttl)?;
        let before = entered.get(&ip).cloned();
        let mut known = before.clone().unwrap_or_else(|| Entered {
            name: name.to_owned(),
            ttl: self.ttl,
            zone: self.forward.to_utf8(),
            doubtful: true,
            reverse: false,
            reverse_zone: String::new(),
        });
        if known.doubtful {
            entered.insert(ip, known.clone());
            keep(entered);
            match self.create(&records.forward, &self.forward, before.is_some()) {
                Ok(()) => {}
                Err(error @ (UpdateError::NoAnswer { .. } | UpdateError::Unsigned { .. })) => {
                    return Err(error);
                }
                Err(error) => {
                    entered.remove(&ip);
                    keep(entered);
                    return Err(error);
                }
            }
            known.doubtful = false;
            entered.insert(ip, known.clone());
            keep(entered);
        }
        if let Some((zone, record)) = records.reverse.filter(|_| !known.reverse) {
            // An earlier try may have been lost.
            let again = !known.reverse_zone.is_empty();
            known.reverse_zone = zone.to_utf8();
            entered.insert(ip, known.clone());
            keep(entered);
            match self.create(&record, &zone, again) {
                Ok(()) => known.reverse = true,
                Err(error @ (UpdateError::NoAnswer { .. } | UpdateError::Unsigned { .. })) => {
                    return Err(error);
                }
                Err(error) => {
                    known.reverse_zone.clear();
                    entered.insert(ip, known);
                    keep(entered);
                    return Err(error);
                }
            }
        }
        let made = usize::from(before.as_ref() != Some(&known));
        entered.insert(ip, known);
        if made > 0 {
            keep(entered);
        }
        Ok(made)
    }

    /// Adds a record where there is none of its name and type. Where an earlier try may have arrived (`again`, or an
    /// answer of this one was lost), exactly this record is ours.
    fn create(&self, record: &RecordSet, zone: &Name, again: bool) -> Result<(), UpdateError> {
        let (code, resent) =
            self.server.send(|| update_message::create(record.clone(), zone.clone(), false))?;
        let refused = |code| Err(UpdateError::Refused { server: self.server.address, code });
        match code {
            ResponseCode::NoError => Ok(()),
            ResponseCode::YXRRSet | ResponseCode::YXDomain if again || resent => {
                let same =
                    || update_message::compare_and_swap(record.clone(), record.clone(), zone.clone(), false);
                match self.server.send(same)?.0 {
                    ResponseCode::NoError => Ok(()),
                    ResponseCode::NXRRSet | ResponseCode::NXDomain => {
                        Err(UpdateError::Taken(record.name().clone()))
                    }
                    code => refused(code),
                }
            }
            ResponseCode::YXRRSet | ResponseCode::YXDomain => Err(UpdateError::Taken(record.name().clone())),
            code => refused(code),
        }
    }

    /// Removes exactly what was entered, from the zones that it was entered in.
    fn remove(
        &self,
        ip: IpAddr,
        entered: &mut BTreeMap<IpAddr, Entered>,
        keep: &dyn Fn(&BTreeMap<IpAddr, Entered>),
    ) -> Result<usize, UpdateError> {
        let Some(known) = entered.get(&ip).cloned() else { return Ok(0) };
        let records = self.records(ip, &known.name, known.ttl)?;
        let zone = |text: &str| Name::from_str(text).ok().filter(|_| !text.is_empty());
        let forward = zone(&known.zone).unwrap_or_else(|| self.forward.clone());
        if forward.zone_of(records.forward.name()) {
            self.server
                .done(|| update_message::delete_by_rdata(records.forward.clone(), forward.clone(), false))?;
        }
        let reverse =
            zone(&known.reverse_zone).or_else(|| self.zone_of_pointer(ip).filter(|_| known.reverse));
        if let Some(zone) = reverse {
            let record = self.pointer(ip, &known.name, known.ttl)?;
            match self.server.done(|| update_message::delete_by_rdata(record.clone(), zone.clone(), false)) {
                // It may never have been there.
                Err(UpdateError::Refused { .. }) if !known.reverse => {}
                outcome => outcome?,
            }
        }
        entered.remove(&ip);
        keep(entered);
        Ok(1)
    }
}

struct Records {
    forward: RecordSet,
    reverse: Option<(Name, RecordSet)>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn lease(ip: &str, hostname: &str, start_time: i64) -> Lease {
        Lease {
            ip: ip.parse().unwrap(),
            mac: None,
            client_id: None,
            hostname: Some(hostname.into()),
            lease_time: 60,
            state: "bound".into(),
            start_time,
            expire_time: 0,
            subnet: String::new(),
        }
    }

    #[test]
    fn names_are_plain_labels_and_each_has_one_owner() {
        let leases = [
            lease("10.0.0.2", "PC1.example.org", 1),
            lease("10.0.0.3", "pc1", 2),
            lease("10.0.0.4", "it is", 3),
            lease("10.0.0.5", "-x", 4),
            lease("2001:db8::5", "pc1", 5),
        ];
        let names: Vec<(String, String)> = wanted(&Config::default(), &leases)
            .into_iter()
            .map(|(ip, name)| (ip.to_string(), name))
            .collect();
        assert_eq!(names, [("10.0.0.3".into(), "pc1".into()), ("2001:db8::5".into(), "pc1".into())]);
    }
}
