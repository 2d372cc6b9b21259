//! A name server that takes DNS UPDATE (RFC 2136) over TCP, signed with TSIG.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use hickory_proto::op::{Message, UpdateMessage, update_message};
use hickory_proto::rr::rdata::{A, AAAA, TXT};
use hickory_proto::rr::{Name, RData, Record};

use super::zone::{Zone, ZoneError};
use crate::config::dynamic_dns::DnsProvider;
use crate::config::reach::Reach;
use crate::services::dns_update::{Transport, UpdateError, UpdateServer, full_name, signer};

const DNS_PORT: u16 = 53;

pub(super) struct Rfc2136 {
    server: UpdateServer,
    zone: Name,
}

impl From<UpdateError> for ZoneError {
    fn from(error: UpdateError) -> Self {
        match error {
            UpdateError::NoAnswer { .. } => Self::Unreachable(error.to_string()),
            UpdateError::Settings(text) => Self::Settings(text),
            other => Self::Refused(other.to_string()),
        }
    }
}

/// `host`, `host:port`, an address, or an address with a port. A name server may be inside; what only the link or a
/// cloud's metadata service has may not be asked.
fn address(server: &str, port: &str) -> Result<SocketAddr, ZoneError> {
    let port = port.parse().unwrap_or(DNS_PORT);
    let found = match (server.parse::<SocketAddr>(), server.parse::<IpAddr>(), server.rsplit_once(':')) {
        (Ok(address), ..) => Ok(Some(address)),
        (_, Ok(ip), _) => Ok(Some(SocketAddr::new(ip, port))),
        (_, _, Some((host, given))) => first(host, given.parse().unwrap_or(port)),
        (_, _, None) => first(server, port),
    };
    let found = found.map_err(|error| ZoneError::Unreachable(format!("{server}: {error}")))?;
    let found = found.ok_or_else(|| ZoneError::Unreachable(format!("{server} has no address")))?;
    match Reach::Inside.allows(found.ip()) {
        true => Ok(found),
        false => Err(ZoneError::Settings(format!("{server} is a link-local or metadata address"))),
    }
}

fn first(host: &str, port: u16) -> std::io::Result<Option<SocketAddr>> {
    Ok((host, port).to_socket_addrs()?.next())
}

impl Rfc2136 {
    pub(super) fn new(provider: &DnsProvider) -> Result<Self, ZoneError> {
        let key = provider.extra("key_name");
        let algorithm = Some(provider.extra("algorithm")).filter(|algorithm| !algorithm.is_empty());
        let signer = match (key.as_str(), provider.api_token.is_empty()) {
            ("", _) => {
                return Err(ZoneError::Settings(format!("{}: extra.key_name is not set", provider.name)));
            }
            (_, true) => {
                let text = format!("{}: api_token (the TSIG secret) is not set", provider.name);
                return Err(ZoneError::Settings(text));
            }
            (key, false) => signer(key, algorithm.as_deref().unwrap_or("hmac-sha256"), &provider.api_token)?,
        };
        Ok(Self {
            server: UpdateServer {
                address: address(&provider.extra("server"), &provider.extra("port"))?,
                signer: Some(signer),
                transport: Transport::Tcp,
            },
            zone: full_name("zone", &provider.zone)?,
        })
    }

    /// The name, which is the zone's.
    fn name(&self, name: &str) -> Result<Name, ZoneError> {
        let own = full_name("hostname", name)?;
        match self.zone.zone_of(&own) {
            true => Ok(own),
            false => Err(ZoneError::Settings(format!("{name} is not in the zone {}", self.zone))),
        }
    }

    fn txt(&self, name: &str, value: &str) -> Result<Record, ZoneError> {
        Ok(Record::from_rdata(self.name(name)?, 60, RData::TXT(TXT::new(vec![value.to_owned()]))))
    }
}

impl Zone for Rfc2136 {
    /// In one update, so that nobody sees the name without an address.
    fn set_address(&self, name: &str, address: IpAddr, ttl: u32) -> Result<(), ZoneError> {
        let data = match address {
            IpAddr::V4(ip) => RData::A(A(ip)),
            IpAddr::V6(ip) => RData::AAAA(AAAA(ip)),
        };
        let record = Record::from_rdata(self.name(name)?, ttl, data);
        let message = || {
            let mut message: Message = update_message::delete_rrset(record.clone(), self.zone.clone(), false);
            UpdateMessage::add_update(&mut message, record.clone());
            message
        };
        Ok(self.server.done(message)?)
    }

    fn add_txt(&self, name: &str, value: &str) -> Result<(), ZoneError> {
        let record = self.txt(name, value)?;
        let message = || update_message::append(record.clone().into(), self.zone.clone(), false, false);
        Ok(self.server.done(message)?)
    }

    fn remove_txt(&self, name: &str, value: &str) -> Result<(), ZoneError> {
        let record = self.txt(name, value)?;
        let message = || update_message::delete_by_rdata(record.clone().into(), self.zone.clone(), false);
        Ok(self.server.done(message)?)
    }
}
