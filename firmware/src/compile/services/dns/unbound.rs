//! unbound's configuration (unbound.conf(5)). Pure.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use serde_json::json;

use super::zones::{self, Named};
use super::{DnsError, World};
use crate::compile::services::{Artifacts, Facts, File};
use crate::compile::template::render;
use crate::config::Config;
use crate::config::dns::names::Place;
use crate::config::dns::records::MX_PRIORITY;
use crate::config::dns::settings::private_networks;
use crate::config::dns::{AclAction, HostOverride, RecordType, custom};

/// The keys that sign the root zone, as IANA publishes them (root-anchors.xml): KSK-2017 and KSK-2024.
const ROOT_ANCHORS: &str = "\
. IN DS 20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D
. IN DS 38696 8 2 683D2D0ACB8C9B712A1948B27F741219298D0A450D612C483AF444A4C0FB2B16
";

pub fn artifacts(config: &Config, facts: &Facts, world: &World) -> Result<Artifacts, DnsError> {
    let settings = &*config.dns_resolver;
    let mut warnings = Vec::new();
    let listen = super::listen(settings, facts, &mut warnings);
    let probe = super::probe(settings, facts, &listen);
    let places = &facts.places;
    let mut local_data = vec![format!("{}. 300 IN TXT \"{}\"", probe.name, probe.token)];
    for (name, hosts) in &zones::overrides(config) {
        local_data.extend(hosts.iter().map(|host| record(name, host)));
    }
    let leased = zones::dhcp_names(config, world);
    local_data.extend(leased.iter().map(address_record));
    let pointers = zones::addressed(config, world);
    let pointers = pointers.iter().map(|named| format!("{} {}", named.ip, named.name)).collect::<Vec<_>>();
    let kind = serde_json::to_value(settings.local_zone_type).unwrap_or_default();
    let mut local_zones = vec![json!({ "name": probe.name, "kind": "static" })];
    if settings.register_dhcp {
        local_zones.push(json!({ "name": settings.dhcp_domain.plain(), "kind": kind }));
    }
    // Some names are unbound's own by default (`test.`, reverse zones of private networks); what is forwarded is not.
    let private_domains = private_domains(config);
    for domain in &private_domains {
        if local_zones.iter().all(|zone| zone["name"] != **domain) {
            local_zones.push(json!({ "name": domain, "kind": "transparent" }));
        }
    }
    if settings.query_timeout_ms > 0 {
        warnings.push("query_timeout_ms: unbound has no such setting".into());
    }
    let modules = match settings.dns64 {
        true => "dns64 validator iterator",
        false => "validator iterator",
    };
    let yes = |on: bool| if on { "yes" } else { "no" };
    let at = |address: &SocketAddr| format!("{}@{}", address.ip(), address.port());
    let custom = custom::for_unbound(&settings.custom_options).map_err(DnsError::Custom);
    let values = json!({
        "user": if facts.sandbox { "" } else { "unbound" },
        "directory": places.config,
        "pidfile": places.run.join("unbound.pid"),
        "port": facts.listen.port(settings.port.get()),
        "listen": listen.iter().map(at).collect::<Vec<_>>(),
        "outgoing": outgoing(settings.outgoing_interface.as_ref(), facts, &mut warnings),
        "acls": acls(config, facts),
        "num_threads": settings.num_threads,
        "outgoing_range": (896 / u32::from(settings.num_threads.get())).max(64),
        "msg_cache_size": settings.msg_cache_size.as_str(),
        "rrset_cache_size": settings.rrset_cache_size.as_str(),
        "cache_max_ttl": settings.cache_max_ttl,
        "cache_min_ttl": settings.cache_min_ttl,
        "prefetch": yes(settings.prefetch),
        "prefetch_key": yes(settings.prefetch_key),
        "infra_host_ttl": settings.infra_host_ttl,
        "unwanted_reply_threshold": settings.unwanted_reply_threshold,
        "log_queries": yes(settings.log_queries),
        "log_replies": yes(settings.log_replies),
        "verbosity": settings.log_verbosity,
        "hide_identity": yes(settings.hide_identity),
        "hide_version": yes(settings.hide_version),
        "modules": modules,
        "dns64": settings.dns64,
        "trust_anchor": settings.dnssec.then(|| places.config.join("root.key")),
        "private_addresses": if settings.rebind_protection { &settings.private_addresses[..] } else { &[] },
        "local_zones": local_zones,
        "private_domains": private_domains,
        "local_data": local_data,
        "local_ptr": pointers,
        "custom": custom?,
        "control_socket": places.run.join("unbound.ctl"),
        "forward_zones": forward_zones(config, world),
    });
    let text = render("unbound.conf", include_str!("../../../../../templates/unbound/unbound.conf"), values)?;
    let files = vec![File::new("unbound.conf", text), super::probe_file(&probe)];
    let seeds = if settings.dnssec { vec![File::new("root.key", ROOT_ANCHORS)] } else { Vec::new() };
    Ok(Artifacts { enabled: settings.enabled, files, seeds, warnings, ..Artifacts::default() })
}

