//! Numbers that pf.conf(5) lets one write as words: protocols, services, ICMP types and codes, type of service.
//! Used by the printer and the parser. `pfctl -sr` prints such words too (without `-P`, for services).

use super::ast::{Family, Protocol};

/// First word is the one that pf prints (protocols(5) of FreeBSD 15.1).
const PROTOCOLS: &[(u8, &str)] = &[
    (1, "icmp"),
    (2, "igmp"),
    (4, "ipencap"),
    (6, "tcp"),
    (8, "egp"),
    (9, "igp"),
    (17, "udp"),
    (33, "dccp"),
    (41, "ipv6"),
    (43, "ipv6-route"),
    (44, "ipv6-frag"),
    (46, "rsvp"),
    (47, "gre"),
    (50, "esp"),
    (51, "ah"),
    (55, "mobile"),
    (58, "ipv6-icmp"),
    (58, "icmp6"),
    (59, "ipv6-nonxt"),
    (60, "ipv6-opts"),
    (88, "eigrp"),
    (89, "ospf"),
    (94, "ipip"),
    (97, "etherip"),
    (98, "encap"),
    (103, "pim"),
    (108, "ipcomp"),
    (112, "carp"),
    (112, "vrrp"),
    (115, "l2tp"),
    (124, "isis"),
    (132, "sctp"),
    (136, "udplite"),
    (137, "mpls-in-ip"),
    (240, "pfsync"),
];

/// pf's own word for a protocol, if it has one.
pub fn protocol_name(protocol: Protocol) -> Option<&'static str> {
    PROTOCOLS.iter().find(|(number, _)| *number == protocol.0).map(|(_, name)| *name)
}

pub fn protocol_by_name(name: &str) -> Option<Protocol> {
    PROTOCOLS.iter().find(|(_, word)| word.eq_ignore_ascii_case(name)).map(|(number, _)| Protocol(*number))
}

const TCP: u8 = 1;
const UDP: u8 = 2;
const BOTH: u8 = 3;

