//! A compact map from addresses to values: networks, possibly nested, flattened once into disjoint sorted
//! spans, so that a look-up is one binary search and the longest prefix wins.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// One span of addresses with the prefix length of the network it comes from.
#[derive(Debug, Clone, Copy)]
struct Span<A> {
    start: A,
    end: A,
    prefix: u8,
    value: u32,
}

/// Addresses of both families, each with a number.
#[derive(Debug, Default)]
pub struct Spans {
    v4: Vec<Span<u32>>,
    v6: Vec<Span<u128>>,
}

impl Spans {
    pub fn new(networks: impl IntoIterator<Item = (IpNet, u32)>) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for (network, value) in networks {
            let prefix = network.prefix_len();
            match network {
                IpNet::V4(net) => v4.push(Span {
                    start: net.network().to_bits(),
                    end: net.broadcast().to_bits(),
                    prefix,
                    value,
                }),
                IpNet::V6(net) => v6.push(Span {
                    start: net.network().to_bits(),
                    end: net.broadcast().to_bits(),
                    prefix,
                    value,
                }),
            }
        }
        Self {
            v4: flatten(v4, |a| a.checked_add(1), |a| a - 1),
            v6: flatten(v6, |a| a.checked_add(1), |a| a - 1),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// The value and the network (longest prefix) that hold an address.
    pub fn get(&self, address: IpAddr) -> Option<(IpNet, u32)> {
        match address {
            IpAddr::V4(address) => {
                let span = find(&self.v4, address.to_bits())?;
                Some((IpNet::V4(Ipv4Net::new(address, span.prefix).ok()?.trunc()), span.value))
            }
            IpAddr::V6(address) => {
                let span = find(&self.v6, address.to_bits())?;
                Some((IpNet::V6(Ipv6Net::new(address, span.prefix).ok()?.trunc()), span.value))
            }
        }
    }

    /// All networks with a value that `wanted` accepts: sorted, contained ones dropped, siblings merged.
    pub fn networks(&self, wanted: impl Fn(u32) -> bool) -> Vec<IpNet> {
        let v4: Vec<Ipv4Net> = self
            .v4
            .iter()
            .filter(|span| wanted(span.value))
            .flat_map(|span| {
                ipnet::Ipv4Subnets::new(Ipv4Addr::from_bits(span.start), Ipv4Addr::from_bits(span.end), 0)
            })
            .collect();
        let v6: Vec<Ipv6Net> = self
            .v6
            .iter()
            .filter(|span| wanted(span.value))
            .flat_map(|span| {
                ipnet::Ipv6Subnets::new(Ipv6Addr::from_bits(span.start), Ipv6Addr::from_bits(span.end), 0)
            })
            .collect();
        let v4 = Ipv4Net::aggregate(&v4).into_iter().map(IpNet::V4);
        v4.chain(Ipv6Net::aggregate(&v6).into_iter().map(IpNet::V6)).collect()
    }
}

fn find<A: Copy + Ord>(spans: &[Span<A>], address: A) -> Option<&Span<A>> {
    let after = spans.partition_point(|span| span.start <= address);
    spans.get(after.checked_sub(1)?).filter(|span| address <= span.end)
}

/// Turns nested spans into disjoint ones, the inner value winning. Spans of networks nest or are disjoint, never
/// overlap partly. `next` is `None` past the last address; `before` is only called on an address above another.
fn flatten<A: Copy + Ord>(
    mut spans: Vec<Span<A>>,
    next: impl Fn(A) -> Option<A>,
    before: impl Fn(A) -> A,
) -> Vec<Span<A>> {
    spans.sort_by(|a, b| a.start.cmp(&b.start).then(a.prefix.cmp(&b.prefix)));
    let mut flat: Vec<Span<A>> = Vec::with_capacity(spans.len());
    // Enclosing networks, innermost last, each with the first of its addresses not yet given out.
    let mut open: Vec<Span<A>> = Vec::new();
    let close = |open: &mut Vec<Span<A>>, flat: &mut Vec<Span<A>>, inner: Span<A>| {
        if inner.start <= inner.end {
            flat.push(inner);
        }
        // The enclosing one goes on behind the one that ends.
        if let Some(outer) = open.last_mut() {
            match next(inner.end) {
                Some(resume) => outer.start = outer.start.max(resume),
                None => {
                    open.clear();
                }
            }
        }
    };
    for span in spans {
        while let Some(inner) = open.pop() {
            if inner.end >= span.start {
                open.push(inner);
                break;
            }
            close(&mut open, &mut flat, inner);
        }
        if let Some(outer) = open.last_mut() {
            if outer.start < span.start {
                flat.push(Span { end: before(span.start), ..*outer });
            }
            outer.start = span.start;
            if outer.prefix == span.prefix {
                // The same network twice: the later entry wins.
                *outer = span;
                continue;
            }
        }
        open.push(span);
    }
    while let Some(inner) = open.pop() {
        close(&mut open, &mut flat, inner);
    }
    flat.sort_by_key(|span| span.start);
    flat.shrink_to_fit();
    flat
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn the_longest_prefix_wins_and_the_enclosing_network_goes_on_behind_it() {
        let spans = Spans::new([(net("10.0.0.0/8"), 1), (net("10.1.0.0/16"), 2), (net("10.1.2.0/24"), 3)]);
        for (address, network, value) in [
            ("10.0.0.1", "10.0.0.0/8", 1),
            ("10.1.0.1", "10.1.0.0/16", 2),
            ("10.1.2.3", "10.1.2.0/24", 3),
            ("10.1.3.0", "10.1.0.0/16", 2),
            ("10.2.0.0", "10.0.0.0/8", 1),
            ("10.255.255.255", "10.0.0.0/8", 1),
        ] {
            assert_eq!(spans.get(address.parse().unwrap()), Some((net(network), value)), "{address}");
        }
        assert_eq!(spans.get("11.0.0.0".parse().unwrap()), None);
        assert_eq!(spans.get("9.255.255.255".parse().unwrap()), None);
    }

    #[test]
    fn the_last_address_of_the_space_is_no_special_case() {
        let spans = Spans::new([(net("255.255.255.255/32"), 2), (net("0.0.0.0/0"), 1), (net("::/0"), 3)]);
        assert_eq!(spans.get("255.255.255.255".parse().unwrap()).unwrap().1, 2);
        assert_eq!(spans.get("255.255.255.254".parse().unwrap()).unwrap().1, 1);
        assert_eq!(spans.get("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap()).unwrap().1, 3);
    }

    #[test]
    fn networks_are_merged() {
        let spans =
            Spans::new([(net("10.0.0.0/25"), 7), (net("10.0.0.128/25"), 7), (net("2001:db8::/32"), 7)]);
        assert_eq!(spans.networks(|value| value == 7), [net("10.0.0.0/24"), net("2001:db8::/32")]);
    }

    proptest! {
        #[test]
        fn agrees_with_a_naive_list(
            nets in prop::collection::vec((0u32..64, 24u8..=32, 0u32..5), 0..40),
            address in 0u32..64,
        ) {
            let nets: Vec<(IpNet, u32)> = nets
                .into_iter()
                .map(|(bits, prefix, value)| {
                    (IpNet::V4(Ipv4Net::new(Ipv4Addr::from_bits(bits), prefix).unwrap().trunc()), value)
                })
                .collect();
            let address = IpAddr::V4(Ipv4Addr::from_bits(address));
            let naive = nets
                .iter()
                .filter(|(network, _)| network.contains(&address))
                .max_by_key(|(network, _)| network.prefix_len())
                .map(|(network, _)| *network);
            // Of equal networks the later entry wins.
            let naive = naive.and_then(|found| nets.iter().rev().find(|(network, _)| *network == found).copied());
            prop_assert_eq!(Spans::new(nets).get(address), naive);
        }
    }
}
