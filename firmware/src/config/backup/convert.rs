//! From a configuration to its document, and back: what a document does not tell stays as it is stored.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::appliance::ApplianceSection;
use super::sections::*;
use super::{ConfigDocument, NetworkSection, SCHEMA_VERSION, services};
use crate::config::dhcp::{DhcpDdns, DhcpSubnet};
use crate::config::geoip::Country;
use crate::config::ha::{CarpVip, HaSettings};
use crate::config::nat::Redirect;
use crate::config::network;
use crate::config::request::Word;
use crate::config::rule::{Endpoint, StateOptions};
use crate::config::settings::{Tuning, TuningEntry};
use crate::config::vpn::WireGuard;
use crate::config::{
    Address, Alias, AuthSettings, Collection, Config, FirewallSettings, GeoIpRule, InterfaceName, Invalid,
    NatRule, Object, PortRange, Rule, Schedule, Secret, System, Timestamp,
};

const MAX_STATES_KEY: &str = "pf.max_states";

fn start(range: Option<PortRange>) -> Option<u16> {
    range.map(PortRange::start)
}
fn end(range: Option<PortRange>) -> Option<u16> {
    range.map(PortRange::end)
}

fn port_range(field: &str, start: Option<u16>, end: Option<u16>) -> Result<Option<PortRange>, Invalid> {
    match (start, end) {
        (None, None) => Ok(None),
        (Some(start), end) => {
            let range = PortRange::new(start, end.unwrap_or(start));
            range.map(Some).map_err(|bad| bad.field(format!("{field}_start")))
        }
        (None, Some(_)) => Err(Invalid::new(format!("{field}_start"), "expected, since there is an end")),
    }
}

pub(super) fn objects<T: Object>(collection: &Collection<T>) -> Vec<T> {
    collection.iter().map(|object| (**object).clone()).collect()
}

/// The objects of a collection in the order that `key` gives.
fn ordered<T: Object, K: Ord>(collection: &Collection<T>, key: impl Fn(&T) -> K) -> Vec<Arc<T>> {
    let mut list: Vec<Arc<T>> = collection.iter().cloned().collect();
    list.sort_by_cached_key(|object| key(object));
    list
}

impl ConfigDocument {
    pub fn from_config(config: &Config) -> Self {
        // Without `..`: what is added to the configuration must be added here, or a restore would lose it.
        let Config {
            rules,
            nat,
            aliases,
            schedules,
            geoip,
            queues,
            rate_limits,
            wireguard,
            ipsec,
            carp_vips,
            ha_nodes,
            dhcp_subnets,
            dhcp_reservations,
            static_routes,
            interfaces,
            interface_roles,
            vlans,
            system,
            auth,
            firewall,
            history,
            dashboard,
            tls,
            ha,
            dhcp,
            dhcp_ddns,
            dhcp_ha,
            tuning,
            // Part of `services`.
            dns_resolver: _,
            dns_hosts: _,
            dns_domains: _,
            dns_acls: _,
            dns_blocklists: _,
            dns_custom_blocks: _,
            dns_whitelist: _,
            dns_blocking: _,
            time: _,
            time_sources: _,
            proxy: _,
            ids: _,
            // How this machine is kept up to date is its own matter.
            updates: _,
            ids_rulesets: _,
            ids_overrides: _,
            ids_suppressions: _,
            proxy_entry_points: _,
            proxy_http_routers: _,
            proxy_http_services: _,
            proxy_middlewares: _,
            proxy_tcp_routers: _,
            proxy_tcp_services: _,
            proxy_udp_routers: _,
            proxy_udp_services: _,
            proxy_tls_certs: _,
            proxy_tls_options: _,
            proxy_cert_resolvers: _,
            // Part of `appliance`.
            dns_providers: _,
            ddns_records: _,
            ddns: _,
            mail: _,
            valkey: _,
            ai: _,
            preferences: _,
        } = config;
        let mut tuning_entries = vec![TuningEntry {
            key: MAX_STATES_KEY.into(),
            value: firewall.max_states.to_string(),
            target: "sysctl".into(),
            reason: "size of the state table".into(),
            enabled: true,
        }];
        tuning_entries.extend(tuning.entries.iter().cloned());
        Self {
            schema_version: SCHEMA_VERSION,
            system: SystemSection::from(&**system),
            auth: AuthSection::from(&**auth),
            rules: ordered(rules, Rule::order).iter().map(|rule| RuleEntry::from(&**rule)).collect(),
            nat: ordered(nat, |rule| (rule.position, rule.id))
                .iter()
                .map(|rule| NatEntry::from(&**rule))
                .collect(),
            queues: objects(queues),
            rate_limits: objects(rate_limits),
            vpn: VpnSection { wireguard: objects(wireguard), ipsec: objects(ipsec) },
            geoip: ordered(geoip, |rule| (rule.country.clone(), rule.id))
                .iter()
                .map(|rule| GeoIpEntry::from(&**rule))
                .collect(),
            tls: (**tls).clone(),
            ha: HaSection {
                carp_vips: objects(carp_vips),
                pfsync: ha.pfsync.clone(),
                nodes: objects(ha_nodes),
            },
            tuning: tuning_entries,
            dhcp: DhcpSection {
                global: (**dhcp).clone(),
                subnets: objects(dhcp_subnets),
                reservations: objects(dhcp_reservations),
                ddns: (**dhcp_ddns).clone(),
                dhcp_ha: (**dhcp_ha).clone(),
            },
            aliases: ordered(aliases, |alias| (alias.name.clone(), alias.id))
                .iter()
                .map(|alias| AliasEntry::from(&**alias))
                .collect(),
            static_routes: objects(static_routes),
            schedules: ordered(schedules, |schedule| (schedule.name.clone(), schedule.id))
                .iter()
                .map(|schedule| ScheduleEntry::from(&**schedule))
                .collect(),
            firewall: Some((**firewall).clone()),
            history: Some((**history).clone()),
            dashboard: Some((**dashboard).clone()),
            services: Some(services::rows(config)),
            network: Some(NetworkSection {
                interfaces: objects(interfaces),
                roles: objects(interface_roles),
                vlans: objects(vlans),
            }),
            appliance: Some(ApplianceSection::from_config(config)),
        }
    }

