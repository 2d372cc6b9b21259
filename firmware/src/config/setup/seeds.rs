//! The first rules, NAT and DHCP of a machine that was just set up (contract/console.md §5).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net};

use super::answers;
use super::file::Cluster;
use crate::config::dhcp::{DhcpGlobal, DhcpSubnet, SubnetType};
use crate::config::dns::names::Upstream;
use crate::config::dns::{Acl, AclAction, DnsResolver};
use crate::config::ha::{CarpVip, HaNode, HaSettings, NodeRole, Pfsync};
use crate::config::nat::Redirect;
use crate::config::rule::{Action, Direction, Endpoint, IpVersion, Protocol, StateOptions};
use crate::config::settings::DefaultPolicy;
use crate::config::{
    Address, Config, Id, InterfaceName, Invalid, Label, NatKind, NatRule, PortRange, Rule, Status, Timestamp,
};

/// The machine's own place in the LAN.
pub(super) struct Lan {
    pub interface: InterfaceName,
    pub address: IpNet,
    pub network: Ipv4Net,
}

/// What the first configuration holds beside settings (contract/console.md §5).
pub(super) struct Seeds<'a> {
    pub now: Timestamp,
    pub wan: &'a InterfaceName,
    pub lan: Option<&'a Lan>,
    pub api_port: u16,
}

/// One seeded rule, before it gets its id and times.
struct Seed<'a> {
    priority: u16,
    action: Action,
    direction: Direction,
    interface: Option<&'a InterfaceName>,
    protocol: Protocol,
    from: Address,
    port: Option<u16>,
    label: &'a str,
}

