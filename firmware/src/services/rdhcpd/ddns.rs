//! Names of DHCP clients in the DNS: updates (RFC 2136, signed with TSIG, RFC 8945) that follow from the leases. The
//! daemon itself sends none. Only what was entered from here is ever replaced or removed: a name that somebody else
//! has stays theirs.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode, update_message};
use hickory_proto::rr::rdata::tsig::TsigAlgorithm;
use hickory_proto::rr::rdata::{A, AAAA, PTR};
use hickory_proto::rr::{Name, RData, Record, RecordSet, TSigner};
use serde::{Deserialize, Serialize};

use super::client::Lease;
use crate::config::dhcp::DhcpDdns;
use crate::config::dhcp::remote::server;
use crate::config::{Config, Timestamp};
use crate::services::files;

const PATIENCE: Duration = Duration::from_secs(2);
const TRIES: u32 = 3;
/// Seconds by which our clock and the server's may differ (RFC 8945 §5.2.3).
const FUDGE: u16 = 300;
const LARGEST: usize = 4096;

/// Why an update was not made.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    #[error("{0}: somebody else's record has this name")]
    Taken(Name),
    #[error("{server} refuses: {code}")]
    Refused { server: SocketAddr, code: ResponseCode },
    #[error("{server} does not answer")]
    NoAnswer { server: SocketAddr },
    #[error("{0}")]
    Settings(String),
}

/// What was entered: the name and the time to live.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entered {
    name: String,
    ttl: u32,
    /// The reverse zone has it, too.
    reverse: bool,
}

/// Keeps the DNS as the leases are.
#[derive(Debug, Default)]
pub struct Ddns {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By address; `None` until it was read from the disk.
    entered: Option<BTreeMap<IpAddr, Entered>>,
    last_error: Option<String>,
}

impl Ddns {
    /// Why the last update failed, if it did.
    pub fn last_error(&self) -> Option<String> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).last_error.clone()
    }

    /// Enters and removes what the leases (all of them that are bound) ask for. `directory` keeps what was entered.
    /// Blocks; returns the number of updates made.
    pub fn follow(&self, config: &Config, leases: &[Lease], directory: PathBuf) -> usize {
        let path = directory.join("ddns.json");
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let read = || std::fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok());
        let mut entered = state.entered.take().unwrap_or_else(|| read().unwrap_or_default());
        let before = entered.clone();
        let outcome = Updater::new(&config.dhcp_ddns)
            .and_then(|updater| follow(&updater, &wanted(config, leases), &mut entered));
        state.last_error = outcome.as_ref().err().map(ToString::to_string);
        if let Err(error) = &outcome {
            log::warn!("DDNS: {error}");
        }
        if entered != before
            && let Ok(text) = serde_json::to_vec(&entered)
            && let Err(error) = files::write(&path, &text, 0o600)
        {
            log::warn!("DDNS: {error}");
        }
        state.entered = Some(entered);
        outcome.unwrap_or(0)
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

fn follow(
    updater: &Updater,
    wanted: &BTreeMap<IpAddr, String>,
    entered: &mut BTreeMap<IpAddr, Entered>,
) -> Result<usize, UpdateError> {
    let full = |label: &str| format!("{label}.{}", updater.forward.to_utf8());
    let mut made = 0;
    let mut failure = None;
    let gone: Vec<IpAddr> = entered
        .iter()
        .filter(|(ip, known)| wanted.get(ip).is_none_or(|label| full(label) != known.name))
        .map(|(ip, _)| *ip)
        .collect();
    for ip in gone {
        if let Some(known) = entered.get(&ip) {
            match updater.remove(ip, known) {
                Ok(()) => {
                    entered.remove(&ip);
                    made += 1;
                }
                Err(error) => failure = Some(error),
            }
        }
    }
    for (ip, label) in wanted {
        if entered.contains_key(ip) {
            continue;
        }
        match updater.enter(*ip, &full(label)) {
            Ok(known) => {
                entered.insert(*ip, known);
                made += 1;
            }
            Err(error) => failure = Some(error),
        }
    }
    failure.map_or(Ok(made), Err)
}

/// Sends updates.
struct Updater {
    server: SocketAddr,
    forward: Name,
    reverse: [Option<Name>; 2],
    signer: Option<TSigner>,
    ttl: u32,
}

