//! What the resolver is given: rDNS's configuration with its zones, or unbound's, as the settings choose; and how
//! either is asked whether it works. Pure; called by `services/rdns` and to tell what is pending.

mod acl;
mod unbound;
pub mod zones;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Artifacts, Facts, File, ListenMap, Places, rpz};
use crate::compile::template::{TemplateError, render};
use crate::config::dns::names::{DNS_PORT, Place};
use crate::config::dns::{Acl, Backend, DnsResolver, DomainOverride, custom};
use crate::config::{BadValue, Config, Timestamp};
use zones::Named;

/// What neither the configuration nor [`Facts`] say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct World {
    /// Names that DHCP clients have given themselves, as they were leased.
    pub leases: Vec<Named>,
    /// The appliance's own name servers, loopback left out.
    pub system_servers: Vec<SocketAddr>,
    /// Servers that gave no answer a moment ago.
    pub unreachable: BTreeSet<SocketAddr>,
    /// Addresses of names that aliases of overrides lead to.
    pub aliases: BTreeMap<String, Vec<IpAddr>>,
    /// Who the daemon is after it has opened its sockets, and this user's group.
    pub user: String,
    pub group: String,
}

#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    #[error(transparent)]
    Template(#[from] TemplateError),
    #[error("custom_options: {0}")]
    Custom(BadValue),
    /// Ours, not the administrator's.
    #[error("rdns.toml: {0}")]
    Toml(String),
}

/// How a running resolver is asked whether it works, and is known to be ours. Lies beside its configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    pub backend: Backend,
    /// As the administrator wants it: without, a process that runs is taken for a resolver that works.
    pub enabled: bool,
    pub address: SocketAddr,
    /// A name that this resolver alone knows…
    pub name: String,
    /// … and the text that it has.
    pub token: String,
}

/// Below the directory of the configuration.
pub const PROBE_FILE: &str = "probe.json";
const READY: &str = "ready.aifw.internal";

/// Files of the daemon that the configuration chooses.
pub fn artifacts(config: &Config, facts: &Facts, world: &World) -> Result<Artifacts, DnsError> {
    match config.dns_resolver.backend {
        Backend::Rdns => rdns(config, facts, world),
        Backend::Unbound => unbound::artifacts(config, facts, world),
    }
}

fn rdns(config: &Config, facts: &Facts, world: &World) -> Result<Artifacts, DnsError> {
    let settings = &*config.dns_resolver;
    let mut warnings = Vec::new();
    let listen = listen(settings, facts, &mut warnings);
    let forwarders = healthy_first(forwarders(settings, world), world);
    if !forwarders.is_empty() && forwarders.iter().all(|server| world.unreachable.contains(server)) {
        warnings.push("forwarding_servers: none of them answers".into());
    }
    let acls = acl_rows(config);
    let policy = zones::policy(config, world, &mut warnings);
    let probe = probe(settings, facts, &listen);
    let mut files = vec![zones::ready(&probe.name, &probe.token)];
    files.extend(zones::dhcp_domain(config, &mut warnings));
    files.extend(zones::hosts(config, world, &mut warnings));
    files.extend(zones::reverse(config, world));
    hidden_domains(config, &mut warnings);
    let values = json!({
        "user": world.user,
        "group": world.group,
        // Relative to where it is started, as the policy zones are: it makes them after it has become another user.
        "pidfile": "../run/rdns.pid",
        "listen": listen,
        "cache_max_ttl": settings.cache_max_ttl,
        "cache_min_ttl": settings.cache_min_ttl,
        "forwarders": forwarders,
        "dnssec": settings.dnssec,
        "dns64": settings.dns64,
        "query_timeout_ms": (settings.query_timeout_ms > 0).then_some(settings.query_timeout_ms),
        "forward_zones": forward_zones(config, world),
        "control_socket": "../run/control.sock",
        "metrics": !facts.sandbox,
        "level": if settings.log_verbosity >= 2 { "debug" } else { "info" },
        "query_log": settings.log_queries,
        "allow": acl::allowed(&acls, &facts.interfaces),
        "rpz": rpz::zones(config).iter().map(|zone| json!({ "name": zone.name, "file": zone.file })).collect::<Vec<_>>(),
    });
    let mut text = render("rdns.toml", include_str!("../../../../../templates/rdns/rdns.toml"), values)?;
    let added = custom::for_rdns(&settings.custom_options).map_err(DnsError::Custom)?;
    if !added.is_empty() {
        let mut table: toml::Table = text.parse().map_err(|error| DnsError::Toml(format!("{error}")))?;
        custom::merge(&mut table, added);
        text = table.to_string();
    }
    warn_of_rdns(settings, &mut warnings);
    files.insert(0, File::new("rdns.toml", text));
    files.push(policy);
    files.push(rpz::custom(config, world));
    files.push(probe_file(&probe));
    keep_first_of_each_name(&mut files);
    Ok(Artifacts {
        enabled: settings.enabled,
        files,
        seeds: rpz::seeds(config),
        warnings,
        facts: vec![("user", world.user.clone()), ("group", world.group.clone())],
    })
}