impl Seeds<'_> {
    fn rule(&self, seed: Seed) -> Result<Rule, Invalid> {
        let port = seed.port.map(|port| PortRange::new(port, port)).transpose();
        Ok(Rule {
            id: Id::new_v4(),
            priority: seed.priority,
            action: seed.action,
            direction: seed.direction,
            ip_version: IpVersion::Both,
            interface: seed.interface.cloned(),
            protocol: seed.protocol,
            src: Endpoint { addr: seed.from, ..Endpoint::default() },
            dst: Endpoint { port: port.map_err(|bad| bad.field("api_port"))?, ..Endpoint::default() },
            log: seed.action.blocks(),
            quick: true,
            label: Some(Label::new(seed.label).map_err(|bad| bad.field("label"))?),
            description: None,
            gateway: None,
            state: StateOptions::default(),
            status: Status::Active,
            schedule_id: None,
            created_at: self.now,
            updated_at: self.now,
        })
    }

    pub fn rules(
        &self,
        policy: DefaultPolicy,
        dhcp: bool,
        config: &mut Config,
        warnings: &mut Vec<String>,
    ) -> Result<(), Invalid> {
        let pass = |priority, direction, interface, label| Seed {
            priority,
            action: Action::Pass,
            direction,
            interface,
            protocol: Protocol::Any,
            from: Address::Any,
            port: None,
            label,
        };
        let lan_net = || self.lan.map_or(Address::Any, |lan| Address::Network(lan.network.trunc().into()));
        let lan_interface = self.lan.map(|lan| &lan.interface);
        // Without a LAN the WAN is the only way to manage the machine.
        let inside = lan_interface.unwrap_or(self.wan);
        let service = |priority, port, label| Seed {
            protocol: Protocol::Tcp,
            from: lan_net(),
            port: Some(port),
            ..pass(priority, Direction::In, Some(inside), label)
        };
        let block = |direction, label| Seed { action: Action::Block, ..pass(1000, direction, None, label) };
        let mut seeds = Vec::new();
        match policy {
            DefaultPolicy::Permissive => seeds.push(pass(1, Direction::Any, None, "Allow all")),
            DefaultPolicy::Standard => {
                seeds.push(pass(1, Direction::Out, Some(self.wan), "Allow outbound WAN"));
                if let Some(lan) = lan_interface {
                    seeds.push(pass(2, Direction::Out, Some(lan), "Allow outbound LAN"));
                    seeds.push(Seed {
                        from: lan_net(),
                        ..pass(3, Direction::In, Some(lan), "Allow LAN inbound")
                    });
                    for (priority, port, label) in [(4, 67, "DHCP server"), (5, 68, "DHCP client")] {
                        if dhcp {
                            let seed = pass(priority, Direction::In, Some(lan), label);
                            seeds.push(Seed { protocol: Protocol::Udp, port: Some(port), ..seed });
                        }
                    }
                }
                let icmp = pass(10, Direction::In, Some(inside), "Allow ICMP");
                seeds.push(Seed { protocol: Protocol::Icmp, from: lan_net(), ..icmp });
                seeds.push(service(20, 22, "Allow SSH"));
                seeds.push(service(21, self.api_port, "Allow web UI and API"));
                seeds.push(block(Direction::In, "Default block inbound"));
            }
            DefaultPolicy::Strict => {
                seeds.push(service(20, 22, "Allow SSH"));
                seeds.push(service(21, self.api_port, "Allow web UI and API"));
                seeds.push(block(Direction::Any, "Default block all"));
            }
        }
        if self.lan.is_none() {
            warnings.push(format!(
                "SSH and the API can be reached on {} from anywhere, since there is no LAN",
                self.wan
            ));
        }
        for seed in seeds {
            let rule = self.rule(seed)?;
            rule.check()?;
            config.rules.insert(rule);
        }
        Ok(())
    }

    pub fn nat(&self, config: &mut Config) -> Result<(), Invalid> {
        let Some(lan) = self.lan else { return Ok(()) };
        let rule = NatRule {
            id: Id::new_v4(),
            position: 1,
            nat_type: NatKind::Masquerade,
            interface: self.wan.clone(),
            protocol: Protocol::Any,
            src_addr: Address::Network(lan.network.trunc().into()),
            src_port: None,
            dst_addr: Address::Any,
            dst_port: None,
            redirect: Redirect { address: Address::Any, port: None },
            label: Some(Label::new("Default Outbound NAT").map_err(|bad| bad.field("label"))?),
            status: Status::Active,
            static_port: false,
            associated_filter: true,
            created_at: self.now,
            updated_at: self.now,
        };
        rule.check()?;
        config.nat.insert(rule);
        Ok(())
    }

    pub fn dhcp(&self, config: &mut Config) -> Result<(), Invalid> {
        let Some(lan) = self.lan else { return Ok(()) };
        config.dhcp = Arc::new(DhcpGlobal {
            enabled: true,
            interfaces: vec![lan.interface.to_string()],
            dns_servers: vec![lan.network.addr().to_string()],
            domain_name: "local".into(),
            ..DhcpGlobal::default()
        });
        config.dhcp_subnets.insert(subnet(lan, self.now)?);
        Ok(())
    }

    /// The resolver asks the given servers, and answers the LAN.
    pub fn dns(&self, servers: &[IpAddr], config: &mut Config) {
        let port = crate::config::dns::names::DNS_PORT;
        config.dns_resolver = Arc::new(DnsResolver {
            enabled: self.lan.is_some(),
            dnssec: false,
            forwarding_servers: servers.iter().map(|ip| Upstream(SocketAddr::new(*ip, port))).collect(),
            ..DnsResolver::default()
        });
        let own: Option<IpNet> = "127.0.0.0/8".parse().ok();
        let lan = self.lan.map(|lan| lan.network.trunc().into());
        for (network, description) in [(own, "The appliance itself"), (lan, "LAN")] {
            let Some(network) = network else { continue };
            config.dns_acls.insert(Acl {
                id: Id::new_v4(),
                network,
                action: AclAction::Allow,
                description: Some(description.into()),
                created_at: self.now,
            });
        }
    }

    /// This node's part of a pair: state synchronisation, both nodes, shared addresses.
    pub fn cluster(&self, cluster: &Cluster, config: &mut Config) -> Result<(), Invalid> {
        let Some(lan) = self.lan else {
            return Err(Invalid::new("cluster", "expected only with a lan_interface"));
        };
        if cluster.role == NodeRole::Standalone {
            return Err(Invalid::new("cluster.role", "expected primary or secondary"));
        }
        let peer = answers::peer(&cluster.peer)?;
        answers::carp_password(cluster.password.expose())?;
        for (index, vip) in cluster.vips.iter().enumerate() {
            let at = |bad: Invalid| Invalid::new(format!("cluster.vips[{index}].{}", bad.field), bad.reason);
            let virtual_ip = answers::virtual_ip(&vip.virtual_ip).map_err(at)?;
            answers::prefix(&vip.prefix.to_string(), virtual_ip).map_err(at)?;
            answers::vhid(&vip.vhid.to_string()).map_err(at)?;
            let twice = config.carp_vips.iter().any(|other| {
                other.virtual_ip == virtual_ip || (other.vhid == vip.vhid && other.interface == vip.interface)
            });
            if twice {
                return Err(at(Invalid::new(
                    "vhid",
                    "expected each address, and each group of an interface, once",
                )));
            }
            config.carp_vips.insert(CarpVip {
                id: Id::new_v4(),
                vhid: vip.vhid,
                virtual_ip,
                prefix: vip.prefix,
                interface: vip.interface.clone(),
                password: cluster.password.clone(),
            });
        }
        let other = match cluster.role {
            NodeRole::Secondary => NodeRole::Primary,
            _ => NodeRole::Secondary,
        };
        let own = (config.system.hostname.clone(), lan.address.addr().to_string(), cluster.role);
        for (name, address, role) in [own, (format!("peer-{peer}"), peer.to_string(), other)] {
            config.ha_nodes.insert(HaNode { id: Id::new_v4(), name, address, role });
        }
        config.ha = Arc::new(HaSettings {
            pfsync: Some(Pfsync {
                sync_interface: cluster.sync_interface.clone(),
                sync_peer: Some(peer),
                defer: true,
                dhcp_link: false,
                local_role: Some(cluster.role),
            }),
        });
        Ok(())
    }
}