impl Updater {
    fn new(settings: &DhcpDdns) -> Result<Self, UpdateError> {
        let wrong =
            |what: &str, reason: &dyn std::fmt::Display| UpdateError::Settings(format!("{what}: {reason}"));
        let name = |what: &str, text: &str| {
            let mut name = Name::from_str(text).map_err(|error| wrong(what, &error))?;
            name.set_fqdn(true);
            Ok::<_, UpdateError>(name)
        };
        let zone = |what: &str, text: &str| (!text.is_empty()).then(|| name(what, text)).transpose();
        let signer = match settings.tsig_key.as_str() {
            "" => None,
            key => {
                let algorithm = match settings.tsig_algorithm.as_str() {
                    "hmac-sha256" => TsigAlgorithm::HmacSha256,
                    "hmac-sha384" => TsigAlgorithm::HmacSha384,
                    "hmac-sha512" => TsigAlgorithm::HmacSha512,
                    other => {
                        return Err(wrong(
                            "tsig_algorithm",
                            &format!("updates cannot be signed with {other} here"),
                        ));
                    }
                };
                let secret = data_encoding::BASE64.decode(settings.tsig_secret.expose().as_bytes());
                let secret = secret.map_err(|_| wrong("tsig_secret", &"expected base64"))?;
                let signer = TSigner::new(secret, algorithm, name("tsig_key", key)?, FUDGE);
                Some(signer.map_err(|error| wrong("tsig_algorithm", &error))?)
            }
        };
        Ok(Self {
            server: server(&settings.dns_server)
                .ok_or_else(|| wrong("dns_server", &"expected an address"))?,
            forward: name("forward_zone", &settings.forward_zone)?,
            reverse: [
                zone("reverse_zone_v4", &settings.reverse_zone_v4)?,
                zone("reverse_zone_v6", &settings.reverse_zone_v6)?,
            ],
            signer,
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
        let pointer = Name::from(ip);
        let zone = self.reverse[usize::from(ip.is_ipv6())].clone().filter(|zone| zone.zone_of(&pointer));
        Ok(Records {
            forward: Record::from_rdata(own.clone(), ttl, data).into(),
            reverse: zone.map(|zone| (zone, Record::from_rdata(pointer, ttl, RData::PTR(PTR(own))).into())),
        })
    }

    /// Enters a name and an address that have no record yet.
    fn enter(&self, ip: IpAddr, name: &str) -> Result<Entered, UpdateError> {
        let records = self.records(ip, name, self.ttl)?;
        let own = records.forward.name().clone();
        match self.send(|| update_message::create(records.forward.clone(), self.forward.clone(), false))? {
            ResponseCode::NoError => {}
            ResponseCode::YXRRSet | ResponseCode::YXDomain => return Err(UpdateError::Taken(own)),
            code => return Err(UpdateError::Refused { server: self.server, code }),
        }
        let mut reverse = false;
        if let Some((zone, record)) = records.reverse {
            // The address is ours to give, so its old name goes.
            let old = Record::update0(record.name().clone(), 0, record.record_type()).into_record_of_rdata();
            self.done(|| update_message::delete_rrset(old.clone(), zone.clone(), false))?;
            self.done(|| update_message::append(record.clone(), zone.clone(), false, false))?;
            reverse = true;
        }
        Ok(Entered { name: name.to_owned(), ttl: self.ttl, reverse })
    }

    /// Removes exactly what was entered.
    fn remove(&self, ip: IpAddr, known: &Entered) -> Result<(), UpdateError> {
        let records = self.records(ip, &known.name, known.ttl)?;
        if self.forward.zone_of(records.forward.name()) {
            self.done(|| {
                update_message::delete_by_rdata(records.forward.clone(), self.forward.clone(), false)
            })?;
        }
        if let Some((zone, record)) = records.reverse.filter(|_| known.reverse) {
            self.done(|| update_message::delete_by_rdata(record.clone(), zone.clone(), false))?;
        }
        Ok(())
    }

    fn done(&self, message: impl Fn() -> Message) -> Result<(), UpdateError> {
        match self.send(message)? {
            ResponseCode::NoError => Ok(()),
            code => Err(UpdateError::Refused { server: self.server, code }),
        }
    }

    /// Sends an update, three times if need be; returns what the server says.
    fn send(&self, message: impl Fn() -> Message) -> Result<ResponseCode, UpdateError> {
        let fault = |error: &dyn std::fmt::Display| UpdateError::Settings(error.to_string());
        let any = if self.server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).map_err(|error| fault(&error))?;
        socket.connect(self.server).map_err(|error| fault(&error))?;
        socket.set_read_timeout(Some(PATIENCE)).map_err(|error| fault(&error))?;
        for _ in 0..TRIES {
            let mut message = message();
            if let Some(signer) = &self.signer {
                let now = u64::try_from(Timestamp::now().as_second()).unwrap_or(0);
                message.finalize(signer, now).map_err(|error| fault(&error))?;
            }
            let bytes = message.to_vec().map_err(|error| fault(&error))?;
            let id = message.metadata.id;
            let mut answer = [0; LARGEST];
            // A port that nobody has answers with an error: no answer, as silence.
            let received = socket.send(&bytes).and_then(|_| socket.recv(&mut answer));
            if let Ok(length) = received
                && let Ok(answer) = Message::from_vec(&answer[..length])
                && answer.metadata.id == id
            {
                return Ok(answer.metadata.response_code);
            }
        }
        Err(UpdateError::NoAnswer { server: self.server })
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
