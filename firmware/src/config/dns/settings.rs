//! Settings of the resolver (contract/dns.md §5). A change is merged over what is stored: what is left out stays.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::{NonZeroU8, NonZeroU16};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::custom;
use super::names::{DomainName, Place, TlsUpstream, Upstream};
use crate::config::request::{self, check_text, text_or_none};
use crate::config::{BadValue, Invalid};

/// The daemon that resolves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    #[default]
    Rdns,
    Unbound,
}

impl Backend {
    pub fn word(self) -> &'static str {
        match self {
            Self::Rdns => "rdns",
            Self::Unbound => "unbound",
        }
    }
}

/// What unbound does with names of a local zone that has no data for them (unbound.conf(5), `local-zone`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LocalZoneType {
    Deny,
    Refuse,
    Static,
    #[default]
    Transparent,
    Redirect,
    Nodefault,
    Typetransparent,
    Inform,
    InformDeny,
    InformRedirect,
    AlwaysTransparent,
    AlwaysRefuse,
    AlwaysNxdomain,
    AlwaysNodata,
    AlwaysNull,
    Noview,
    BlockA,
}

/// A size in bytes as unbound.conf(5) writes it: digits with `k`, `m` or `g`. A number in a request is megabytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct CacheSize(String);

impl CacheSize {
    fn megabytes(number: u64) -> Self {
        Self(format!("{number}m"))
    }
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for CacheSize {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = CacheSize;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a size such as \"16m\", or a number of megabytes")
            }
            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<CacheSize, E> {
                match number {
                    0..=1_048_576 => Ok(CacheSize::megabytes(number)),
                    _ => Err(E::invalid_value(serde::de::Unexpected::Unsigned(number), &self)),
                }
            }
            fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<CacheSize, E> {
                // Browsers may send 16.0.
                match number.fract() == 0.0 && (0.0..=1_048_576.0).contains(&number) {
                    true => Ok(CacheSize::megabytes(number as u64)),
                    false => Err(E::invalid_value(serde::de::Unexpected::Float(number), &self)),
                }
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<CacheSize, E> {
                let digits = text.strip_suffix(['k', 'm', 'g']).unwrap_or(text);
                match (1..=12).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()) {
                    true => Ok(CacheSize(text.to_owned())),
                    false => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
                }
            }
        }
        d.deserialize_any(Visitor)
    }
}

/// Settings of the resolver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DnsResolver {
    pub backend: Backend,
    pub enabled: bool,
    /// Empty = everywhere. Loopback is always added.
    pub listen_interfaces: Vec<Place>,
    pub port: NonZeroU16,
    pub dnssec: bool,
    pub dns64: bool,
    /// Names of DHCP clients are answered.
    pub register_dhcp: bool,
    pub dhcp_domain: DomainName,
    pub local_zone_type: LocalZoneType,
    #[serde(deserialize_with = "text_or_none")]
    pub outgoing_interface: Option<Place>,
    /// 1 to 64.
    pub num_threads: NonZeroU8,
    pub msg_cache_size: CacheSize,
    pub rrset_cache_size: CacheSize,
    /// Seconds.
    pub cache_max_ttl: u32,
    pub cache_min_ttl: u32,
    pub prefetch: bool,
    pub prefetch_key: bool,
    pub infra_host_ttl: u32,
    pub unwanted_reply_threshold: u32,
    pub log_queries: bool,
    pub log_replies: bool,
    /// 0 to 5.
    pub log_verbosity: u8,
    /// Milliseconds; 0 = the daemon's own.
    pub query_timeout_ms: u32,
    pub hide_identity: bool,
    pub hide_version: bool,
    pub rebind_protection: bool,
    #[schemars(with = "Vec<String>")]
    pub private_addresses: Vec<IpNet>,
    pub forwarding_enabled: bool,
    pub forwarding_servers: Vec<Upstream>,
    pub use_system_nameservers: bool,
    pub dot_enabled: bool,
    pub dot_upstream: Vec<TlsUpstream>,
    /// Of older versions; `/dns/blocklists` is what counts.
    pub blocklists_enabled: bool,
    pub blocklist_urls: Vec<String>,
    pub whitelist: Vec<String>,
    pub blocklist_action: String,
    #[serde(deserialize_with = "text_or_none")]
    pub blocklist_redirect_ip: Option<IpAddr>,
    pub custom_options: String,
    /// After an apply, and for the status, the resolver is asked a question.
    pub probe_enabled: bool,
}

