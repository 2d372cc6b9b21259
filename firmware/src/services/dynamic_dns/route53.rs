//! Amazon Route 53 (API 2013-04-01): ListHostedZonesByName and ChangeResourceRecordSets, signed with Signature
//! Version 4.

use std::net::IpAddr;

use ureq::Agent;
use url::Url;
use url::form_urlencoded::byte_serialize;

use super::zone::{Zone, ZoneError, answer, record_type};
use crate::config::{Secret, Timestamp};
use crate::services::sigv4::{self, Request, Signer};

const VERSION: &str = "/2013-04-01";
const NAMESPACE: &str = "https://route53.amazonaws.com/doc/2013-04-01/";
/// Where the service's requests are signed for, unless the account says otherwise.
const REGION: &str = "us-east-1";

pub(super) struct Route53 {
    pub base: String,
    pub agent: Agent,
    pub access_key_id: Secret,
    pub secret: Secret,
    pub region: Option<String>,
    pub zone: String,
    /// `""` = it is asked for.
    pub zone_id: String,
}

/// The text of the first element of this name; the API's answers have no attributes in those that are read.
fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let begin = xml.find(&open)? + open.len();
    let length = xml.get(begin..)?.find(&close)?;
    xml.get(begin..begin + length)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

impl Route53 {
    fn call(&self, method: &str, path: &str, query: &str, body: &str) -> Result<String, ZoneError> {
        let unreachable = |error: url::ParseError| ZoneError::Unreachable(error.to_string());
        let base = Url::parse(&self.base).map_err(unreachable)?;
        let host = match (base.host_str(), base.port()) {
            (Some(host), Some(port)) => format!("{host}:{port}"),
            (host, _) => host.unwrap_or_default().to_owned(),
        };
        let date = sigv4::date(Timestamp::now());
        let signer = Signer {
            access_key_id: self.access_key_id.expose(),
            secret: &self.secret,
            region: self.region.as_deref().unwrap_or(REGION),
            service: "route53",
        };
        let headers = [("host", host.as_str()), ("x-amz-date", date.as_str())];
        let request = Request { method, path, query, headers: &headers, body: body.as_bytes() };
        let authorization = signer.authorization(&request, &date);
        let url = match query {
            "" => format!("{}{path}", self.base),
            query => format!("{}{path}?{query}", self.base),
        };
        let outcome = match method {
            "POST" => self
                .agent
                .post(url)
                .header("x-amz-date", &date)
                .header("authorization", &authorization)
                .header("content-type", "text/xml")
                .send(body),
            _ => {
                let get = self.agent.get(url).header("x-amz-date", &date);
                get.header("authorization", &authorization).call()
            }
        };
        let (status, text) = answer(outcome)?;
        if (200..300).contains(&status) {
            return Ok(text);
        }
        let said = element(&text, "Message").unwrap_or("no reason");
        let code = element(&text, "Code").unwrap_or("error");
        Err(ZoneError::Refused(format!("{code}: {said} (status {status})")))
    }

    fn zone_id(&self) -> Result<String, ZoneError> {
        if !self.zone_id.is_empty() {
            return Ok(self.zone_id.clone());
        }
        let name = format!("{}.", self.zone);
        let encoded: String = byte_serialize(name.as_bytes()).collect();
        let query = format!("dnsname={encoded}&maxitems=1");
        let text = self.call("GET", &format!("{VERSION}/hostedzonesbyname"), &query, "")?;
        let zone = element(&text, "HostedZone").unwrap_or_default();
        let id = element(zone, "Id").filter(|_| element(zone, "Name") == Some(&name));
        let id = id.map(|id| id.trim_start_matches("/hostedzone/").to_owned());
        id.ok_or_else(|| ZoneError::NoZone(self.zone.clone()))
    }

    fn change(&self, action: &str, name: &str, kind: &str, ttl: u32, value: &str) -> Result<(), ZoneError> {
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
             <ChangeResourceRecordSetsRequest xmlns=\"{NAMESPACE}\"><ChangeBatch><Changes><Change>\
             <Action>{action}</Action><ResourceRecordSet><Name>{}.</Name><Type>{kind}</Type><TTL>{ttl}</TTL>\
             <ResourceRecords><ResourceRecord><Value>{}</Value></ResourceRecord></ResourceRecords>\
             </ResourceRecordSet></Change></Changes></ChangeBatch></ChangeResourceRecordSetsRequest>",
            escaped(name),
            escaped(value)
        );
        let path = format!("{VERSION}/hostedzone/{}/rrset", self.zone_id()?);
        self.call("POST", &path, "", &body).map(drop)
    }
}

impl Zone for Route53 {
    fn set_address(&self, name: &str, address: IpAddr, ttl: u32) -> Result<(), ZoneError> {
        self.change("UPSERT", name, record_type(address), ttl, &address.to_string())
    }

    fn add_txt(&self, name: &str, value: &str) -> Result<(), ZoneError> {
        self.change("UPSERT", name, "TXT", 60, &format!("\"{value}\""))
    }

    fn remove_txt(&self, name: &str, value: &str) -> Result<(), ZoneError> {
        match self.change("DELETE", name, "TXT", 60, &format!("\"{value}\"")) {
            // It says so of a record that is not there.
            Err(ZoneError::Refused(text)) if text.contains("not found") => Ok(()),
            outcome => outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read() {
        let text = "<?xml version=\"1.0\"?>\n<ListHostedZonesByNameResponse xmlns=\"x\"><HostedZones><HostedZone>\
                    <Id>/hostedzone/Z1</Id><Name>example.org.</Name></HostedZone></HostedZones></ListHostedZonesByNameResponse>";
        let zone = element(text, "HostedZone").unwrap_or_default();
        assert_eq!(
            (element(zone, "Id"), element(zone, "Name")),
            (Some("/hostedzone/Z1"), Some("example.org."))
        );
        assert_eq!(element(text, "Nothing"), None);
        assert_eq!(escaped("\"a<b>&c\""), "&quot;a&lt;b&gt;&amp;c&quot;");
    }
}