    /// The configuration that applying the document to `base` gives: its objects replace the stored ones.
    /// Settings and secrets that it leaves out stay as in `base`. Objects without times get `now`, in order.
    pub fn to_config(&self, base: &Config, now: Timestamp) -> Result<Config, Invalid> {
        self.validate()?;
        let mut config = Config {
            queues: unique("queues", self.queues.iter().cloned())?,
            rate_limits: unique("rate_limits", self.rate_limits.iter().cloned())?,
            ipsec: unique("vpn.ipsec", self.vpn.ipsec.iter().cloned())?,
            ha_nodes: unique("ha.nodes", self.ha.nodes.iter().cloned())?,
            dhcp_subnets: unique(
                "dhcp.subnets",
                self.dhcp.subnets.iter().cloned().map(DhcpSubnet::without_invalid_entries),
            )?,
            dhcp_reservations: unique("dhcp.reservations", self.dhcp.reservations.iter().cloned())?,
            static_routes: unique("static_routes", self.static_routes.iter().cloned())?,
            wireguard: unique(
                "vpn.wireguard",
                self.vpn.wireguard.iter().map(|tunnel| with_stored_keys(tunnel, base)),
            )?,
            carp_vips: unique(
                "ha.carp_vips",
                self.ha.carp_vips.iter().map(|vip| with_stored_password(vip, base)),
            )?,
            system: Arc::new(self.system.to_system(&base.system)?),
            auth: Arc::new(self.auth.to_settings(&base.auth)?),
            firewall: Arc::new(self.firewall_settings(&base.firewall)?),
            history: match &self.history {
                None => base.history.clone(),
                Some(history) if (5..=10_000).contains(&history.max_versions) => Arc::new(history.clone()),
                Some(_) => return Err(Invalid::new("history.max_versions", "expected 5 to 10000")),
            },
            dashboard: match &self.dashboard {
                None => base.dashboard.clone(),
                Some(dashboard) if (300..=2_592_000).contains(&dashboard.history_seconds) => {
                    Arc::new(dashboard.clone())
                }
                Some(_) => return Err(Invalid::new("dashboard.history_seconds", "expected 300 to 2592000")),
            },
            tls: Arc::new(self.tls.clone()),
            ha: Arc::new(HaSettings { pfsync: self.ha.pfsync.clone() }),
            dhcp: Arc::new(self.dhcp.global.clone()),
            dhcp_ddns: Arc::new(DhcpDdns {
                tsig_secret: or_stored(&self.dhcp.ddns.tsig_secret, Some(&base.dhcp_ddns.tsig_secret)),
                ..self.dhcp.ddns.clone()
            }),
            dhcp_ha: Arc::new(self.dhcp.dhcp_ha.clone()),
            tuning: Arc::new(Tuning {
                entries: self.tuning.iter().filter(|entry| entry.key != MAX_STATES_KEY).cloned().collect(),
            }),
            updates: base.updates.clone(),
            ..Config::default()
        };
        self.put_named_objects(&mut config, now)?;
        self.put_rules(&mut config, now)?;
        match &self.services {
            Some(rows) => services::put(rows, base, &mut config)?,
            None => services::put(&services::rows(base), base, &mut config)?,
        }
        self.put_network(&mut config, base)?;
        match &self.appliance {
            Some(section) => section.put(base, &mut config)?,
            None => ApplianceSection::from_config(base).put(base, &mut config)?,
        }
        Ok(config)
    }