/// What the DHCP server leases in a LAN.
pub(super) fn subnet(lan: &Lan, now: Timestamp) -> Result<DhcpSubnet, Invalid> {
    let Some((start, end)) = pool(lan.network) else {
        let reason = format!("there is no address to lease in {}", lan.network);
        return Err(Invalid::new("dhcp_enabled", reason));
    };
    let own = lan.network.addr().to_string();
    Ok(DhcpSubnet {
        id: Id::new_v4(),
        network: lan.network.trunc().to_string(),
        pool_start: start.to_string(),
        pool_end: end.to_string(),
        gateway: own.clone(),
        dns_servers: Some(own),
        domain_name: Some("local".into()),
        lease_time: Some(3600),
        max_lease_time: Some(86_400),
        renewal_time: None,
        rebinding_time: None,
        preferred_time: None,
        subnet_type: SubnetType::Address,
        delegated_length: None,
        enabled: true,
        description: None,
        trusted_relays: Vec::new(),
        ntp_servers: None,
        options: Vec::new(),
        created_at: now,
    })
}

/// Addresses to lease in the network of `own`: from the 20th on (`.20` to `.219` of a /24), or the upper half
/// of a subnet smaller than /25; the longer part beside our own address.
pub(super) fn pool(own: Ipv4Net) -> Option<(Ipv4Addr, Ipv4Addr)> {
    let (network, broadcast) = (u32::from(own.network()), u32::from(own.broadcast()));
    let (first, last) = match own.prefix_len() {
        24 => (network + 20, network + 219),
        ..=25 => (network + 20, broadcast - 1),
        _ => (network + (broadcast - network).div_ceil(2), broadcast - 1),
    };
    let me = u32::from(own.addr());
    let longest = |first: u32, last: u32| {
        let parts = [(first, last.min(me - 1)), (first.max(me + 1), last)];
        let whole = [(first, last)];
        let candidates: &[(u32, u32)] = if (first..=last).contains(&me) { &parts } else { &whole };
        let filled = candidates.iter().copied().filter(|(first, last)| first <= last);
        filled.max_by_key(|(first, last)| last - first)
    };
    let (first, last) = longest(first, last).or_else(|| longest(network + 1, broadcast - 1))?;
    Some((first.into(), last.into()))
}
