//! The eleven kinds of objects of the reverse proxy. All are rows with an id, a name that is unique in its kind, and
//! a body of their own; what is common is written once, in [`Row`], [`RowRequest`] and [`RowBody`].

use std::collections::BTreeSet;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::secrets::ConfigText;
use super::{check_path, listen_address, rule};
use crate::config::{Collection, Config, Id, Invalid, Object, Refusal, Timestamp};

/// A stored object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row<B> {
    pub id: Id,
    pub name: String,
    #[serde(flatten)]
    pub body: B,
    #[serde(default = "yes")]
    pub enabled: bool,
    pub created_at: Timestamp,
}

impl<B: RowBody> Object for Row<B> {
    type Key = Id;
    fn key(&self) -> Id {
        self.id
    }
    fn words(&self) -> Vec<Arc<str>> {
        vec![self.name.as_str().into()]
    }
}

/// Body of POST and PUT; other fields are ignored, since clients send whole rows back.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct RowRequest<B> {
    name: String,
    #[serde(flatten)]
    body: B,
    #[serde(default = "yes")]
    enabled: bool,
}

/// What is special about a kind.
pub trait RowBody:
    Serialize + DeserializeOwned + JsonSchema + Clone + PartialEq + std::fmt::Debug + Send + Sync + 'static
{
    /// In messages and audit entries.
    const NOUN: &'static str;
    /// Rows without `enabled` are always in use.
    const HAS_ENABLED: bool = true;
    fn rows(config: &Config) -> &Collection<Row<Self>>;
    fn rows_mut(config: &mut Config) -> &mut Collection<Row<Self>>;
    fn check(&self) -> Result<(), Invalid>;
    /// The text that may have secrets in it.
    fn text(&self) -> Option<&ConfigText> {
        None
    }
    fn text_mut(&mut self) -> Option<&mut ConfigText> {
        None
    }
}

impl<B: RowBody> RowRequest<B> {
    /// The row that this makes; `stored` is the one that it replaces. The name must be free.
    pub fn row(self, stored: Option<&Row<B>>, now: Timestamp, config: &Config) -> Result<Row<B>, Refusal> {
        let name = self.name.trim().to_owned();
        check_name(&name)?;
        self.body.check()?;
        let mut body = self.body;
        if let Some(text) = body.text_mut() {
            // A client sends back what it was shown.
            *text = text.unmasked(stored.and_then(|row| row.body.text()))?;
        }
        let id = stored.map_or_else(Id::new_v4, |row| row.id);
        if B::rows(config).find(&name).any(|row| row.id != id) {
            return Err(Refusal::Conflict(format!("name: there is a {} {name:?} already", B::NOUN)));
        }
        Ok(Row {
            id,
            name,
            body,
            enabled: self.enabled || !B::HAS_ENABLED,
            created_at: stored.map_or(now, |row| row.created_at),
        })
    }
}

fn yes() -> bool {
    true
}
fn empty_object() -> String {
    "{}".into()
}
fn empty_list() -> String {
    "[]".into()
}
fn load_balancer() -> String {
    "loadBalancer".into()
}

fn check_name(name: &str) -> Result<(), Invalid> {
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && c != '/' && c != '@';
    ((1..=128).contains(&name.chars().count()) && name.chars().all(plain)).then_some(()).ok_or_else(|| {
        Invalid::new("name", "expected 1 to 128 characters without blanks, control characters, / or @")
    })
}

/// A list of names: text of a JSON array, one name, names with commas, or a real array. Kept as text.
fn names_text<'de, D: Deserializer<'de>>(d: D) -> Result<String, D::Error> {
    match Value::deserialize(d)? {
        Value::String(text) => Ok(text),
        Value::Null => Ok(empty_list()),
        list @ Value::Array(_) => Ok(list.to_string()),
        _ => Err(serde::de::Error::custom("invalid type, expected text or an array of names")),
    }
}

/// Text, `""` being none.
fn text_or_none<'de, D: Deserializer<'de>>(d: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<String>::deserialize(d)?.filter(|text| !text.trim().is_empty()))
}