    /// Interfaces, their roles and VLANs. A document that tells nothing of them says in its `system` section what WAN
    /// and LAN are; the rest stays.
    fn put_network(&self, config: &mut Config, base: &Config) -> Result<(), Invalid> {
        let Some(section) = &self.network else {
            config.interfaces = base.interfaces.clone();
            config.interface_roles = base.interface_roles.clone();
            config.vlans = base.vlans.clone();
            network::follow_system(config);
            return Ok(());
        };
        for (index, row) in section.interfaces.iter().enumerate() {
            let place = format!("network.interfaces[{index}]");
            row.addressing.check().map_err(|invalid| within(&place, invalid))?;
        }
        for (index, vlan) in section.vlans.iter().enumerate() {
            let place = format!("network.vlans[{index}]");
            vlan.check().map_err(|invalid| within(&place, invalid))?;
            if section.vlans.iter().take(index).any(|other| other.device == vlan.device) {
                return Err(Invalid::new(format!("{place}.device"), format!("{} stands twice", vlan.device)));
            }
        }
        config.interfaces = unique("network.interfaces", section.interfaces.iter().cloned())?;
        config.interface_roles = unique("network.roles", section.roles.iter().cloned())?;
        config.vlans = unique("network.vlans", section.vlans.iter().cloned())?;
        network::keep_in_step(config);
        Ok(())
    }

    /// Aliases, schedules and countries: each name once.
    fn put_named_objects(&self, config: &mut Config, now: Timestamp) -> Result<(), Invalid> {
        let mut aliases = Vec::with_capacity(self.aliases.len());
        let mut names = HashMap::new();
        for (index, entry) in self.aliases.iter().enumerate() {
            let place = format!("aliases[{index}]");
            let alias = entry.to_alias(now);
            alias.check().map_err(|invalid| within(&place, invalid))?;
            if names.insert(alias.name.clone(), index).is_some() {
                return Err(Invalid::new(format!("{place}.name"), format!("{} stands twice", alias.name)));
            }
            aliases.push(alias);
        }
        config.aliases = unique("aliases", aliases.into_iter())?;
        let mut schedules = Vec::with_capacity(self.schedules.len());
        let mut names = HashSet::new();
        for (index, entry) in self.schedules.iter().enumerate() {
            let place = format!("schedules[{index}]");
            let schedule = entry.to_schedule(now);
            schedule.check().map_err(|invalid| within(&place, invalid))?;
            if !names.insert(schedule.name.clone()) {
                return Err(Invalid::new(
                    format!("{place}.name"),
                    format!("{:?} stands twice", schedule.name),
                ));
            }
            schedules.push(schedule);
        }
        config.schedules = unique("schedules", schedules.into_iter())?;
        let mut countries = HashSet::new();
        let mut rules = Vec::with_capacity(self.geoip.len());
        for (index, entry) in self.geoip.iter().enumerate() {
            let field = || format!("geoip[{index}].country");
            let country =
                Country::new(&entry.country.trim().to_ascii_uppercase()).map_err(|bad| bad.field(field()))?;
            if !countries.insert(country.clone()) {
                return Err(Invalid::new(field(), format!("{country} stands twice")));
            }
            rules.push(GeoIpRule {
                id: entry.id,
                country,
                action: entry.action.0,
                label: entry.label.clone(),
                status: entry.status.0,
                created_at: entry.created_at.unwrap_or(now),
                updated_at: entry.updated_at.or(entry.created_at).unwrap_or(now),
            });
        }
        config.geoip = unique("geoip", rules.into_iter())?;
        Ok(())
    }