impl Default for DnsResolver {
    fn default() -> Self {
        Self {
            backend: Backend::Rdns,
            enabled: false,
            listen_interfaces: vec![Place::Address(IpAddr::from([0, 0, 0, 0]))],
            port: NonZeroU16::MIN.saturating_add(52),
            dnssec: true,
            dns64: false,
            register_dhcp: true,
            dhcp_domain: DomainName::local(),
            local_zone_type: LocalZoneType::Transparent,
            outgoing_interface: None,
            num_threads: NonZeroU8::MIN.saturating_add(1),
            msg_cache_size: CacheSize::megabytes(8),
            rrset_cache_size: CacheSize::megabytes(16),
            cache_max_ttl: 86_400,
            cache_min_ttl: 0,
            prefetch: true,
            prefetch_key: true,
            infra_host_ttl: 900,
            unwanted_reply_threshold: 10_000,
            log_queries: false,
            log_replies: false,
            log_verbosity: 1,
            query_timeout_ms: 0,
            hide_identity: true,
            hide_version: true,
            rebind_protection: true,
            private_addresses: private_networks(),
            forwarding_enabled: true,
            forwarding_servers: vec![Upstream::at([1, 1, 1, 1]), Upstream::at([8, 8, 8, 8])],
            use_system_nameservers: false,
            dot_enabled: false,
            dot_upstream: vec![TlsUpstream::cloudflare([1, 1, 1, 1]), TlsUpstream::cloudflare([1, 0, 0, 1])],
            blocklists_enabled: false,
            blocklist_urls: Vec::new(),
            whitelist: Vec::new(),
            blocklist_action: "nxdomain".into(),
            blocklist_redirect_ip: None,
            custom_options: String::new(),
            probe_enabled: true,
        }
    }
}

/// Networks whose addresses no public name should have: RFC 1918, RFC 3927, RFC 4193, RFC 4291 §2.5.6.
pub fn private_networks() -> Vec<IpNet> {
    let v4 = |a, b, length| IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, 0, 0), length));
    let v6 =
        |first, length| IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(first, 0, 0, 0, 0, 0, 0, 0), length));
    vec![v4(10, 0, 8), v4(172, 16, 12), v4(192, 168, 16), v4(169, 254, 16), v6(0xfd00, 8), v6(0xfe80, 10)]
}

/// More servers or networks than anyone means.
const MOST: usize = 256;

impl DnsResolver {
    /// The settings with what a request names changed; what it leaves out stays, what is unknown is ignored.
    pub fn changed_by(&self, change: &serde_json::Map<String, Value>) -> Result<Self, Invalid> {
        let bad = |error: serde_json::Error| Invalid::new("body", error.to_string());
        let mut whole = serde_json::to_value(self).map_err(bad)?;
        if let Value::Object(whole) = &mut whole {
            for (key, slot) in whole.iter_mut() {
                if let Some(value) = change.get(key) {
                    *slot = value.clone();
                }
            }
        }
        let settings: Self = request::from_value(whole)?;
        settings.check()?;
        Ok(settings)
    }