/// The services that a firewall meets (services(5) of FreeBSD 15.1), sorted by port.
const SERVICES: &[(u16, u8, &str)] = &[
    (1, BOTH, "tcpmux"),
    (7, BOTH, "echo"),
    (9, BOTH, "discard"),
    (13, BOTH, "daytime"),
    (17, BOTH, "qotd"),
    (19, BOTH, "chargen"),
    (20, BOTH, "ftp-data"),
    (21, BOTH, "ftp"),
    (22, BOTH, "ssh"),
    (23, BOTH, "telnet"),
    (25, BOTH, "smtp"),
    (37, BOTH, "time"),
    (43, BOTH, "nicname"),
    (49, BOTH, "tacacs"),
    (53, BOTH, "domain"),
    (67, BOTH, "bootps"),
    (68, BOTH, "bootpc"),
    (69, BOTH, "tftp"),
    (70, BOTH, "gopher"),
    (79, BOTH, "finger"),
    (80, BOTH, "http"),
    (88, BOTH, "kerberos-sec"),
    (102, BOTH, "iso-tsap"),
    (109, BOTH, "pop2"),
    (110, BOTH, "pop3"),
    (111, BOTH, "sunrpc"),
    (113, BOTH, "auth"),
    (119, BOTH, "nntp"),
    (123, BOTH, "ntp"),
    (135, BOTH, "epmap"),
    (137, BOTH, "netbios-ns"),
    (138, BOTH, "netbios-dgm"),
    (139, BOTH, "netbios-ssn"),
    (143, BOTH, "imap"),
    (161, BOTH, "snmp"),
    (162, BOTH, "snmptrap"),
    (177, BOTH, "xdmcp"),
    (179, BOTH, "bgp"),
    (194, BOTH, "irc"),
    (264, BOTH, "bgmp"),
    (321, BOTH, "pip"),
    (389, BOTH, "ldap"),
    (427, BOTH, "svrloc"),
    (443, BOTH, "https"),
    (445, BOTH, "microsoft-ds"),
    (464, BOTH, "kpasswd"),
    (465, BOTH, "smtps"),
    (500, BOTH, "isakmp"),
    (502, BOTH, "mbap"),
    (512, TCP, "exec"),
    (512, UDP, "biff"),
    (513, TCP, "login"),
    (513, UDP, "who"),
    (514, TCP, "shell"),
    (514, UDP, "syslog"),
    (515, BOTH, "printer"),
    (520, TCP, "efs"),
    (520, UDP, "router"),
    (521, BOTH, "ripng"),
    (546, BOTH, "dhcpv6-client"),
    (547, BOTH, "dhcpv6-server"),
    (548, BOTH, "afpovertcp"),
    (554, BOTH, "rtsp"),
    (587, BOTH, "submission"),
    (591, BOTH, "http-alt"),
    (593, BOTH, "http-rpc-epmap"),
    (623, BOTH, "asf-rmcp"),
    (631, BOTH, "ipp"),
    (636, BOTH, "ldaps"),
    (646, BOTH, "ldp"),
    (647, BOTH, "dhcp-failover"),
    (749, BOTH, "kerberos-adm"),
    (847, BOTH, "dhcp-failover2"),
    (853, BOTH, "domain-s"),
    (860, BOTH, "iscsi"),
    (873, BOTH, "rsync"),
    (953, TCP, "rndc"),
    (989, BOTH, "ftps-data"),
    (990, BOTH, "ftps"),
    (992, BOTH, "telnets"),
    (993, BOTH, "imaps"),
    (994, BOTH, "ircs"),
    (995, BOTH, "pop3s"),
    (1080, BOTH, "socks"),
    (1194, BOTH, "openvpn"),
    (1433, BOTH, "ms-sql-s"),
    (1434, BOTH, "ms-sql-m"),
    (1701, BOTH, "l2f"),
    (1723, TCP, "pptp"),
    (1812, UDP, "radius"),
    (1813, UDP, "radacct"),
    (1900, BOTH, "ssdp"),
    (2049, BOTH, "nfsd"),
    (2628, BOTH, "dict"),
    (3260, BOTH, "iscsi-target"),
    (3306, BOTH, "mysql"),
    (3389, BOTH, "ms-wbt-server"),
    (3493, BOTH, "nut"),
    (3690, BOTH, "svn"),
    (4190, BOTH, "sieve"),
    (4500, BOTH, "ipsec-nat-t"),
    (4789, UDP, "vxlan"),
    (5060, BOTH, "sip"),
    (5061, BOTH, "sip-tls"),
    (5222, BOTH, "xmpp-client"),
    (5269, BOTH, "xmpp-server"),
    (5353, BOTH, "mdns"),
    (5432, BOTH, "postgresql"),
    (5555, TCP, "personal-agent"),
    (5555, UDP, "rplay"),
    (5671, BOTH, "amqps"),
    (5672, BOTH, "amqp"),
    (5900, BOTH, "vnc-server"),
    (5984, BOTH, "couchdb"),
    (6000, BOTH, "x11"),
    (6667, TCP, "ircd"),
    (6697, TCP, "ircs-u"),
    (8080, BOTH, "http-alt"),
    (8140, TCP, "puppet"),
    (9100, TCP, "jetdirect"),
    (9100, UDP, "pdl-datastream"),
    (9418, BOTH, "git"),
    (10050, BOTH, "zabbix-agent"),
    (10051, BOTH, "zabbix-trapper"),
];

/// Other words for the same ports; read, never printed.
const SERVICE_ALIASES: &[(&str, u16)] = &[
    ("www", 80),
    ("www-http", 80),
    ("mail", 25),
    ("ident", 113),
    ("tap", 113),
    ("sink", 9),
    ("imap4", 143),
    ("whois", 43),
    ("kerberos", 88),
    ("sunrpc", 111),
    ("netbios", 139),
    ("ftp-control", 21),
    ("ike", 500),
];

/// The word pf prints for a port of a rule with this protocol (TCP's words for TCP, UDP's for all others).
pub fn service_name(port: u16, protocol: Option<Protocol>) -> Option<&'static str> {
    let side = if protocol == Some(Protocol::TCP) { TCP } else { UDP };
    let start = SERVICES.partition_point(|(number, ..)| *number < port);
    SERVICES[start..]
        .iter()
        .take_while(|(number, ..)| *number == port)
        .find(|(_, sides, _)| sides & side != 0)
        .map(|(.., name)| *name)
}