    fn put_rules(&self, config: &mut Config, now: Timestamp) -> Result<(), Invalid> {
        let mut rules = Vec::with_capacity(self.rules.len());
        for (index, entry) in self.rules.iter().enumerate() {
            let place = format!("rules[{index}]");
            let rule = entry.to_rule(in_order(now, index)).map_err(|invalid| within(&place, invalid))?;
            let checked = rule.check().and_then(|()| rule.check_references(config));
            checked.map_err(|invalid| within(&place, invalid))?;
            rules.push(rule);
        }
        let mut nat = Vec::with_capacity(self.nat.len());
        for (index, entry) in self.nat.iter().enumerate() {
            let place = format!("nat[{index}]");
            let rule = entry.to_rule(index as u64 + 1, now).map_err(|invalid| within(&place, invalid))?;
            let checked = rule.check().and_then(|()| rule.check_references(config));
            checked.map_err(|invalid| within(&place, invalid))?;
            nat.push(rule);
        }
        config.rules = unique("rules", rules.into_iter())?;
        config.nat = unique("nat", nat.into_iter())?;
        Ok(())
    }

    fn firewall_settings(&self, base: &FirewallSettings) -> Result<FirewallSettings, Invalid> {
        let mut settings = self.firewall.clone().unwrap_or_else(|| base.clone());
        if let Some(index) = self.tuning.iter().position(|entry| entry.key == MAX_STATES_KEY) {
            let number = self.tuning.get(index).and_then(|entry| entry.value.trim().parse().ok());
            settings.max_states = number.ok_or_else(|| {
                Invalid::new(format!("tuning[{index}].value"), "expected a number of states")
            })?;
        }
        settings.check_tuning()?;
        Ok(settings)
    }
}

fn within(place: &str, invalid: Invalid) -> Invalid {
    Invalid { field: format!("{place}.{}", invalid.field), ..invalid }
}

/// A time for the object at `index` that keeps the order of the document.
fn in_order(now: Timestamp, index: usize) -> Timestamp {
    let step = jiff::SignedDuration::from_micros(i64::try_from(index).unwrap_or(0));
    now.checked_add(step).unwrap_or(now)
}

/// The objects by key; the same key twice is refused.
pub(super) fn unique<T: Object>(
    field: &str,
    list: impl Iterator<Item = T>,
) -> Result<Collection<T>, Invalid> {
    let mut collection = Collection::default();
    for (index, object) in list.enumerate() {
        if collection.contains(&object.key()) {
            return Err(Invalid::new(
                format!("{field}[{index}].id"),
                format!("{} stands twice", object.key()),
            ));
        }
        collection.insert(object);
    }
    Ok(collection)
}

pub(super) fn or_stored(given: &Secret, stored: Option<&Secret>) -> Secret {
    stored.filter(|_| given.is_empty()).unwrap_or(given).clone()
}

fn with_stored_keys(tunnel: &WireGuard, base: &Config) -> WireGuard {
    let stored = base.wireguard.get(&tunnel.id);
    let mut tunnel = tunnel.clone();
    tunnel.private_key = or_stored(&tunnel.private_key, stored.map(|stored| &stored.private_key));
    for peer in &mut tunnel.peers {
        let same = stored.and_then(|stored| stored.peers.iter().find(|stored| stored.id == peer.id));
        peer.preshared_key = or_stored(&peer.preshared_key, same.map(|stored| &stored.preshared_key));
    }
    tunnel
}

fn with_stored_password(vip: &CarpVip, base: &Config) -> CarpVip {
    let stored = base.carp_vips.get(&vip.id).map(|stored| &stored.password);
    CarpVip { password: or_stored(&vip.password, stored), ..vip.clone() }
}

