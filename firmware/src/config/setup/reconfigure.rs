//! A second setup (`--reconfigure`): what it changes of a configuration that people have worked on, and what it
//! leaves alone (contract/console.md §2: seeds go only into empty collections).

use std::sync::Arc;

use super::Setup;
use super::moves::network_follows;
use crate::config::settings::FirewallSettings;
use crate::config::{Config, System, network};

impl Setup {
    /// Puts the answers into a configuration that is there: identity, interfaces, services' switches and the
    /// policy as answered; rules, NAT and DNS objects stay if there are any; CARP addresses are those answered.
    pub fn reconfigure(&self, config: &mut Config) {
        let new = &self.config;
        let old = config.system.clone();
        network::materialise(config);
        let mut keys = old.ssh_authorized_keys.clone();
        keys.extend(
            new.system
                .ssh_authorized_keys
                .iter()
                .filter(|key| !old.ssh_authorized_keys.contains(key))
                .cloned(),
        );
        config.system = Arc::new(System {
            ssh_authorized_keys: keys,
            login_banner: old.login_banner.clone(),
            motd: old.motd.clone(),
            console: old.console.clone(),
            ssh_enabled: old.ssh_enabled,
            ssh_port: old.ssh_port,
            root_password_hash: old.root_password_hash.clone(),
            ..(*new.system).clone()
        });
        network_follows(config, &old);
        config.firewall = Arc::new(FirewallSettings {
            default_policy: new.firewall.default_policy,
            automatic_nat: new.firewall.automatic_nat,
            ..(*config.firewall).clone()
        });
        Arc::make_mut(&mut config.auth).require_totp |= new.auth.require_totp;
        if config.rules.is_empty() {
            config.rules = new.rules.clone();
        }
        if config.nat.is_empty() {
            config.nat = new.nat.clone();
        }
        if config.dns_acls.is_empty() {
            config.dns_acls = new.dns_acls.clone();
        }
        let resolver = Arc::make_mut(&mut config.dns_resolver);
        resolver.enabled = new.dns_resolver.enabled;
        resolver.forwarding_servers = new.dns_resolver.forwarding_servers.clone();
        let dhcp = Arc::make_mut(&mut config.dhcp);
        dhcp.enabled = new.dhcp.enabled;
        if new.dhcp.enabled {
            dhcp.interfaces = new.dhcp.interfaces.clone();
            dhcp.dns_servers = new.dhcp.dns_servers.clone();
        }
        for subnet in new.dhcp_subnets.iter() {
            if !config.dhcp_subnets.iter().any(|held| held.network == subnet.network) {
                config.dhcp_subnets.insert((**subnet).clone());
            }
        }
        config.tuning = new.tuning.clone();
        config.ha = new.ha.clone();
        config.ha_nodes = new.ha_nodes.clone();
        config.carp_vips = new.carp_vips.clone();
    }
}