fn probe_file(probe: &Probe) -> File {
    // A struct of plain fields: serialising it has no way to fail.
    File::new(PROBE_FILE, serde_json::to_vec(probe).unwrap_or_default())
}

/// An override may have the name of a zone that we make for another reason; names are files.
fn keep_first_of_each_name(files: &mut Vec<File>) {
    let mut seen = BTreeSet::new();
    files.retain(|file| seen.insert(file.path.clone()));
}

/// Where to listen, loopback always included.
fn listen(settings: &DnsResolver, facts: &Facts, warnings: &mut Vec<String>) -> Vec<SocketAddr> {
    let mut ips: Vec<IpAddr> = Vec::new();
    for place in &settings.listen_interfaces {
        match place {
            Place::Address(ip) => ips.push(*ip),
            Place::Interface(name) => {
                // A link-local address alone does not say on which link it is.
                let usable = |ip: &IpAddr| !matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
                let own: Vec<IpAddr> = facts.addresses_of(name.as_str()).into_iter().filter(usable).collect();
                if own.is_empty() {
                    warnings.push(format!("listen_interfaces: {name} has no address to listen on"));
                }
                ips.extend(own);
            }
        }
    }
    let (all_v4, all_v6) = (IpAddr::from(Ipv4Addr::UNSPECIFIED), IpAddr::from(Ipv6Addr::UNSPECIFIED));
    if settings.listen_interfaces.is_empty() {
        ips.extend([all_v4, all_v6]);
    }
    // What listens everywhere listens there too; twice the same port would clash.
    for (all, loopback) in
        [(all_v4, IpAddr::from(Ipv4Addr::LOCALHOST)), (all_v6, IpAddr::from(Ipv6Addr::LOCALHOST))]
    {
        if ips.contains(&all) {
            ips.retain(|ip| ip.is_ipv4() != all.is_ipv4() || *ip == all);
        } else {
            ips.push(loopback);
        }
    }
    facts.listen.all(ips.into_iter().map(|ip| SocketAddr::new(ip, settings.port.get())))
}

/// How the daemon that listens there is asked.
fn probe(settings: &DnsResolver, facts: &Facts, listen: &[SocketAddr]) -> Probe {
    let loopback = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), facts.listen.port(settings.port.get()));
    let address = match listen.iter().any(|place| *place == loopback || place.ip() == Ipv4Addr::UNSPECIFIED) {
        true => loopback,
        false => listen.first().copied().unwrap_or(loopback),
    };
    Probe {
        backend: settings.backend,
        enabled: settings.probe_enabled,
        address,
        name: READY.into(),
        token: token(&facts.places.config),
    }
}

/// A text that is another one for each appliance on a host: a rehearsal's is that of the live daemon's parent.
fn token(directory: &Path) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, directory.as_os_str().as_encoded_bytes());
    data_encoding::HEXLOWER.encode(digest.as_ref().get(..16).unwrap_or_default())
}

fn forwarders(settings: &DnsResolver, world: &World) -> Vec<SocketAddr> {
    let mut servers = Vec::new();
    if settings.forwarding_enabled {
        servers.extend(settings.forwarding_servers.iter().map(|server| server.0));
    }
    if settings.use_system_nameservers {
        servers.extend(&world.system_servers);
    }
    let mut seen = BTreeSet::new();
    servers.retain(|server| seen.insert(*server));
    servers
}

/// rDNS asks the first one and has no second try in time; those that answer come first, in the order given.
fn healthy_first(mut servers: Vec<SocketAddr>, world: &World) -> Vec<SocketAddr> {
    servers.sort_by_key(|server| world.unreachable.contains(server));
    servers
}

/// Every server that the resolver may ask, for whoever finds out which ones answer.
pub fn servers(config: &Config, world: &World) -> BTreeSet<SocketAddr> {
    let domains =
        enabled_domains(config).into_iter().flat_map(|row| row.server.0.iter().map(|server| server.0));
    forwarders(&config.dns_resolver, world).into_iter().chain(domains).collect()
}

/// Names outside the overrides that aliases of overrides lead to.
pub fn alias_targets(config: &Config) -> BTreeSet<String> {
    let names = zones::overrides(config);
    let aliases =
        names.values().flatten().filter(|host| host.record_type == crate::config::dns::RecordType::Cname);
    aliases
        .map(|host| host.value.trim_end_matches('.').to_ascii_lowercase())
        .filter(|target| !names.contains_key(target))
        .collect()
}