pub fn service_by_name(name: &str) -> Option<u16> {
    let by_side = |side| SERVICES.iter().find(|(_, sides, word)| sides & side != 0 && *word == name);
    // "http-alt" stands for two ports; pf.conf means the first one in services(5).
    by_side(TCP)
        .or_else(|| by_side(UDP))
        .map(|(port, ..)| *port)
        .or_else(|| SERVICE_ALIASES.iter().find(|(alias, _)| *alias == name).map(|(_, port)| *port))
}

/// For each number the first word is the one printed.
const ICMP_TYPES: &[(u8, &str)] = &[
    (8, "echoreq"),
    (0, "echorep"),
    (3, "unreach"),
    (4, "squench"),
    (5, "redir"),
    (6, "althost"),
    (9, "routeradv"),
    (10, "routersol"),
    (11, "timex"),
    (12, "paramprob"),
    (13, "timereq"),
    (14, "timerep"),
    (15, "inforeq"),
    (16, "inforep"),
    (17, "maskreq"),
    (18, "maskrep"),
    (30, "trace"),
    (31, "dataconv"),
    (32, "mobredir"),
    (33, "ipv6-where"),
    (34, "ipv6-here"),
    (35, "mobregreq"),
    (36, "mobregrep"),
    (39, "skip"),
    (40, "photuris"),
];
const ICMP6_TYPES: &[(u8, &str)] = &[
    (1, "unreach"),
    (2, "toobig"),
    (3, "timex"),
    (4, "paramprob"),
    (128, "echoreq"),
    (129, "echorep"),
    (130, "groupqry"),
    (130, "listqry"),
    (131, "grouprep"),
    (131, "listenrep"),
    (132, "groupterm"),
    (132, "listendone"),
    (133, "routersol"),
    (134, "routeradv"),
    (135, "neighbrsol"),
    (136, "neighbradv"),
    (137, "redir"),
    (138, "routrrenum"),
    (139, "wrureq"),
    (139, "fqdnreq"),
    (139, "niqry"),
    (140, "wrurep"),
    (140, "fqdnrep"),
    (140, "nirep"),
    (143, "listenrepv2"),
    (200, "mtraceresp"),
    (201, "mtrace"),
];
const ICMP_CODES: &[(u8, u8, &str)] = &[
    (3, 0, "net-unr"),
    (3, 1, "host-unr"),
    (3, 2, "proto-unr"),
    (3, 3, "port-unr"),
    (3, 4, "needfrag"),
    (3, 5, "srcfail"),
    (3, 6, "net-unk"),
    (3, 7, "host-unk"),
    (3, 8, "isolate"),
    (3, 9, "net-prohib"),
    (3, 10, "host-prohib"),
    (3, 11, "net-tos"),
    (3, 12, "host-tos"),
    (3, 13, "filter-prohib"),
    (3, 14, "host-preced"),
    (3, 15, "cutoff-preced"),
    (5, 0, "redir-net"),
    (5, 1, "redir-host"),
    (5, 2, "redir-tos-net"),
    (5, 3, "redir-tos-host"),
    (9, 0, "normal-adv"),
    (9, 16, "common-adv"),
    (11, 0, "transit"),
    (11, 1, "reassemb"),
    (12, 0, "badhead"),
    (12, 1, "optmiss"),
    (12, 2, "badlen"),
    (40, 1, "unknown-ind"),
    (40, 2, "auth-fail"),
    (40, 3, "decrypt-fail"),
];
const ICMP6_CODES: &[(u8, u8, &str)] = &[
    (1, 0, "noroute-unr"),
    (1, 1, "admin-unr"),
    (1, 2, "notnbr-unr"),
    (1, 2, "beyond-unr"),
    (1, 3, "addr-unr"),
    (1, 4, "port-unr"),
    (3, 0, "transit"),
    (3, 1, "reassemb"),
    (4, 0, "badhead"),
    (4, 1, "nxthdr"),
    (137, 0, "redironlink"),
    (137, 1, "redirrouter"),
];

