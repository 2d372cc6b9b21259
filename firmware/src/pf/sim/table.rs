//! pf tables: sets of addresses and networks, some negated; the longest prefix that holds an address decides.
//! Kept twice: as a sorted list of entries, which is what `pfctl -T show` prints, and flattened into ranges of
//! matching addresses, which a lookup finds by binary search (8 bytes per IPv4 range, 32 per IPv6 range).

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// One entry of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Host bits are cleared, as pf does on insertion.
    pub net: IpNet,
    pub negated: bool,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.negated {
            f.write_str("!")?;
        }
        if self.net.prefix_len() == self.net.max_prefix_len() {
            self.net.addr().fmt(f)
        } else {
            self.net.fmt(f)
        }
    }
}

/// A text that is no table entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no address or network")]
pub struct BadEntry(pub String);

impl std::str::FromStr for Entry {
    type Err = BadEntry;
    fn from_str(text: &str) -> Result<Self, BadEntry> {
        let bare = text.trim();
        let (negated, bare) = match bare.strip_prefix('!') {
            Some(rest) => (true, rest.trim_start()),
            None => (false, bare),
        };
        let net = match bare.parse::<IpNet>() {
            Ok(net) => net.trunc(),
            Err(_) => IpNet::from(bare.parse::<IpAddr>().map_err(|_| BadEntry(text.trim().into()))?),
        };
        Ok(Self { net, negated })
    }
}

/// Entries of a file as `table <x> file "…"` reads it: words apart by blanks or lines, `#` and `;` comments.
pub fn entries_of_file(text: &str) -> Result<Vec<Entry>, BadEntry> {
    text.lines()
        .map(|line| line.split(['#', ';']).next().unwrap_or_default())
        .flat_map(|line| {
            // `! 10.0.0.1` is one entry although a blank stands in it.
            let mut words = line.split_whitespace();
            std::iter::from_fn(move || match words.next() {
                Some("!") => words.next().map(|next| format!("!{next}")),
                other => other.map(str::to_owned),
            })
        })
        .map(|word| word.parse())
        .collect()
}

/// A pf table.
#[derive(Debug, Default)]
pub struct Table {
    /// Networks by address and then prefix length, one entry per network.
    v4: Vec<(Ipv4Net, bool)>,
    v6: Vec<(Ipv6Net, bool)>,
    /// Boundaries at which "matches" turns on, off, on …
    ranges4: Vec<u32>,
    ranges6: Vec<u128>,
    /// `persist`: stays when no rule names it.
    pub persist: bool,
    /// `const`: cannot be changed once loaded.
    pub constant: bool,
    matched: AtomicU64,
    not_matched: AtomicU64,
}

impl Table {
    /// An empty table that stays when no rule names it.
    pub fn persistent() -> Self {
        Self { persist: true, ..Self::default() }
    }

    /// Makes the table hold exactly these entries; a network that comes twice counts as it came first.
    pub fn replace(&mut self, entries: impl IntoIterator<Item = Entry>) {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for entry in entries {
            match entry.net.trunc() {
                IpNet::V4(net) => v4.push((net, entry.negated)),
                IpNet::V6(net) => v6.push((net, entry.negated)),
            }
        }
        v4.sort_by_key(|(net, _)| (net.addr(), net.prefix_len()));
        v6.sort_by_key(|(net, _)| (net.addr(), net.prefix_len()));
        v4.dedup_by_key(|(net, _)| *net);
        v6.dedup_by_key(|(net, _)| *net);
        v4.shrink_to_fit();
        v6.shrink_to_fit();
        (self.v4, self.v6) = (v4, v6);
        self.flatten();
    }