/// The names of a list kept as text, each once, in order.
pub fn names(text: &str) -> Result<Vec<String>, &'static str> {
    let raw: Vec<String> = match text.trim_start().chars().next() {
        Some('[') => serde_json::from_str(text).map_err(|_| "expected a JSON array of names")?,
        Some('{' | '"') => return Err("expected a JSON array of names, a name, or names with commas"),
        _ => text.split(',').map(str::to_owned).collect(),
    };
    let mut seen = BTreeSet::new();
    let trimmed = raw.iter().map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
    Ok(trimmed.filter(|name| seen.insert(name.clone())).collect())
}

fn check_names(field: &str, text: &str) -> Result<(), Invalid> {
    names(text).map(drop).map_err(|expected| Invalid::new(field, expected))
}

fn check_object(field: &str, text: &str) -> Result<(), Invalid> {
    match serde_json::from_str::<Value>(text) {
        Ok(Value::Object(_)) => Ok(()),
        Ok(_) => Err(Invalid::new(field, "expected the text of a JSON object")),
        Err(error) => Err(Invalid::new(field, format!("expected the text of a JSON object: {error}"))),
    }
}

/// A text that was checked to be JSON.
fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
}

/// Those of a middleware's `sourceRange` that are neither an address nor a network; the daemon forgets them.
pub fn bad_ranges(config: &Value) -> Vec<&Value> {
    let is_range = |range: &&Value| {
        range.as_str().is_some_and(|text| {
            text.parse::<ipnet::IpNet>().is_ok() || text.parse::<std::net::IpAddr>().is_ok()
        })
    };
    match config.get("sourceRange") {
        Some(Value::Array(ranges)) => ranges.iter().filter(|range| !is_range(range)).collect(),
        Some(Value::Null) | None => Vec::new(),
        Some(other) => vec![other],
    }
}

fn check_tls(text: &Option<String>) -> Result<(), Invalid> {
    text.as_deref().map_or(Ok(()), |text| check_object("tls_json", text))
}

fn check_service(name: &str) -> Result<(), Invalid> {
    check_name(name).map_err(|_| Invalid::new("service", "expected the name of a service"))
}

fn one_of(field: &str, given: &str, known: &[&str]) -> Result<(), Invalid> {
    let fits = known.contains(&given);
    fits.then_some(()).ok_or_else(|| Invalid::new(field, format!("expected one of {}", known.join(", "))))
}

/// Middleware types that the API takes.
pub const MIDDLEWARE_TYPES: [&str; 26] = [
    "rateLimit",
    "ipAllowList",
    "ipWhiteList",
    "ipDenyList",
    "headers",
    "basicAuth",
    "redirectScheme",
    "stripPrefix",
    "stripPrefixRegex",
    "addPrefix",
    "replacePath",
    "replacePathRegex",
    "compress",
    "digestAuth",
    "forwardAuth",
    "jwt",
    "inFlightReq",
    "redirectRegex",
    "retry",
    "circuitBreaker",
    "buffering",
    "chain",
    "passTLSClientCert",
    "contentType",
    "grpcWeb",
    "errors",
];
/// Middlewares that let addresses in or keep them out.
pub const RANGE_TYPES: [&str; 3] = ["ipAllowList", "ipWhiteList", "ipDenyList"];
const HTTP_SERVICES: [&str; 4] = ["loadBalancer", "weighted", "mirroring", "failover"];
const SERVICES: [&str; 2] = ["loadBalancer", "weighted"];
/// Where certificates may lie.
const CERTIFICATES: [&str; 3] = ["/usr/local/etc/", "/etc/ssl/", "/var/db/"];

/// Declares the collection of a kind.
macro_rules! rows_in {
    ($field:ident) => {
        fn rows(config: &Config) -> &Collection<Row<Self>> {
            &config.$field
        }
        fn rows_mut(config: &mut Config) -> &mut Collection<Row<Self>> {
            &mut config.$field
        }
    };
}

/// Where the proxy listens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EntryPoint {
    pub address: String,
    #[serde(default = "empty_object")]
    pub config_json: String,
}

impl RowBody for EntryPoint {
    const NOUN: &'static str = "entry point";
    rows_in!(proxy_entry_points);
    fn check(&self) -> Result<(), Invalid> {
        listen_address("address", &self.address)?;
        check_object("config_json", &self.config_json)
    }
}

