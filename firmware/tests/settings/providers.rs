//! DNS providers, each stood in for by a server that speaks its documented protocol and refuses what the provider
//! would refuse: Cloudflare's API v4, Amazon Route 53 2013-04-01, DigitalOcean's API v2.

use std::sync::{Arc, Mutex};

use ring::{digest, hmac};
use serde_json::{Value, json};

use crate::stand_in::{Request, StandIn};

/// One record as the provider has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    pub id: u64,
    pub kind: String,
    /// Fully qualified.
    pub name: String,
    pub content: String,
    pub ttl: u64,
    pub proxied: bool,
}

/// A provider with the zone `example.org`.
pub struct Provider {
    pub server: StandIn,
    pub records: Arc<Mutex<Vec<Record>>>,
}

pub const ZONE: &str = "example.org";
/// API token, or secret key.
pub const TOKEN: &str = "marked-token";
pub const ACCESS_KEY: &str = "AKIDMARKED";

type Records = Arc<Mutex<Vec<Record>>>;

impl Provider {
    fn new(answer: fn(&Request, &mut Vec<Record>) -> (u16, String)) -> Self {
        let records = Records::default();
        let held = records.clone();
        let server = StandIn::new(move |request| answer(request, &mut held.lock().unwrap()));
        Self { server, records }
    }
    pub fn cloudflare() -> Self {
        Self::new(cloudflare)
    }
    pub fn route53() -> Self {
        Self::new(route53)
    }
    pub fn digitalocean() -> Self {
        Self::new(digitalocean)
    }
    /// Contents of the records of a name and type.
    pub fn has(&self, kind: &str, name: &str) -> Vec<String> {
        let records = self.records.lock().unwrap();
        let found = records.iter().filter(|record| record.kind == kind && record.name == name);
        found.map(|record| record.content.clone()).collect()
    }
    pub fn plant(&self, kind: &str, name: &str, content: &str) {
        let mut records = self.records.lock().unwrap();
        let id = next_id(&records);
        records.push(Record {
            id,
            kind: kind.into(),
            name: name.into(),
            content: content.into(),
            ttl: 1800,
            proxied: true,
        });
    }
}

fn next_id(records: &[Record]) -> u64 {
    records.iter().map(|record| record.id).max().unwrap_or(100) + 1
}

/// <https://developers.cloudflare.com/api/resources/dns/subresources/records/>
fn cloudflare(request: &Request, records: &mut Vec<Record>) -> (u16, String) {
    let success = |result: Value| {
        (200, json!({ "success": true, "errors": [], "messages": [], "result": result }).to_string())
    };
    let failure = |status: u16, code: u32, message: &str| {
        let errors = [json!({ "code": code, "message": message })];
        (status, json!({ "success": false, "errors": errors, "messages": [], "result": null }).to_string())
    };
    // One that repeats what it was sent.
    if request.header("authorization") != format!("Bearer {TOKEN}") {
        return failure(403, 9109, &format!("Invalid access token {}", request.header("authorization")));
    }
    let shown = |record: &Record| {
        json!({ "id": record.id.to_string(), "type": record.kind, "name": record.name, "content": record.content,
            "ttl": record.ttl, "proxied": record.proxied, "comment": null, "tags": [] })
    };
    let parts: Vec<&str> = request.path.trim_start_matches('/').split('/').collect();
    let body = request.json();
    let valid = |body: &Value| {
        let ttl = body["ttl"].as_u64().unwrap_or(0);
        body["content"].is_string() && (ttl == 1 || (60..=86_400).contains(&ttl))
    };
    match (request.method.as_str(), parts.as_slice()) {
        ("GET", ["zones"]) if request.query("name") == ZONE => {
            success(json!([{ "id": "z1", "name": ZONE, "status": "active" }]))
        }
        ("GET", ["zones"]) => success(json!([])),
        ("GET", ["zones", "z1", "dns_records"]) => {
            let (kind, name) = (request.query("type"), request.query("name"));
            let found: Vec<Value> = records
                .iter()
                .filter(|record| record.kind == kind && record.name == name)
                .map(shown)
                .collect();
            success(found.into())
        }
        ("POST", ["zones", "z1", "dns_records"]) if valid(&body) => {
            let record = Record {
                id: next_id(records),
                kind: body["type"].as_str().unwrap().into(),
                name: body["name"].as_str().unwrap().into(),
                content: body["content"].as_str().unwrap().into(),
                ttl: body["ttl"].as_u64().unwrap(),
                proxied: false,
            };
            if records.iter().any(|other| {
                (&other.kind, &other.name, &other.content) == (&record.kind, &record.name, &record.content)
            }) {
                return failure(400, 81058, "An identical record already exists.");
            }
            records.push(record.clone());
            success(shown(&record))
        }
        (method @ ("PATCH" | "DELETE"), ["zones", "z1", "dns_records", id]) => {
            let Some(at) = records.iter().position(|record| record.id.to_string() == *id) else {
                return failure(404, 81044, "Record does not exist.");
            };
            if method == "DELETE" {
                records.remove(at);
                return success(json!({ "id": id }));
            }
            records[at].content = body["content"].as_str().unwrap().into();
            records[at].ttl = body["ttl"].as_u64().unwrap();
            success(shown(&records[at]))
        }
        _ => failure(400, 7003, "Could not route to the request"),
    }
}