    /// Adds one entry; false when the network was there already.
    pub fn add(&mut self, entry: Entry) -> bool {
        let added = match entry.net.trunc() {
            IpNet::V4(net) => {
                let at = self.v4.binary_search_by_key(&(net.addr(), net.prefix_len()), |(n, _)| {
                    (n.addr(), n.prefix_len())
                });
                at.map_err(|at| self.v4.insert(at, (net, entry.negated))).is_err()
            }
            IpNet::V6(net) => {
                let at = self.v6.binary_search_by_key(&(net.addr(), net.prefix_len()), |(n, _)| {
                    (n.addr(), n.prefix_len())
                });
                at.map_err(|at| self.v6.insert(at, (net, entry.negated))).is_err()
            }
        };
        if added {
            self.flatten();
        }
        added
    }

    /// Whether the table matches an address, without counting.
    pub fn test(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(a) => holds(&self.ranges4, u32::from(a)),
            IpAddr::V6(a) => holds(&self.ranges6, u128::from(a)),
        }
    }

    /// Whether the table matches an address, as a rule asks.
    pub fn lookup(&self, address: IpAddr) -> bool {
        let hit = self.test(address);
        let counter = if hit { &self.matched } else { &self.not_matched };
        counter.fetch_add(1, Ordering::Relaxed);
        hit
    }

    /// Lookups that matched, and those that did not (`pfctl -vvsT`).
    pub fn lookups(&self) -> (u64, u64) {
        (self.matched.load(Ordering::Relaxed), self.not_matched.load(Ordering::Relaxed))
    }

    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Entries in the order `pfctl -T show` prints them: IPv4 first, by address.
    pub fn entries(&self) -> impl Iterator<Item = Entry> + '_ {
        let v4 = self.v4.iter().map(|(net, negated)| Entry { net: IpNet::V4(*net), negated: *negated });
        let v6 = self.v6.iter().map(|(net, negated)| Entry { net: IpNet::V6(*net), negated: *negated });
        v4.chain(v6)
    }

    fn flatten(&mut self) {
        self.ranges4 = flatten(
            self.v4.iter().map(|(net, neg)| (u32::from(net.network()), u32::from(net.broadcast()), !neg)),
            |n| n.checked_add(1),
        );
        self.ranges6 = flatten(
            self.v6.iter().map(|(net, neg)| (u128::from(net.network()), u128::from(net.broadcast()), !neg)),
            |n| n.checked_add(1),
        );
    }
}

/// Whether a number lies behind an odd count of boundaries.
fn holds<N: Ord + Copy>(boundaries: &[N], number: N) -> bool {
    boundaries.partition_point(|at| *at <= number) % 2 == 1
}