fn address_record(named: &Named) -> String {
    let kind = if named.ip.is_ipv4() { "A" } else { "AAAA" };
    format!("{}. {} IN {kind} {}", named.name, zones::TTL, named.ip)
}

fn record(name: &str, host: &HostOverride) -> String {
    let value = host.value.trim_end_matches('.');
    let data = match host.record_type {
        RecordType::A | RecordType::Aaaa => host.value.clone(),
        RecordType::Cname | RecordType::Ns | RecordType::Ptr => format!("{value}."),
        RecordType::Mx => format!("{} {value}.", host.mx_priority.unwrap_or(MX_PRIORITY)),
        RecordType::Txt => text(&host.value),
    };
    format!("{name}. {} IN {} {data}", zones::TTL, host.record_type.word())
}

/// Character strings in presentation form (RFC 1035 §5.1). All but plain characters are written by number, so that
/// no quote of the value can end one of unbound's.
fn text(value: &str) -> String {
    let strings = value.as_bytes().chunks(255).map(|chunk| {
        let escaped: String = chunk
            .iter()
            .map(|byte| match byte {
                b'a'..=b'z'
                | b'A'..=b'Z'
                | b'0'..=b'9'
                | b' '
                | b'='
                | b'-'
                | b'_'
                | b'.'
                | b':'
                | b'/'
                | b'+' => char::from(*byte).to_string(),
                _ => format!("\\{byte:03}"),
            })
            .collect();
        format!("\"{escaped}\"")
    });
    let strings: Vec<String> = strings.collect();
    if strings.is_empty() { "\"\"".into() } else { strings.join(" ") }
}

fn outgoing(place: Option<&Place>, facts: &Facts, warnings: &mut Vec<String>) -> Vec<IpAddr> {
    match place {
        None => Vec::new(),
        Some(Place::Address(ip)) => vec![*ip],
        Some(Place::Interface(name)) => {
            let own = facts.addresses_of(name.as_str());
            if own.is_empty() {
                warnings.push(format!("outgoing_interface: {name} has no address"));
            }
            own
        }
    }
}

/// Rows as they are, since unbound too lets the most specific one decide; with none that allows, who may ask by
/// default.
fn acls(config: &Config, facts: &Facts) -> Vec<serde_json::Value> {
    let rows = super::acl_rows(config);
    let row = |network: String, action: AclAction| json!({ "network": network, "action": action.word() });
    let told: BTreeSet<_> = rows.iter().map(|row| row.network).collect();
    let mut all = Vec::new();
    if !rows.iter().any(|row| row.action.allows()) {
        let connected = facts.interfaces.iter().flat_map(|interface| &interface.networks).map(|n| n.trunc());
        let default: BTreeSet<_> = private_networks().into_iter().chain(connected).collect();
        all.extend(default.difference(&told).map(|network| row(network.to_string(), AclAction::Allow)));
    }
    all.extend(rows.iter().map(|acl| row(acl.network.to_string(), acl.action)));
    all.extend(["127.0.0.0/8", "::1/128"].map(|own| row(own.to_owned(), AclAction::Allow)));
    all
}

/// Domains whose servers are ours: their answers may hold private addresses, and need no signatures.
fn private_domains(config: &Config) -> Vec<String> {
    super::enabled_domains(config).iter().map(|row| row.domain.plain()).collect()
}

fn forward_zones(config: &Config, world: &World) -> Vec<serde_json::Value> {
    let settings = &*config.dns_resolver;
    let at = |address: &SocketAddr| format!("{}@{}", address.ip(), address.port());
    let mut all: Vec<_> = super::enabled_domains(config)
        .iter()
        .map(|row| {
            let servers: Vec<String> = row.server.0.iter().map(|server| at(&server.0)).collect();
            json!({ "name": row.domain.plain(), "servers": servers, "tls": false, "first": false })
        })
        .collect();
    let servers: Vec<String> = if settings.dot_enabled && !settings.dot_upstream.is_empty() {
        let named = settings.dot_upstream.iter().map(|server| match &server.name {
            Some(name) => format!("{}#{}", at(&server.address), name.plain()),
            None => at(&server.address),
        });
        named.collect()
    } else {
        super::forwarders(settings, world).iter().map(at).collect()
    };
    if !servers.is_empty() {
        let tls = settings.dot_enabled && !settings.dot_upstream.is_empty();
        // In the clear where it was asked to be secret would be worse than no answer.
        all.push(json!({ "name": ".", "servers": servers, "tls": tls, "first": !tls }));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn no_quote_of_a_value_can_end_one_of_the_file() {
        assert_eq!(text("v=spf1 -all"), "\"v=spf1 -all\"");
        assert_eq!(text("a'b\"c"), "\"a\\039b\\034c\"");
        assert_eq!(text("é"), "\"\\195\\169\"");
    }
}