/// "Destination unreachable" of the family.
pub fn unreachable_type(family: Family) -> u8 {
    match family {
        Family::Inet => 3,
        Family::Inet6 => 1,
    }
}

/// "Port unreachable" of the family, pf's default answer.
pub fn port_unreachable(family: Family) -> u8 {
    match family {
        Family::Inet => 3,
        Family::Inet6 => 4,
    }
}

fn types(family: Family) -> &'static [(u8, &'static str)] {
    match family {
        Family::Inet => ICMP_TYPES,
        Family::Inet6 => ICMP6_TYPES,
    }
}

fn codes(family: Family) -> &'static [(u8, u8, &'static str)] {
    match family {
        Family::Inet => ICMP_CODES,
        Family::Inet6 => ICMP6_CODES,
    }
}

pub fn icmp_type_name(family: Family, kind: u8) -> Option<&'static str> {
    types(family).iter().find(|(number, _)| *number == kind).map(|(_, name)| *name)
}
pub fn icmp_type_by_name(family: Family, name: &str) -> Option<u8> {
    types(family).iter().find(|(_, word)| *word == name).map(|(number, _)| *number)
}
pub fn icmp_code_name(family: Family, kind: u8, code: u8) -> Option<&'static str> {
    codes(family).iter().find(|(k, c, _)| (*k, *c) == (kind, code)).map(|(.., name)| *name)
}
pub fn icmp_code_by_name(family: Family, kind: u8, name: &str) -> Option<u8> {
    codes(family).iter().find(|(k, _, word)| *k == kind && *word == name).map(|(_, code, _)| *code)
}

const TOS: &[(&str, u8)] = &[
    ("af11", 0x28),
    ("af12", 0x30),
    ("af13", 0x38),
    ("af21", 0x48),
    ("af22", 0x50),
    ("af23", 0x58),
    ("af31", 0x68),
    ("af32", 0x70),
    ("af33", 0x78),
    ("af41", 0x88),
    ("af42", 0x90),
    ("af43", 0x98),
    ("critical", 0xa0),
    ("cs0", 0x00),
    ("cs1", 0x20),
    ("cs2", 0x40),
    ("cs3", 0x60),
    ("cs4", 0x80),
    ("cs5", 0xa0),
    ("cs6", 0xc0),
    ("cs7", 0xe0),
    ("ef", 0xb8),
    ("inetcontrol", 0xc0),
    ("lowdelay", 0x10),
    ("netcontrol", 0xe0),
    ("reliability", 0x04),
    ("throughput", 0x08),
    ("va", 0xb0),
];

pub fn tos_by_name(name: &str) -> Option<u8> {
    TOS.iter().find(|(word, _)| word.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
}

/// TCP header bits in pf's letters, bit 0 first.
pub const TCP_FLAGS: &str = "FSRPAUEWe";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn services_are_sorted_and_depend_on_the_protocol() {
        assert!(SERVICES.is_sorted_by_key(|(port, ..)| *port));
        assert_eq!(service_name(514, Some(Protocol::TCP)), Some("shell"));
        assert_eq!(service_name(514, Some(Protocol::UDP)), Some("syslog"));
        assert_eq!(service_name(6667, Some(Protocol::TCP)), Some("ircd"));
        assert_eq!(service_name(6667, Some(Protocol::UDP)), None);
        assert_eq!(service_by_name("syslog"), Some(514));
        assert_eq!(service_by_name("www"), Some(80));
        assert_eq!(service_by_name("nonsense"), None);
    }

    #[test]
    fn words_and_numbers_agree() {
        for (number, name) in ICMP_TYPES.iter().chain(ICMP6_TYPES) {
            let family = if ICMP_TYPES.contains(&(*number, name)) { Family::Inet } else { Family::Inet6 };
            assert_eq!(icmp_type_by_name(family, name), Some(*number));
        }
        assert_eq!(protocol_by_name("icmp6"), Some(Protocol::ICMP6));
        assert_eq!(protocol_name(Protocol::ICMP6), Some("ipv6-icmp"));
    }
}
