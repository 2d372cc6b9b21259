//! DigitalOcean's API, version 2: `/domains/{zone}/records`.

use std::net::IpAddr;

use serde_json::{Value, json};
use ureq::Agent;
use ureq::http::Response;

use super::zone::{Zone, ZoneError, json as read, record_type};
use crate::config::Secret;

/// The least that the API takes.
const LEAST_TTL: u32 = 30;

pub(super) struct DigitalOcean {
    pub base: String,
    pub agent: Agent,
    pub token: Secret,
    pub zone: String,
}

impl DigitalOcean {
    fn bearer(&self) -> String {
        format!("Bearer {}", self.token.expose())
    }

    fn url(&self, rest: &str) -> String {
        format!("{}/domains/{}/records{rest}", self.base, self.zone)
    }

    /// A name within the zone; `@` is the zone itself.
    fn relative<'a>(&self, name: &'a str) -> &'a str {
        match name.strip_suffix(self.zone.as_str()) {
            Some("") => "@",
            Some(rest) => rest.trim_end_matches('.'),
            None => name,
        }
    }

    fn done(&self, outcome: Result<Response<ureq::Body>, ureq::Error>) -> Result<Value, ZoneError> {
        let (status, answer) = read(outcome)?;
        match status {
            200..=299 => Ok(answer),
            404 => Err(ZoneError::NoZone(self.zone.clone())),
            _ => {
                let said = answer["message"].as_str().unwrap_or("no reason");
                Err(ZoneError::Refused(format!("{said} (status {status})")))
            }
        }
    }

    fn records(&self, kind: &str, name: &str) -> Result<Vec<Value>, ZoneError> {
        let url = self.url(&format!("?type={kind}&name={name}&per_page=200"));
        let mut answer = self.done(self.agent.get(url).header("authorization", self.bearer()).call())?;
        match answer["domain_records"].take() {
            Value::Array(records) => Ok(records),
            _ => Err(ZoneError::Refused("a list of records was expected".into())),
        }
    }

    fn post(&self, record: &Value) -> Result<(), ZoneError> {
        let request = self.agent.post(self.url("")).header("authorization", self.bearer());
        self.done(request.send_json(record)).map(drop)
    }

    fn delete(&self, id: u64) -> Result<(), ZoneError> {
        let request = self.agent.delete(self.url(&format!("/{id}"))).header("authorization", self.bearer());
        self.done(request.call()).map(drop)
    }
}

impl Zone for DigitalOcean {
    fn set_address(&self, name: &str, address: IpAddr, ttl: u32) -> Result<(), ZoneError> {
        let kind = record_type(address);
        let ttl = ttl.max(LEAST_TTL);
        let known = self.records(kind, name)?;
        let mut ids = known.iter().filter_map(|record| record["id"].as_u64());
        let data = address.to_string();
        let Some(first) = ids.next() else {
            return self
                .post(&json!({ "type": kind, "name": self.relative(name), "data": data, "ttl": ttl }));
        };
        let request = self.agent.put(self.url(&format!("/{first}"))).header("authorization", self.bearer());
        self.done(request.send_json(json!({ "data": data, "ttl": ttl })))?;
        ids.try_for_each(|other| self.delete(other))
    }

    fn add_txt(&self, name: &str, value: &str) -> Result<(), ZoneError> {
        self.post(&json!({ "type": "TXT", "name": self.relative(name), "data": value, "ttl": 60 }))
    }

    fn remove_txt(&self, name: &str, value: &str) -> Result<(), ZoneError> {
        let records = self.records("TXT", name)?;
        let ours = records.iter().filter(|record| record["data"] == value);
        ours.filter_map(|record| record["id"].as_u64()).try_for_each(|id| self.delete(id))
    }
}