/// <https://docs.digitalocean.com/reference/api/digitalocean/#tag/Domain-Records>
fn digitalocean(request: &Request, records: &mut Vec<Record>) -> (u16, String) {
    let refuse =
        |status: u16, id: &str, message: &str| (status, json!({ "id": id, "message": message }).to_string());
    if request.header("authorization") != format!("Bearer {TOKEN}") {
        return refuse(401, "Unauthorized", "Unable to authenticate you");
    }
    let relative = |name: &str| match name.strip_suffix(ZONE) {
        Some("") => "@".to_owned(),
        rest => rest.unwrap_or(name).trim_end_matches('.').to_owned(),
    };
    let absolute = |name: &str| if name == "@" { ZONE.to_owned() } else { format!("{name}.{ZONE}") };
    let shown = |record: &Record| {
        json!({ "id": record.id, "type": record.kind, "name": relative(&record.name), "data": record.content, "priority": null,
            "port": null, "ttl": record.ttl, "weight": null, "flags": null, "tag": null })
    };
    let parts: Vec<&str> = request.path.trim_start_matches('/').split('/').collect();
    let body = request.json();
    match (request.method.as_str(), parts.as_slice()) {
        ("GET", ["domains", ZONE, "records"]) => {
            let (kind, name) = (request.query("type"), request.query("name"));
            let found: Vec<Value> = records
                .iter()
                .filter(|record| record.kind == kind && record.name == name)
                .map(shown)
                .collect();
            (
                200,
                json!({ "meta": { "total": found.len() }, "domain_records": found, "links": {} }).to_string(),
            )
        }
        ("POST", ["domains", ZONE, "records"]) => {
            let name = body["name"].as_str().unwrap();
            // A name is relative here: the zone would be there twice.
            if name.ends_with(ZONE) || body["ttl"].as_u64().is_some_and(|ttl| ttl < 30) {
                return refuse(422, "unprocessable_entity", "invalid record");
            }
            let record = Record {
                id: next_id(records),
                kind: body["type"].as_str().unwrap().into(),
                name: absolute(name),
                content: body["data"].as_str().unwrap().into(),
                ttl: body["ttl"].as_u64().unwrap(),
                proxied: false,
            };
            records.push(record.clone());
            (201, json!({ "domain_record": shown(&record) }).to_string())
        }
        (method @ ("PUT" | "DELETE"), ["domains", ZONE, "records", id]) => {
            let Some(at) = records.iter().position(|record| record.id.to_string() == *id) else {
                return refuse(404, "not_found", "The resource you requested could not be found.");
            };
            if method == "DELETE" {
                records.remove(at);
                return (204, String::new());
            }
            records[at].content = body["data"].as_str().unwrap().into();
            records[at].ttl = body["ttl"].as_u64().unwrap();
            (200, json!({ "domain_record": shown(&records[at]) }).to_string())
        }
        _ => refuse(404, "not_found", "The resource you requested could not be found."),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether a request is signed with the secret key (AWS Signature Version 4), worked out from what came over the wire.
fn is_signed(request: &Request) -> bool {
    let header = request.header("authorization");
    let Some(rest) = header.strip_prefix("AWS4-HMAC-SHA256 ") else { return false };
    let field = |name: &str| {
        rest.split(", ")
            .find_map(|part| part.strip_prefix(&format!("{name}=")))
            .unwrap_or_default()
            .to_owned()
    };
    let (credential, names, signature) = (field("Credential"), field("SignedHeaders"), field("Signature"));
    let scope: Vec<&str> = credential.split('/').collect();
    let [ACCESS_KEY, day, region, "route53", "aws4_request"] = scope.as_slice() else { return false };
    let date = request.header("x-amz-date");
    if !date.starts_with(day) || !names.split(';').any(|name| name == "host") {
        return false;
    }
    let mut query: Vec<&str> = request.query.split('&').filter(|part| !part.is_empty()).collect();
    query.sort_unstable();
    let headers: String = names.split(';').map(|name| format!("{name}:{}\n", request.header(name))).collect();
    let hash = |text: &str| hex(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
    let canonical = format!(
        "{}\n{}\n{}\n{headers}\n{names}\n{}",
        request.method,
        request.path,
        query.join("&"),
        hash(&request.body)
    );
    let text = format!("AWS4-HMAC-SHA256\n{date}\n{day}/{region}/route53/aws4_request\n{}", hash(&canonical));
    let sign = |key: &[u8], text: &str| {
        hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
    };
    let key = [*day, region, "route53", "aws4_request"]
        .iter()
        .fold(format!("AWS4{TOKEN}").into_bytes(), |key, part| sign(&key, part));
    hex(&sign(&key, &text)) == signature
}

/// The text of an element.
fn element<'a>(xml: &'a str, name: &str) -> &'a str {
    let rest = xml.split_once(&format!("<{name}>")).map_or("", |(_, rest)| rest);
    rest.split_once(&format!("</{name}>")).map_or("", |(text, _)| text)
}

/// <https://docs.aws.amazon.com/Route53/latest/APIReference/>
fn route53(request: &Request, records: &mut Vec<Record>) -> (u16, String) {
    let namespace = "xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\"";
    let refuse = |status: u16, code: &str, message: &str| {
        let error =
            format!("<Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>");
        (
            status,
            format!(
                "<?xml version=\"1.0\"?>\n<ErrorResponse {namespace}>{error}<RequestId>r</RequestId></ErrorResponse>"
            ),
        )
    };
    if !is_signed(request) {
        let said = format!(
            "The request signature we calculated does not match; {}",
            request.header("authorization")
        );
        return refuse(403, "SignatureDoesNotMatch", &said);
    }
    match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/2013-04-01/hostedzonesbyname") => {
            // It answers with the first zone at or after the name, which may be another.
            let id = if request.query("dnsname") == format!("{ZONE}.") {
                ("Z1", ZONE)
            } else {
                ("Z2", "zz.example")
            };
            let zone = format!(
                "<HostedZone><Id>/hostedzone/{}</Id><Name>{}.</Name><CallerReference>c</CallerReference></HostedZone>",
                id.0, id.1
            );
            let body = format!(
                "<HostedZones>{zone}</HostedZones><IsTruncated>false</IsTruncated><MaxItems>1</MaxItems>"
            );
            (
                200,
                format!(
                    "<?xml version=\"1.0\"?>\n<ListHostedZonesByNameResponse {namespace}>{body}</ListHostedZonesByNameResponse>"
                ),
            )
        }
        ("POST", "/2013-04-01/hostedzone/Z1/rrset") => {
            let body = &request.body;
            assert!(body.contains(namespace), "{body}");
            let set = element(body, "ResourceRecordSet");
            let name = element(set, "Name").strip_suffix('.').expect("a name ends with a dot").to_owned();
            let (kind, value) = (
                element(set, "Type").to_owned(),
                element(element(set, "ResourceRecord"), "Value").replace("&quot;", "\""),
            );
            let ttl = element(set, "TTL").parse().unwrap();
            let same = |record: &Record| record.kind == kind && record.name == name;
            match element(body, "Action") {
                "UPSERT" => {
                    records.retain(|record| !same(record));
                    records.push(Record { id: 1, kind, name, content: value, ttl, proxied: false });
                }
                "DELETE" if records.iter().any(|record| same(record) && record.content == value) => {
                    records.retain(|record| !same(record))
                }
                "DELETE" => {
                    return refuse(
                        400,
                        "InvalidChangeBatch",
                        &format!(
                            "Tried to delete resource record set [name='{name}.', type='{kind}'] but it was not found"
                        ),
                    );
                }
                other => return refuse(400, "InvalidInput", other),
            }
            let info = "<ChangeInfo><Id>/change/C1</Id><Status>PENDING</Status><SubmittedAt>2026-01-01T00:00:00Z</SubmittedAt></ChangeInfo>";
            (
                200,
                format!(
                    "<?xml version=\"1.0\"?>\n<ChangeResourceRecordSetsResponse {namespace}>{info}</ChangeResourceRecordSetsResponse>"
                ),
            )
        }
        _ => refuse(404, "NoSuchHostedZone", "no such zone"),
    }
}