/// Which requests go to which service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HttpRouter {
    pub rule: String,
    pub service: String,
    #[serde(default = "empty_list", deserialize_with = "names_text")]
    pub entry_points: String,
    #[serde(default = "empty_list", deserialize_with = "names_text")]
    pub middlewares: String,
    #[serde(default)]
    pub priority: i32,
    #[serde(default, deserialize_with = "text_or_none")]
    pub tls_json: Option<String>,
}

impl RowBody for HttpRouter {
    const NOUN: &'static str = "HTTP router";
    rows_in!(proxy_http_routers);
    fn check(&self) -> Result<(), Invalid> {
        rule::parse_http(&self.rule).map_err(|bad| Invalid::new("rule", format!("expected {bad}")))?;
        check_service(&self.service)?;
        check_names("entry_points", &self.entry_points)?;
        check_names("middlewares", &self.middlewares)?;
        check_tls(&self.tls_json)
    }
}

/// Servers behind the proxy, or a choice of other services.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HttpService {
    pub service_type: String,
    pub config_json: String,
}

impl RowBody for HttpService {
    const NOUN: &'static str = "HTTP service";
    rows_in!(proxy_http_services);
    fn check(&self) -> Result<(), Invalid> {
        one_of("service_type", &self.service_type, &HTTP_SERVICES)?;
        check_object("config_json", &self.config_json)
    }
}

/// What is done to requests and answers on the way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Middleware {
    pub middleware_type: String,
    pub config_json: ConfigText,
}

impl RowBody for Middleware {
    const NOUN: &'static str = "middleware";
    rows_in!(proxy_middlewares);
    fn check(&self) -> Result<(), Invalid> {
        one_of("middleware_type", &self.middleware_type, &MIDDLEWARE_TYPES)?;
        check_object("config_json", &self.config_json)?;
        if RANGE_TYPES.contains(&self.middleware_type.as_str())
            && let Some(range) = bad_ranges(&parsed(&self.config_json)).first()
        {
            let expected = format!("sourceRange: expected addresses or networks, not {range}");
            return Err(Invalid::new("config_json", expected));
        }
        Ok(())
    }
    fn text(&self) -> Option<&ConfigText> {
        Some(&self.config_json)
    }
    fn text_mut(&mut self) -> Option<&mut ConfigText> {
        Some(&mut self.config_json)
    }
}

/// Which TCP connections go to which service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TcpRouter {
    pub rule: String,
    pub service: String,
    #[serde(default = "empty_list", deserialize_with = "names_text")]
    pub entry_points: String,
    #[serde(default)]
    pub priority: i32,
    #[serde(default, deserialize_with = "text_or_none")]
    pub tls_json: Option<String>,
}

impl RowBody for TcpRouter {
    const NOUN: &'static str = "TCP router";
    rows_in!(proxy_tcp_routers);
    fn check(&self) -> Result<(), Invalid> {
        if self.rule.trim().is_empty() || self.rule.chars().any(char::is_control) {
            return Err(Invalid::new("rule", "expected a rule such as HostSNI(`name`) or *"));
        }
        check_service(&self.service)?;
        check_names("entry_points", &self.entry_points)?;
        check_tls(&self.tls_json)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TcpService {
    #[serde(default = "load_balancer")]
    pub service_type: String,
    pub config_json: String,
}

impl RowBody for TcpService {
    const NOUN: &'static str = "TCP service";
    rows_in!(proxy_tcp_services);
    fn check(&self) -> Result<(), Invalid> {
        one_of("service_type", &self.service_type, &SERVICES)?;
        check_object("config_json", &self.config_json)
    }
}

/// Which UDP packets go to which service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UdpRouter {
    /// May be empty: all.
    pub rule: String,
    pub service: String,
    #[serde(default = "empty_list", deserialize_with = "names_text")]
    pub entry_points: String,
    #[serde(default)]
    pub priority: i32,
}

impl RowBody for UdpRouter {
    const NOUN: &'static str = "UDP router";
    rows_in!(proxy_udp_routers);
    fn check(&self) -> Result<(), Invalid> {
        if self.rule.chars().any(char::is_control) {
            return Err(Invalid::new("rule", "expected text without control characters"));
        }
        check_service(&self.service)?;
        check_names("entry_points", &self.entry_points)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UdpService {
    #[serde(default = "load_balancer")]
    pub service_type: String,
    pub config_json: String,
}

impl RowBody for UdpService {
    const NOUN: &'static str = "UDP service";
    rows_in!(proxy_udp_services);
    fn check(&self) -> Result<(), Invalid> {
        one_of("service_type", &self.service_type, &SERVICES)?;
        check_object("config_json", &self.config_json)
    }
}

/// A certificate with its key, as files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TlsCert {
    pub cert_file: String,
    pub key_file: String,
    #[serde(default = "empty_list")]
    pub stores_json: String,
}

impl RowBody for TlsCert {
    const NOUN: &'static str = "certificate";
    const HAS_ENABLED: bool = false;
    rows_in!(proxy_tls_certs);
    fn check(&self) -> Result<(), Invalid> {
        check_path("cert_file", &self.cert_file, &CERTIFICATES)?;
        check_path("key_file", &self.key_file, &CERTIFICATES)?;
        let stores: Result<Vec<String>, _> = serde_json::from_str(&self.stores_json);
        stores
            .map(drop)
            .map_err(|_| Invalid::new("stores_json", "expected the text of a JSON array of names"))
    }
}

/// How TLS is spoken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TlsOption {
    pub config_json: String,
}

impl RowBody for TlsOption {
    const NOUN: &'static str = "TLS option";
    const HAS_ENABLED: bool = false;
    rows_in!(proxy_tls_options);
    fn check(&self) -> Result<(), Invalid> {
        check_object("config_json", &self.config_json)
    }
}

/// Where certificates are got (ACME, RFC 8555).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CertResolver {
    pub config_json: ConfigText,
}