impl From<&System> for SystemSection {
    fn from(system: &System) -> Self {
        // Without `..`, as above.
        let System {
            hostname,
            domain,
            timezone,
            dns_servers,
            wan_interface,
            wan_mode,
            wan_ip,
            wan_gateway,
            lan_interface,
            lan_ip,
            api_listen,
            api_port,
            ui_enabled,
            login_banner,
            motd,
            console,
            ssh_enabled,
            ssh_port,
            ssh_password_auth,
            ssh_permit_root_login,
            ssh_authorized_keys,
            // Never part of a document.
            root_password_hash: _,
        } = system;
        Self {
            hostname: hostname.clone(),
            dns_servers: dns_servers.clone(),
            wan_interface: wan_interface.as_ref().map(InterfaceName::to_string).unwrap_or_default(),
            lan_interface: lan_interface.as_ref().map(InterfaceName::to_string),
            lan_ip: lan_ip.map(|ip| ip.to_string()),
            api_listen: *api_listen,
            api_port: *api_port,
            ui_enabled: *ui_enabled,
            domain: domain.clone(),
            timezone: timezone.clone(),
            login_banner: login_banner.clone(),
            motd: motd.clone(),
            console: console.clone(),
            ssh: SshSection {
                enabled: *ssh_enabled,
                port: *ssh_port,
                password_auth: *ssh_password_auth,
                permit_root_login: *ssh_permit_root_login,
                authorized_keys: Some(ssh_authorized_keys.clone()),
            },
            wan_mode: Some(*wan_mode),
            wan_ip: wan_ip.map(|ip| ip.to_string()),
            wan_gateway: *wan_gateway,
        }
    }
}

impl SystemSection {
    fn to_system(&self, base: &System) -> Result<System, Invalid> {
        let interface = |field: &str, name: Option<&String>| {
            let name = name.filter(|name| !name.is_empty());
            name.map(|name| InterfaceName::new(name).map_err(|bad| bad.field(field))).transpose()
        };
        let network = |field: &str, text: &Option<String>| {
            let text = text.as_ref().filter(|text| !text.is_empty());
            text.map(|text| lan_network(field, text)).transpose()
        };
        // A document that says how the WAN gets its address also says which.
        let tells_wan = self.wan_mode.is_some();
        Ok(System {
            hostname: self.hostname.clone(),
            domain: self.domain.clone(),
            timezone: self.timezone.clone(),
            dns_servers: if self.dns_servers.is_empty() { &base.dns_servers } else { &self.dns_servers }
                .clone(),
            wan_interface: interface("system.wan_interface", Some(&self.wan_interface))?,
            wan_mode: self.wan_mode.unwrap_or(base.wan_mode),
            wan_ip: if tells_wan { network("system.wan_ip", &self.wan_ip)? } else { base.wan_ip },
            wan_gateway: if tells_wan { self.wan_gateway } else { base.wan_gateway },
            lan_interface: interface("system.lan_interface", self.lan_interface.as_ref())?,
            lan_ip: network("system.lan_ip", &self.lan_ip)?,
            api_listen: self.api_listen,
            api_port: self.api_port,
            ui_enabled: self.ui_enabled,
            login_banner: self.login_banner.clone(),
            motd: self.motd.clone(),
            console: self.console.clone(),
            ssh_enabled: self.ssh.enabled,
            ssh_port: self.ssh.port,
            ssh_password_auth: self.ssh.password_auth,
            ssh_permit_root_login: self.ssh.permit_root_login,
            ssh_authorized_keys: self
                .ssh
                .authorized_keys
                .clone()
                .unwrap_or_else(|| base.ssh_authorized_keys.clone()),
            root_password_hash: base.root_password_hash.clone(),
        })
    }
}

impl From<&AuthSettings> for AuthSection {
    fn from(auth: &AuthSettings) -> Self {
        let AuthSettings {
            access_token_expiry_mins,
            refresh_token_expiry_days,
            require_totp,
            require_totp_for_oauth,
            auto_create_oauth_users,
            max_login_attempts,
            lockout_duration_secs,
            allow_registration,
            password_min_length,
        } = auth.clone();
        Self {
            access_token_expiry_mins,
            refresh_token_expiry_days,
            require_totp,
            require_totp_for_oauth,
            auto_create_oauth_users,
            max_login_attempts: Some(max_login_attempts),
            lockout_duration_secs: Some(lockout_duration_secs),
            allow_registration: Some(allow_registration),
            password_min_length: Some(password_min_length),
        }
    }
}

