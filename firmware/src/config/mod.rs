//! The configuration: a typed value, one file per subsystem, with validation and defaults. Pure: nothing here
//! touches a file, a process or a socket. Called by every other room; uses none of them.

pub mod ai;
pub mod alias;
pub mod backup;
pub mod dhcp;
pub mod dns;
pub mod document;
pub mod dynamic_dns;
pub mod geoip;
pub mod ha;
pub mod ids;
pub mod mail;
pub mod nat;
pub mod network;
pub mod permission;
pub mod pf_tuning;
pub mod preferences;
pub mod proxy;
pub mod reach;
pub mod request;
pub mod route;
pub mod rule;
pub mod schedule;
pub mod secret;
pub mod service;
pub mod settings;
pub mod setup;
pub mod shaping;
pub mod system;
pub mod time;
pub mod tls;
pub mod update;
pub mod valkey;
pub mod value;
pub mod vpn;

pub use alias::{Alias, AliasKind};
pub use document::{Collection, Document, Object};
pub use geoip::{GeoIpAction, GeoIpRule};
pub use nat::{NatKind, NatRule};
pub use permission::{Permission, PermissionSet};
pub use request::Refusal;
pub use rule::{Rule, Status};
pub use schedule::Schedule;
pub use secret::Secret;
pub use service::ServiceKind;
pub use settings::{AuthSettings, DashboardSettings, FirewallSettings, HistorySettings};
pub use system::System;
pub use value::{Address, BadValue, Id, InterfaceName, Invalid, Label, PortRange, TableName, Timestamp};

document::document! {
    /// Everything that is configured. Copies are cheap; a changed copy shares what did not change.
    pub struct Config {
        collections {
            rules: Rule => "rule",
            nat: NatRule => "nat",
            aliases: Alias => "alias",
            schedules: Schedule => "schedule",
            geoip: GeoIpRule => "geoip",
            queues: shaping::Queue => "queue",
            rate_limits: shaping::RateLimit => "rate_limit",
            wireguard: vpn::WireGuard => "wireguard",
            ipsec: vpn::Ipsec => "ipsec",
            carp_vips: ha::CarpVip => "carp_vip",
            ha_nodes: ha::HaNode => "ha_node",
            dhcp_subnets: dhcp::DhcpSubnet => "dhcp_subnet",
            dhcp_reservations: dhcp::DhcpReservation => "dhcp_reservation",
            static_routes: route::StaticRoute => "static_route",
            interfaces: network::InterfaceSettings => "interface",
            interface_roles: network::InterfaceRole => "interface_role",
            vlans: network::Vlan => "vlan",
            ids_rulesets: ids::IdsRuleset => "ids_ruleset",
            ids_overrides: ids::IdsOverride => "ids_override",
            ids_suppressions: ids::IdsSuppression => "ids_suppression",
            dns_hosts: dns::HostOverride => "dns_host",
            dns_domains: dns::DomainOverride => "dns_domain",
            dns_acls: dns::Acl => "dns_acl",
            dns_blocklists: dns::BlocklistSource => "dns_blocklist",
            dns_custom_blocks: dns::PatternEntry => "dns_custom_block",
            dns_whitelist: dns::PatternEntry => "dns_whitelist",
            time_sources: time::TimeSource => "time_source",
            proxy_entry_points: proxy::Row<proxy::EntryPoint> => "proxy_entry_point",
            proxy_http_routers: proxy::Row<proxy::HttpRouter> => "proxy_http_router",
            proxy_http_services: proxy::Row<proxy::HttpService> => "proxy_http_service",
            proxy_middlewares: proxy::Row<proxy::Middleware> => "proxy_middleware",
            proxy_tcp_routers: proxy::Row<proxy::TcpRouter> => "proxy_tcp_router",
            proxy_tcp_services: proxy::Row<proxy::TcpService> => "proxy_tcp_service",
            proxy_udp_routers: proxy::Row<proxy::UdpRouter> => "proxy_udp_router",
            proxy_udp_services: proxy::Row<proxy::UdpService> => "proxy_udp_service",
            proxy_tls_certs: proxy::Row<proxy::TlsCert> => "proxy_tls_cert",
            proxy_tls_options: proxy::Row<proxy::TlsOption> => "proxy_tls_option",
            proxy_cert_resolvers: proxy::Row<proxy::CertResolver> => "proxy_cert_resolver",
            dns_providers: dynamic_dns::DnsProvider => "dns_provider",
            ddns_records: dynamic_dns::DdnsRecord => "ddns_record",
        }
        sections {
            system: System => "system",
            auth: AuthSettings => "auth",
            firewall: FirewallSettings => "firewall",
            history: HistorySettings => "history",
            tls: tls::TlsPolicy => "tls",
            ha: ha::HaSettings => "ha",
            dhcp: dhcp::DhcpGlobal => "dhcp",
            dhcp_ddns: dhcp::DhcpDdns => "dhcp_ddns",
            dhcp_ha: dhcp::DhcpHa => "dhcp_ha",
            tuning: settings::Tuning => "tuning",
            dashboard: DashboardSettings => "dashboard",
            dns_resolver: dns::DnsResolver => "dns_resolver",
            dns_blocking: dns::Blocking => "dns_blocking",
            time: time::TimeSettings => "time",
            proxy: proxy::ProxySettings => "proxy",
            ids: ids::IdsSettings => "ids",
            updates: update::UpdateSettings => "updates",
            valkey: valkey::Valkey => "valkey",
            ai: ai::AiSettings => "ai",
            mail: mail::Mail => "mail",
            preferences: preferences::Preferences => "preferences",
            ddns: dynamic_dns::DdnsSettings => "ddns",
        }
    }
}