impl RowBody for CertResolver {
    const NOUN: &'static str = "certificate resolver";
    const HAS_ENABLED: bool = false;
    rows_in!(proxy_cert_resolvers);
    fn check(&self) -> Result<(), Invalid> {
        check_object("config_json", &self.config_json)
    }
    fn text(&self) -> Option<&ConfigText> {
        Some(&self.config_json)
    }
    fn text_mut(&mut self) -> Option<&mut ConfigText> {
        Some(&mut self.config_json)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_in_all_their_forms() {
        assert_eq!(names("web").unwrap(), ["web"]);
        assert_eq!(names(r#"["a","b","a"]"#).unwrap(), ["a", "b"]);
        assert_eq!(names(" a , b,,").unwrap(), ["a", "b"]);
        assert!(names("[]").unwrap().is_empty() && names("").unwrap().is_empty());
        assert!(names("[1]").is_err());
    }

    #[test]
    fn a_router_keeps_its_texts_byte_for_byte() {
        let body = r#"{"name":" r ","rule":"Host(`a`)","service":"s","entry_points":["a", "b"],"middlewares":"m, n",
            "tls_json":"","id":"ignored","created_at":"ignored"}"#;
        let request: RowRequest<HttpRouter> = serde_json::from_str(body).unwrap();
        let row = request.row(None, Timestamp::UNIX_EPOCH, &Config::default()).unwrap();
        assert_eq!((row.name.as_str(), row.body.entry_points.as_str()), ("r", r#"["a","b"]"#));
        assert_eq!((row.body.middlewares.as_str(), row.body.tls_json), ("m, n", None));
        assert!(row.enabled);
    }

    #[test]
    fn what_is_no_list_of_names_is_refused() {
        for text in [r#"{"a":1}"#, r#""web""#, r#" {"web"}"#, "[1]"] {
            assert!(names(text).is_err(), "{text}");
        }
        assert_eq!(names("123").unwrap(), ["123"]);
    }

    #[test]
    fn ranges_that_the_daemon_would_forget_are_refused() {
        let check = |kind: &str, config: &str| {
            Middleware { middleware_type: kind.into(), config_json: config.into() }.check()
        };
        let refused = check("ipDenyList", r#"{"sourceRange":["10.0.0.0/8","10.0.0.0/99"]}"#).unwrap_err();
        assert!(refused.to_string().contains("10.0.0.0/99"), "{refused}");
        assert!(check("ipAllowList", r#"{"sourceRange":"10.0.0.0/8"}"#).is_err());
        assert!(check("ipWhiteList", r#"{"sourceRange":["10.0.0.1","fd00::/8"]}"#).is_ok());
        assert!(check("compress", r#"{"sourceRange":["x"]}"#).is_ok(), "not a list of addresses");
    }
}