impl AuthSection {
    fn to_settings(&self, base: &AuthSettings) -> Result<AuthSettings, Invalid> {
        if self.access_token_expiry_mins == 0 {
            return Err(Invalid::new("auth.access_token_expiry_mins", "expected at least 1"));
        }
        if self.refresh_token_expiry_days == 0 {
            return Err(Invalid::new("auth.refresh_token_expiry_days", "expected at least 1"));
        }
        Ok(AuthSettings {
            access_token_expiry_mins: self.access_token_expiry_mins,
            refresh_token_expiry_days: self.refresh_token_expiry_days,
            require_totp: self.require_totp,
            require_totp_for_oauth: self.require_totp_for_oauth,
            auto_create_oauth_users: self.auto_create_oauth_users,
            max_login_attempts: self.max_login_attempts.unwrap_or(base.max_login_attempts),
            lockout_duration_secs: self.lockout_duration_secs.unwrap_or(base.lockout_duration_secs),
            allow_registration: self.allow_registration.unwrap_or(base.allow_registration),
            password_min_length: self.password_min_length.unwrap_or(base.password_min_length),
        })
    }
}

impl From<&Rule> for RuleEntry {
    fn from(rule: &Rule) -> Self {
        Self {
            id: rule.id,
            priority: rule.priority,
            action: Word(rule.action),
            direction: Word(rule.direction),
            protocol: Word(rule.protocol),
            interface: rule.interface.clone(),
            src_addr: Some(rule.src.addr.clone()),
            src_port_start: start(rule.src.port),
            src_port_end: end(rule.src.port),
            dst_addr: Some(rule.dst.addr.clone()),
            dst_port_start: start(rule.dst.port),
            dst_port_end: end(rule.dst.port),
            log: rule.log,
            quick: rule.quick,
            label: rule.label.clone(),
            state_tracking: Word(rule.state.tracking),
            status: Word(rule.status),
            ip_version: Word(rule.ip_version),
            src_invert: rule.src.invert,
            dst_invert: rule.dst.invert,
            state_options: Some(rule.state.clone()),
            src_port_alias: rule.src.port_alias.clone(),
            dst_port_alias: rule.dst.port_alias.clone(),
            description: rule.description.clone(),
            gateway: rule.gateway.clone(),
            schedule_id: rule.schedule_id,
            created_at: Some(rule.created_at),
            updated_at: Some(rule.updated_at),
        }
    }
}

impl RuleEntry {
    fn to_rule(&self, now: Timestamp) -> Result<Rule, Invalid> {
        let addr = |address: &Option<Address>| address.clone().unwrap_or(Address::Any);
        let state = self.state_options.clone().unwrap_or_default();
        Ok(Rule {
            id: self.id,
            priority: self.priority,
            action: self.action.0,
            direction: self.direction.0,
            ip_version: self.ip_version.0,
            interface: self.interface.clone(),
            protocol: self.protocol.0,
            src: Endpoint {
                addr: addr(&self.src_addr),
                invert: self.src_invert,
                port: port_range("src_port", self.src_port_start, self.src_port_end)?,
                port_alias: self.src_port_alias.clone(),
            },
            dst: Endpoint {
                addr: addr(&self.dst_addr),
                invert: self.dst_invert,
                port: port_range("dst_port", self.dst_port_start, self.dst_port_end)?,
                port_alias: self.dst_port_alias.clone(),
            },
            log: self.log,
            quick: self.quick,
            label: self.label.clone(),
            description: self.description.clone(),
            gateway: self.gateway.clone(),
            state: StateOptions { tracking: self.state_tracking.0, ..state },
            status: self.status.0,
            schedule_id: self.schedule_id,
            created_at: self.created_at.unwrap_or(now),
            updated_at: self.updated_at.or(self.created_at).unwrap_or(now),
        })
    }
}

