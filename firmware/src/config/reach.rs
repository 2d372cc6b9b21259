//! Which addresses may be asked: what a configuration names can lead to servers that only the appliance reaches.

use std::net::IpAddr;

/// Whether an address is one of the public internet's (IANA special-purpose registries say which are not).
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            !(v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_broadcast()
                || v4.is_documentation()
                || v4.is_multicast()
                || a == 0
                || a >= 240
                || (a == 100 && (64..128).contains(&b))
                || (a == 192 && b == 0 && c == 0)
                || (a == 198 && (18..20).contains(&b)))
        }
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => is_public(IpAddr::V4(v4)),
            None => {
                let first = v6.segments()[0];
                // Global unicast only, less documentation, and less 6to4/Teredo, which reach IPv4 insides.
                (first & 0xe000) == 0x2000
                    && !(first == 0x2001 && v6.segments()[1] == 0xdb8)
                    && first != 0x2002
                    && !(first == 0x2001 && v6.segments()[1] == 0)
            }
        },
    }
}

/// Whether an address is one that clouds and links give to themselves: metadata services are there, and answer
/// whoever asks with credentials.
pub fn is_link_or_metadata(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.octets() == [100, 100, 100, 200],
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => is_link_or_metadata(IpAddr::V4(v4)),
            None => {
                (v6.segments()[0] & 0xffc0) == 0xfe80
                    || v6.segments() == [0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254]
            }
        },
    }
}

/// How far a connection may lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The public internet alone.
    Public,
    /// Also the inside, but no link-local addresses and metadata services.
    Inside,
    Anywhere,
}

impl Reach {
    /// Everywhere where the inside is allowed, else the internet.
    pub fn inside(allowed: bool) -> Self {
        if allowed { Self::Anywhere } else { Self::Public }
    }
    pub fn allows(self, address: IpAddr) -> bool {
        match self {
            Self::Public => is_public(address),
            Self::Inside => !is_link_or_metadata(address),
            Self::Anywhere => true,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn metadata_services_and_links() {
        for address in
            ["169.254.169.254", "100.100.100.200", "fe80::1", "fd00:ec2::254", "::ffff:169.254.1.1"]
        {
            assert!(!Reach::Inside.allows(address.parse().unwrap()), "{address}");
        }
        for address in ["127.0.0.1", "10.0.0.1", "8.8.8.8", "fd00::1", "::1"] {
            assert!(Reach::Inside.allows(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn public_addresses() {
        for address in ["8.8.8.8", "100.63.0.1", "2600::1", "::ffff:8.8.8.8"] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
        for address in [
            "127.0.0.1",
            "10.0.0.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "192.0.2.1",
            "224.0.0.1",
            "::1",
            "fe80::1",
            "fd00::1",
            "::ffff:10.0.0.1",
            "2001:db8::1",
            "2002:a00:1::",
            "64:ff9b::1",
        ] {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
    }
}