    /// What holds between fields, and limits that no type says.
    pub fn check(&self) -> Result<(), Invalid> {
        let within = |field: &str, value: u32, most: u32| match value <= most {
            true => Ok(()),
            false => Err(Invalid::new(field, format!("expected at most {most}"))),
        };
        if self.num_threads.get() > 64 {
            return Err(Invalid::new("num_threads", "expected 1 to 64"));
        }
        within("query_timeout_ms", self.query_timeout_ms, 60_000)?;
        within("log_verbosity", self.log_verbosity.into(), 5)?;
        // RFC 2181 §8: a TTL has 31 bits.
        within("cache_max_ttl", self.cache_max_ttl, i32::MAX as u32)?;
        within("infra_host_ttl", self.infra_host_ttl, i32::MAX as u32)?;
        if self.cache_min_ttl > self.cache_max_ttl {
            return Err(Invalid::new("cache_min_ttl", "expected at most cache_max_ttl"));
        }
        let lists = [
            ("listen_interfaces", self.listen_interfaces.len()),
            ("private_addresses", self.private_addresses.len()),
            ("forwarding_servers", self.forwarding_servers.len()),
            ("dot_upstream", self.dot_upstream.len()),
            ("blocklist_urls", self.blocklist_urls.len()),
            ("whitelist", self.whitelist.len()),
        ];
        if let Some((field, _)) = lists.iter().find(|(_, length)| *length > MOST) {
            return Err(Invalid::new(*field, format!("expected at most {MOST} entries")));
        }
        check_text("blocklist_action", &self.blocklist_action, 64)?;
        for (field, list) in [("blocklist_urls", &self.blocklist_urls), ("whitelist", &self.whitelist)] {
            list.iter().try_for_each(|text| check_text(field, text, 2048))?;
        }
        self.custom().map_err(|bad| bad.field("custom_options"))
    }

    fn custom(&self) -> Result<(), BadValue> {
        if self.custom_options.len() > 65_536 {
            return Err(BadValue::new("expected at most 65536 bytes"));
        }
        match self.backend {
            Backend::Rdns => custom::for_rdns(&self.custom_options).map(drop),
            Backend::Unbound => custom::for_unbound(&self.custom_options).map(drop),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn changed(change: Value) -> Result<DnsResolver, String> {
        let settings = DnsResolver::default();
        settings.changed_by(change.as_object().unwrap()).map_err(|invalid| invalid.to_string())
    }

    #[test]
    fn what_is_left_out_stays() {
        let settings =
            changed(json!({ "msg_cache_size": 16, "outgoing_interface": "", "extra": 1 })).unwrap();
        let expected = DnsResolver { msg_cache_size: CacheSize("16m".into()), ..DnsResolver::default() };
        assert_eq!(settings, expected);
        let shown = serde_json::to_value(&settings).unwrap();
        assert_eq!(shown["msg_cache_size"], "16m");
        assert_eq!(shown["forwarding_servers"], json!(["1.1.1.1", "8.8.8.8"]));
        assert_eq!(shown["dot_upstream"][0], "1.1.1.1@853#cloudflare-dns.com");
        assert_eq!(shown["listen_interfaces"], json!(["0.0.0.0"]));
        assert_eq!(shown["outgoing_interface"], Value::Null);
        assert_eq!(shown.as_object().unwrap().len(), 39);
    }

    #[test]
    fn the_field_at_fault_is_named() {
        for (change, field) in [
            (json!({"port": 0}), "port"),
            (json!({"port": 65_536}), "port"),
            (json!({"backend": "bind"}), "backend"),
            (json!({"num_threads": 65}), "num_threads"),
            (json!({"query_timeout_ms": 60_001}), "query_timeout_ms"),
            (json!({"cache_min_ttl": 5, "cache_max_ttl": 4}), "cache_min_ttl"),
            (json!({"dhcp_domain": "a b"}), "dhcp_domain"),
            (json!({"forwarding_servers": ["1.1.1.1", "x"]}), "forwarding_servers[1]"),
            (json!({"dot_upstream": ["1.1.1.1@x"]}), "dot_upstream[0]"),
            (json!({"private_addresses": ["10.0.0.0/33"]}), "private_addresses[0]"),
            (json!({"listen_interfaces": ["em0\nx"]}), "listen_interfaces[0]"),
            (json!({"msg_cache_size": "8x"}), "msg_cache_size"),
            (json!({"blocklist_action": "a\nb"}), "blocklist_action"),
            (json!({"custom_options": "[server]\nuser = \"root\""}), "custom_options"),
            (json!({"enabled": null}), "enabled"),
        ] {
            let refusal = changed(change.clone()).unwrap_err();
            assert!(refusal.starts_with(&format!("{field}: ")), "{change}: {refusal}");
        }
    }
}