impl From<&NatRule> for NatEntry {
    fn from(rule: &NatRule) -> Self {
        Self {
            id: rule.id,
            nat_type: Word(rule.nat_type),
            interface: rule.interface.clone(),
            protocol: Word(rule.protocol),
            src_addr: Some(rule.src_addr.clone()),
            src_port_start: start(rule.src_port),
            src_port_end: end(rule.src_port),
            dst_addr: Some(rule.dst_addr.clone()),
            dst_port_start: start(rule.dst_port),
            dst_port_end: end(rule.dst_port),
            redirect_addr: rule.redirect.address.clone(),
            redirect_port_start: start(rule.redirect.port),
            redirect_port_end: end(rule.redirect.port),
            label: rule.label.clone(),
            status: Word(rule.status),
            static_port: rule.static_port,
            associated_filter: rule.associated_filter,
            created_at: Some(rule.created_at),
            updated_at: Some(rule.updated_at),
        }
    }
}

impl NatEntry {
    fn to_rule(&self, position: u64, now: Timestamp) -> Result<NatRule, Invalid> {
        let masquerade = self.nat_type.0 == crate::config::NatKind::Masquerade;
        Ok(NatRule {
            id: self.id,
            position,
            nat_type: self.nat_type.0,
            interface: self.interface.clone(),
            protocol: self.protocol.0,
            src_addr: self.src_addr.clone().unwrap_or(Address::Any),
            src_port: port_range("src_port", self.src_port_start, self.src_port_end)?,
            dst_addr: self.dst_addr.clone().unwrap_or(Address::Any),
            dst_port: port_range("dst_port", self.dst_port_start, self.dst_port_end)?,
            redirect: Redirect {
                address: if masquerade { Address::Any } else { self.redirect_addr.clone() },
                port: port_range("redirect_port", self.redirect_port_start, self.redirect_port_end)?,
            },
            label: self.label.clone(),
            status: self.status.0,
            static_port: self.static_port,
            associated_filter: self.associated_filter,
            created_at: self.created_at.unwrap_or(now),
            updated_at: self.updated_at.or(self.created_at).unwrap_or(now),
        })
    }
}

impl From<&GeoIpRule> for GeoIpEntry {
    fn from(rule: &GeoIpRule) -> Self {
        Self {
            id: rule.id,
            country: rule.country.to_string(),
            action: Word(rule.action),
            label: rule.label.clone(),
            status: Word(rule.status),
            created_at: Some(rule.created_at),
            updated_at: Some(rule.updated_at),
        }
    }
}

impl From<&Alias> for AliasEntry {
    fn from(alias: &Alias) -> Self {
        Self {
            id: alias.id,
            name: alias.name.clone(),
            alias_type: Word(alias.alias_type),
            entries: alias.entries.clone(),
            description: alias.description.clone(),
            enabled: alias.enabled,
            refresh_secs: alias.refresh_secs,
            created_at: Some(alias.created_at),
            updated_at: Some(alias.updated_at),
        }
    }
}

impl AliasEntry {
    fn to_alias(&self, now: Timestamp) -> Alias {
        let entries = self.entries.iter().map(|entry| entry.trim()).filter(|entry| !entry.is_empty());
        Alias {
            id: self.id,
            name: self.name.clone(),
            alias_type: self.alias_type.0,
            entries: entries.map(str::to_owned).collect(),
            description: self.description.clone(),
            enabled: self.enabled,
            refresh_secs: self.refresh_secs,
            created_at: self.created_at.unwrap_or(now),
            updated_at: self.updated_at.or(self.created_at).unwrap_or(now),
        }
    }
}

impl From<&Schedule> for ScheduleEntry {
    fn from(schedule: &Schedule) -> Self {
        Self {
            id: schedule.id,
            name: schedule.name.clone(),
            description: schedule.description.clone(),
            time_ranges: schedule.time_ranges.clone(),
            days_of_week: schedule.days_of_week.clone(),
            enabled: schedule.enabled,
            created_at: Some(schedule.created_at),
        }
    }
}

impl ScheduleEntry {
    fn to_schedule(&self, now: Timestamp) -> Schedule {
        Schedule {
            id: self.id,
            name: self.name.clone(),
            description: self.description.clone(),
            time_ranges: self.time_ranges.clone(),
            days_of_week: self.days_of_week.clone(),
            enabled: self.enabled,
            created_at: self.created_at.unwrap_or(now),
        }
    }
}