fn enabled_domains(config: &Config) -> Vec<&DomainOverride> {
    let mut rows: Vec<&DomainOverride> =
        config.dns_domains.iter().map(|row| &**row).filter(|row| row.enabled).collect();
    rows.sort_by_key(|row| row.domain.plain());
    rows
}

fn acl_rows(config: &Config) -> Vec<&Acl> {
    let mut rows: Vec<&Acl> = config.dns_acls.iter().map(|row| &**row).collect();
    rows.sort_by_key(|row| (row.network, row.id));
    rows
}

fn forward_zones(config: &Config, world: &World) -> Vec<serde_json::Value> {
    let zone = |row: &DomainOverride| {
        let servers = healthy_first(row.server.0.iter().map(|server| server.0).collect(), world);
        json!({ "name": row.domain.plain(), "forwarders": servers })
    };
    enabled_domains(config).into_iter().map(zone).collect()
}

/// rDNS answers from its zones before it forwards.
fn hidden_domains(config: &Config, warnings: &mut Vec<String>) {
    let names = zones::overrides(config);
    for row in enabled_domains(config) {
        let domain = row.domain.plain();
        let covers = |name: &&String| domain == **name || domain.ends_with(&format!(".{name}"));
        let own = names.iter().filter(|(_, hosts)| hosts.iter().all(|host| !host.hostname.is_apex()));
        if let Some(name) = own.map(|(name, _)| name).find(covers) {
            warnings.push(format!("{domain}: not forwarded, the host override {name} covers it"));
        }
    }
}

/// What is set and rDNS has nothing for.
fn warn_of_rdns(settings: &DnsResolver, warnings: &mut Vec<String>) {
    let default = DnsResolver::default();
    let mut warn = |set: bool, field: &str, what: &str| {
        if set {
            warnings.push(format!("{field}: rDNS {what}"));
        }
    };
    let no_effect = "has no such setting";
    warn(
        settings.dot_enabled,
        "dot_enabled",
        "cannot ask its upstream over TLS; questions leave in the clear",
    );
    warn(settings.rebind_protection, "rebind_protection", "does not filter private addresses out of answers");
    warn(settings.outgoing_interface.is_some(), "outgoing_interface", no_effect);
    warn(settings.log_replies, "log_replies", no_effect);
    warn(settings.num_threads != default.num_threads, "num_threads", no_effect);
    warn(settings.msg_cache_size != default.msg_cache_size, "msg_cache_size", no_effect);
    warn(settings.rrset_cache_size != default.rrset_cache_size, "rrset_cache_size", no_effect);
    warn(settings.infra_host_ttl != default.infra_host_ttl, "infra_host_ttl", no_effect);
    warn(settings.local_zone_type != default.local_zone_type, "local_zone_type", no_effect);
    warn(
        settings.unwanted_reply_threshold != default.unwanted_reply_threshold,
        "unwanted_reply_threshold",
        no_effect,
    );
}

/// Whether an apply of `stored` would change the resolver that runs as `applied` says. What either daemon would be
/// given counts, so that a setting which only the other one has is not lost from sight.
pub fn differs(applied: &Config, stored: &Config) -> bool {
    if applied.dns_resolver == stored.dns_resolver
        && applied.dns_hosts.same(&stored.dns_hosts)
        && applied.dns_domains.same(&stored.dns_domains)
        && applied.dns_acls.same(&stored.dns_acls)
    {
        return false;
    }
    let directory = |name: &str| std::path::PathBuf::from("/").join(name);
    let facts = Facts {
        interfaces: Vec::new(),
        places: Places {
            config: directory("etc"),
            run: directory("run"),
            data: directory("data"),
            log: directory("log"),
        },
        listen: ListenMap::AsConfigured,
        root: directory(""),
        sandbox: false,
        now: Timestamp::UNIX_EPOCH,
    };
    // One system server, so that it shows whether they are asked.
    let world = World { system_servers: vec![([192, 0, 2, 53], DNS_PORT).into()], ..World::default() };
    let made = |config: &Config| {
        // Blocklists act at once, and other services have applies of their own.
        let mut own = applied.clone();
        crate::config::ServiceKind::Dns.adopt(config, &mut own);
        // Compared as text: what one daemon takes there, the other does not.
        let custom = std::mem::take(&mut std::sync::Arc::make_mut(&mut own.dns_resolver).custom_options);
        let rdns = rdns(&own, &facts, &world).map(|artifacts| artifacts.files).ok();
        let unbound = unbound::artifacts(&own, &facts, &world).map(|artifacts| artifacts.files).ok();
        (own.dns_resolver.enabled, own.dns_resolver.backend, places(&own), custom, rdns, unbound)
    };
    made(applied) != made(stored)
}

/// As configured: names of interfaces have no addresses when differences are looked for.
fn places(config: &Config) -> Vec<String> {
    config.dns_resolver.listen_interfaces.iter().map(Place::to_string).collect()
}

#[cfg(test)]
mod tests;
