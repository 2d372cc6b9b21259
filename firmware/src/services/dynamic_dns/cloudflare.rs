//! Cloudflare's API, version 4: `/zones`, `/zones/{id}/dns_records`.

use std::net::IpAddr;

use serde_json::{Value, json};
use ureq::Agent;
use ureq::http::Response;
use url::form_urlencoded::byte_serialize;

use super::zone::{Zone, ZoneError, json as read, record_type};
use crate::config::Secret;

pub(super) struct Cloudflare {
    pub base: String,
    pub agent: Agent,
    pub token: Secret,
    pub zone: String,
    /// `""` = it is asked for.
    pub zone_id: String,
}

fn encoded(text: &str) -> String {
    byte_serialize(text.as_bytes()).collect()
}

impl Cloudflare {
    fn bearer(&self) -> String {
        format!("Bearer {}", self.token.expose())
    }

    /// `result` of an answer with `success`.
    fn result(outcome: Result<Response<ureq::Body>, ureq::Error>) -> Result<Value, ZoneError> {
        let (status, mut answer) = read(outcome)?;
        if (200..300).contains(&status) && answer["success"] == true {
            return Ok(answer["result"].take());
        }
        let errors = answer["errors"].as_array().into_iter().flatten();
        let said: Vec<&str> = errors.filter_map(|error| error["message"].as_str()).collect();
        Err(ZoneError::Refused(format!("{} (status {status})", said.join(", "))))
    }

    fn get(&self, path: &str) -> Result<Value, ZoneError> {
        let url = format!("{}{path}", self.base);
        Self::result(self.agent.get(url).header("authorization", self.bearer()).call())
    }

    fn zone_id(&self) -> Result<String, ZoneError> {
        if !self.zone_id.is_empty() {
            return Ok(self.zone_id.clone());
        }
        let found = self.get(&format!("/zones?name={}", encoded(&self.zone)))?;
        let id = found.get(0).and_then(|zone| zone["id"].as_str());
        id.map(str::to_owned).ok_or_else(|| ZoneError::NoZone(self.zone.clone()))
    }

    fn records(&self, zone: &str, kind: &str, name: &str) -> Result<Vec<Value>, ZoneError> {
        let found = self.get(&format!("/zones/{zone}/dns_records?type={kind}&name={}", encoded(name)))?;
        match found {
            Value::Array(records) => Ok(records),
            _ => Err(ZoneError::Refused("a list of records was expected".into())),
        }
    }

    fn post(&self, zone: &str, record: &Value) -> Result<(), ZoneError> {
        let url = format!("{}/zones/{zone}/dns_records", self.base);
        Self::result(self.agent.post(url).header("authorization", self.bearer()).send_json(record)).map(drop)
    }

    fn delete(&self, zone: &str, id: &str) -> Result<(), ZoneError> {
        let url = format!("{}/zones/{zone}/dns_records/{id}", self.base);
        Self::result(self.agent.delete(url).header("authorization", self.bearer()).call()).map(drop)
    }
}

impl Zone for Cloudflare {
    fn set_address(&self, name: &str, address: IpAddr, ttl: u32) -> Result<(), ZoneError> {
        let zone = self.zone_id()?;
        let kind = record_type(address);
        let known = self.records(&zone, kind, name)?;
        let record = json!({ "type": kind, "name": name, "content": address.to_string(), "ttl": ttl });
        let mut ids = known.iter().filter_map(|record| record["id"].as_str());
        let Some(first) = ids.next() else { return self.post(&zone, &record) };
        // Not PUT: what else the record has (proxied, comments) stays.
        let url = format!("{}/zones/{zone}/dns_records/{first}", self.base);
        Self::result(self.agent.patch(url).header("authorization", self.bearer()).send_json(&record))?;
        ids.try_for_each(|other| self.delete(&zone, other))
    }

    fn add_txt(&self, name: &str, value: &str) -> Result<(), ZoneError> {
        let zone = self.zone_id()?;
        self.post(&zone, &json!({ "type": "TXT", "name": name, "content": value, "ttl": 60 }))
    }

    fn remove_txt(&self, name: &str, value: &str) -> Result<(), ZoneError> {
        let zone = self.zone_id()?;
        let ours = |record: &&Value| {
            record["content"].as_str().is_some_and(|content| content.trim_matches('"') == value)
        };
        let records = self.records(&zone, "TXT", name)?;
        let mut ids = records.iter().filter(ours).filter_map(|record| record["id"].as_str());
        ids.try_for_each(|id| self.delete(&zone, id))
    }
}