/// Turns nested networks (first and last number, match or not), sorted by start with the wider one first, into
/// boundaries at which "matches" turns on, off, on …: the innermost network decides.
fn flatten<N: Ord + Copy>(nets: impl Iterator<Item = (N, N, bool)>, next: impl Fn(N) -> Option<N>) -> Vec<N> {
    let mut out: Vec<N> = Vec::new();
    let mut turn = |at: N, hit: bool| {
        if out.last() == Some(&at) {
            out.pop();
        }
        if (out.len() % 2 == 1) != hit {
            out.push(at);
        }
    };
    // Networks that hold the current number, outermost first.
    let mut open: Vec<(N, bool)> = Vec::new();
    for (start, end, hit) in nets {
        while let Some(&(inner_end, _)) = open.last()
            && inner_end < start
        {
            open.pop();
            if let Some(after) = next(inner_end) {
                turn(after, open.last().is_some_and(|(_, outer)| *outer));
            }
        }
        turn(start, hit);
        open.push((end, hit));
    }
    while let Some((end, _)) = open.pop() {
        if let Some(after) = next(end) {
            turn(after, open.last().is_some_and(|(_, outer)| *outer));
        }
    }
    out.shrink_to_fit();
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn table(entries: &[&str]) -> Table {
        let mut table = Table::default();
        table.replace(entries.iter().map(|e| e.parse().unwrap()));
        table
    }

    #[test]
    fn the_longest_prefix_decides() {
        let t = table(&["10.0.0.0/8", "!10.1.0.0/16", "10.1.2.3", "::/0", "!2001:db8::/32"]);
        let hit = |a: &str| t.test(a.parse().unwrap());
        assert!(hit("10.0.0.0") && hit("10.0.255.255") && hit("10.2.0.0") && hit("10.255.255.255"));
        assert!(!hit("10.1.0.0") && !hit("10.1.255.255") && !hit("9.255.255.255") && !hit("11.0.0.0"));
        assert!(hit("10.1.2.3") && !hit("10.1.2.2") && !hit("10.1.2.4"));
        assert!(hit("::") && hit("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff") && !hit("2001:db8::1"));
    }

    #[test]
    fn entries_print_as_pfctl_does() {
        let t = table(&["fd00::/8", "10.1.2.3/8", "!192.0.2.9", "192.0.2.9", "1.2.3.4/32"]);
        let shown: Vec<_> = t.entries().map(|e| e.to_string()).collect();
        assert_eq!(shown, ["1.2.3.4", "10.0.0.0/8", "!192.0.2.9", "fd00::/8"]);
    }

    #[test]
    fn files_hold_comments() {
        let entries = entries_of_file("# head\n1.2.3.4 10.0.0.0/8 # tail\n; x\n! 10.1.0.0/16\n").unwrap();
        let shown: Vec<_> = entries.iter().map(Entry::to_string).collect();
        assert_eq!(shown, ["1.2.3.4", "10.0.0.0/8", "!10.1.0.0/16"]);
        assert_eq!(entries_of_file("1.2.3.4\nexample\n"), Err(BadEntry("example".into())));
    }

    #[test]
    fn a_hundred_thousand_networks() {
        let mut t = Table::default();
        t.replace((0..100_000u32).map(|n| Entry {
            net: Ipv4Net::new(Ipv4Addr::from(n << 12), 24).unwrap().into(),
            negated: false,
        }));
        assert_eq!(t.len(), 100_000);
        let hits = (0..200_000u32).filter(|n| t.test(IpAddr::V4(Ipv4Addr::from(n << 11)))).count();
        assert_eq!(hits, 100_000);
        assert_eq!(t.ranges4.capacity() * size_of::<u32>(), 800_000);
    }

    fn small_net() -> impl Strategy<Value = Entry> {
        (0u32..=0xffff, 14u8..=32, any::<bool>(), any::<bool>()).prop_map(|(bits, len, negated, six)| {
            let net: IpNet = if six {
                Ipv6Net::new(Ipv6Addr::from(u128::MAX - u128::from(bits)), 96 + len).unwrap().into()
            } else {
                // Near the end of the address space, to meet its edge.
                Ipv4Net::new(Ipv4Addr::from(u32::MAX - bits), len).unwrap().into()
            };
            Entry { net: net.trunc(), negated }
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn as_a_naive_list(entries in prop::collection::vec(small_net(), 0..40), probes in prop::collection::vec(0u32..=0xffff, 60),
                           later in prop::collection::vec(small_net(), 0..5)) {
            let mut t = Table::default();
            t.replace(entries.iter().copied());
            let mut naive: Vec<Entry> = Vec::new();
            for e in entries.iter().chain(&later) {
                if !naive.iter().any(|n| n.net == e.net) { naive.push(*e); }
            }
            for e in &later { t.add(*e); }
            for p in probes {
                for a in [IpAddr::V4(Ipv4Addr::from(u32::MAX - p)), IpAddr::V6(Ipv6Addr::from(u128::MAX - u128::from(p)))] {
                    let best = naive.iter().filter(|e| e.net.contains(&a)).max_by_key(|e| e.net.prefix_len());
                    prop_assert_eq!(t.test(a), best.is_some_and(|e| !e.negated), "{}", a);
                }
            }
            prop_assert_eq!(t.len(), naive.len());
        }
    }
}
