//! Translation: which addresses and ports a packet gets, from pools, interfaces and ranges.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use ipnet::IpNet;

use super::super::rules::*;
use super::super::state::{Key, Via, place, state_ports};
use super::{ListKind, Reason, RuleRef, Run};
use crate::pf::ast::{NatKind, PoolKind, Port};
use crate::pf::packet::{Direction, Family, Icmp, Packet, Transport, protocol};

impl Run<'_, '_> {
    pub(super) fn translation(&mut self) -> Option<RuleRef> {
        let second = match self.ask.direction {
            Direction::In => ListKind::Rdr,
            Direction::Out => ListKind::Nat,
        };
        for list in [ListKind::Binat, second] {
            if self.ruleset("", list, 0)
                && let Some((rule, _)) = self.best.take()
            {
                match rule.translate() {
                    Some(translate) if translate.target.is_some() => return Some(rule),
                    // `no binat` leaves the other kind a chance; `no nat` and `no rdr` end it.
                    _ => self.step("translation", rule.info()),
                }
            }
        }
        None
    }

    pub(super) fn apply_translation(&mut self, rule: &RuleRef) -> Result<(), Reason> {
        let (Some(translate), matcher) = (rule.translate(), &rule.rule().matcher) else { return Ok(()) };
        let Some(target) = &translate.target else { return Ok(()) };
        match (translate.kind, self.ask.direction) {
            (NatKind::Nat, _) => self.rewrite_source(target),
            (NatKind::Rdr, _) => self.rewrite_destination(target, matcher.to.port),
            (NatKind::Binat, direction) => {
                let Hosts::Net(inner) = &matcher.from.hosts else { return Err(Reason::MapFailed) };
                let outer = match translate.outer {
                    Some(outer) => outer,
                    None => IpNet::from(self.choose(&target.pool, self.packet.src).ok_or(Reason::MapFailed)?),
                };
                match direction {
                    Direction::Out => self.packet.src = onto(&outer, self.packet.src),
                    Direction::In => self.packet.dst = onto(inner, self.packet.dst),
                }
                Ok(())
            }
        }
    }

    /// `nat-to`, `rdr-to` and `af-to` of filter rules.
    pub(super) fn apply_rewrite(&mut self, rule: &RuleRef) -> Result<(), Reason> {
        let Some(filter) = rule.filter() else { return Ok(()) };
        if let Some(target) = &filter.destination {
            self.rewrite_destination(target, rule.rule().matcher.to.port)?;
        }
        if let Some(target) = &filter.source {
            self.rewrite_source(target)?;
        }
        if let Some(change) = &filter.change {
            self.change_family(change)?;
        }
        Ok(())
    }

    fn rewrite_source(&mut self, target: &Target) -> Result<(), Reason> {
        let (port, _) = state_ports(&self.packet);
        // Round-robin goes on to the next address when the first has no free port.
        for _ in 0..16 {
            let address = self.choose(&target.pool, self.packet.src).ok_or(Reason::MapFailed)?;
            let range = match target.ports {
                Ports::Default => (50_001, 65_535),
                Ports::Keep => (port, port),
                Ports::One(one) => (one, one),
                Ports::Range(a, b) => (a.min(b), a.max(b)),
            };
            if let Some(chosen) = self.free_port(address, range) {
                self.packet.src = address;
                self.set_source_port(chosen);
                return Ok(());
            }
            if target.pool.sticky {
                break;
            }
        }
        Err(Reason::MapFailed)
    }

    fn set_source_port(&mut self, port: u16) {
        let (_, dst) = self.packet.ports();
        self.packet.set_ports(port, dst);
        if let Transport::Icmp(icmp) = &mut self.packet.transport {
            icmp.id = port;
        }
    }

    /// A source port in the range (or an echo identifier) that no state uses towards this destination.
    fn free_port(&mut self, address: IpAddr, (low, high): (u16, u16)) -> Option<u16> {
        let (port, dst_port) = state_ports(&self.packet);
        let echo = matches!(self.packet.transport, Transport::Icmp(Icmp { kind: 8 | 128, .. }));
        let ported = echo || matches!(self.packet.transport, Transport::Tcp(_) | Transport::Udp { .. });
        let (low, high) = match (ported, echo) {
            (false, _) => (port, port),
            (true, true) => (1, 65_535),
            (true, false) => (low, high),
        };
        let (number, dst) = (self.packet.protocol, (self.packet.dst, dst_port));
        let at = place(self.ask.direction);
        let free = |port: u16| !self.world.states.wire_taken(&Key::between(number, (address, port), dst, at));
        if low == high {
            return free(low).then_some(low);
        }
        let span = u64::from(high - low) + 1;
        let start = low + u16::try_from(self.ask.random.below(span)).unwrap_or(0);
        (start..=high).chain(low..start).find(|port| free(*port))
    }

    fn rewrite_destination(&mut self, target: &Target, matched: Option<Port>) -> Result<(), Reason> {
        let address = self.choose(&target.pool, self.packet.src).ok_or(Reason::MapFailed)?;
        self.packet.dst = address;
        let (src, dst) = self.packet.ports();
        let port = match target.ports {
            Ports::Default | Ports::Keep => dst,
            Ports::One(port) => port,
            Ports::Range(a, b) => {
                let first = match matched {
                    Some(Port::Range(low, _) | Port::Equal(low)) => low,
                    _ => 0,
                };
                let span = u32::from(b.saturating_sub(a)) + 1;
                let step = u32::from(dst.wrapping_sub(first)) % span;
                u16::try_from(u32::from(a) + step).unwrap_or(a)
            }
        };
        self.packet.set_ports(src, port);
        Ok(())
    }

    fn change_family(&mut self, change: &FamilyChange) -> Result<(), Reason> {
        let old_dst = self.packet.dst;
        let dst = match &change.to {
            None => match (change.family, old_dst) {
                (Family::Inet, IpAddr::V6(dst)) => IpAddr::V4(last_32(dst)),
                _ => return Err(Reason::Translate),
            },
            Some(pool) => match (pool.hosts.first(), old_dst) {
                // A /96 maps every IPv4 address into itself (RFC 6052 §2.2).
                (Some(PoolHost::Net(IpNet::V6(prefix))), IpAddr::V4(dst)) if prefix.prefix_len() <= 96 => {
                    IpAddr::V6(Ipv6Addr::from(u128::from(prefix.network()) | u128::from(u32::from(dst))))
                }
                _ => self.choose_family(pool, change.family, old_dst).ok_or(Reason::MapFailed)?,
            },
        };
        let new_src =
            self.choose_family(&change.from, change.family, self.packet.src).ok_or(Reason::MapFailed)?;
        convert_family(&mut self.packet, change.family);
        self.packet.dst = dst;
        let range = (50_001, 65_535);
        // The changed flow leaves as if it had begun here.
        let (port, dst_port) = state_ports(&self.packet);
        let free = self.stack_port(new_src, (dst, dst_port), port, range).ok_or(Reason::MapFailed)?;
        self.packet.src = new_src;
        self.set_source_port(free);
        Ok(())
    }

    fn stack_port(
        &mut self,
        src: IpAddr,
        dst: (IpAddr, u16),
        port: u16,
        (low, high): (u16, u16),
    ) -> Option<u16> {
        let ported =
            matches!(self.packet.transport, Transport::Tcp(_) | Transport::Udp { .. } | Transport::Icmp(_));
        if !ported {
            return Some(port);
        }
        let number = self.packet.protocol;
        let out = place(Direction::Out);
        let span = u64::from(high - low) + 1;
        let start = low + u16::try_from(self.ask.random.below(span)).unwrap_or(0);
        (start..=high).chain(low..start).find(|port| {
            let key = Key::between(number, (src, *port), dst, out);
            self.world.states.find(&key, Direction::Out, &self.ask.interface).is_none()
                && !self.world.states.wire_taken(&key)
        })
    }

    // --- pools

    fn choose(&mut self, pool: &Pool, client: IpAddr) -> Option<IpAddr> {
        self.choose_family(pool, self.packet.family(), client)
    }

    fn choose_family(&mut self, pool: &Pool, family: Family, client: IpAddr) -> Option<IpAddr> {
        if pool.sticky
            && let Some(kept) = pool.stuck.lock().unwrap_or_else(PoisonError::into_inner).get(&client)
        {
            return Some(*kept);
        }
        let spans = self.spans(pool, family);
        let total: u128 = spans.iter().map(|(_, count)| count).sum();
        if total == 0 {
            return None;
        }
        let wide = u64::try_from(total).unwrap_or(u64::MAX);
        let turn = match pool.kind {
            PoolKind::RoundRobin => {
                let turn = if self.ask.counting && total > 1 {
                    pool.turn.fetch_add(1, Ordering::Relaxed)
                } else {
                    pool.turn.load(Ordering::Relaxed)
                };
                turn as u128 % total
            }
            PoolKind::Random => u128::from(self.ask.random.below(wide)),
            PoolKind::SourceHash(_) => hash(client) % total,
            // The client's host bits in the pool's network.
            PoolKind::Bitmask => match pool.hosts.first() {
                Some(PoolHost::Net(net)) if Family::of(net.addr()) == Family::of(client) => {
                    return Some(onto(net, client));
                }
                _ => 0,
            },
        };
        let chosen = nth(&spans, turn)?;
        if pool.sticky && self.ask.counting {
            let mut stuck = pool.stuck.lock().unwrap_or_else(PoisonError::into_inner);
            if stuck.len() >= Pool::MAX_STICKY {
                stuck.clear();
            }
            stuck.insert(client, chosen);
        }
        Some(chosen)
    }

    /// First addresses and counts of what a pool holds of a family.
    fn spans(&self, pool: &Pool, family: Family) -> Vec<(IpAddr, u128)> {
        let mut spans = Vec::new();
        let mut push = |net: &IpNet| {
            if Family::of(net.addr()) == family {
                let bits = u32::from(net.max_prefix_len() - net.prefix_len());
                spans.push((net.network(), 1u128.checked_shl(bits).unwrap_or(u128::MAX)));
            }
        };
        for host in &pool.hosts {
            match host {
                PoolHost::Net(net) => push(net),
                PoolHost::Range(a, b) => {
                    for net in ipnet_range(*a, *b) {
                        push(&net);
                    }
                }
                PoolHost::Table(table) => {
                    if let Some(table) = self.table(*table) {
                        table.entries().filter(|e| !e.negated).for_each(|e| push(&e.net));
                    }
                }
                PoolHost::Dynamic(host) => {
                    self.world.interfaces.resolve_family(host, family).iter().for_each(&mut push);
                }
            }
        }
        spans
    }

    pub(super) fn hop(&mut self, route: &Route, client: IpAddr) -> Option<Via> {
        let family = self.packet.family();
        // The hop that has served this client before, then round-robin or as the pool says.
        let count = route.hops.len();
        if count == 0 {
            return None;
        }
        let turn = match route.pool.kind {
            PoolKind::SourceHash(_) => usize::try_from(hash(client) % count as u128).unwrap_or(0),
            PoolKind::Random => usize::try_from(self.ask.random.below(count as u64)).unwrap_or(0),
            _ if self.ask.counting && count > 1 && !route.pool.sticky => {
                route.pool.turn.fetch_add(1, Ordering::Relaxed) % count
            }
            _ if route.pool.sticky && count > 1 => self.sticky_turn(route, client, count),
            _ => route.pool.turn.load(Ordering::Relaxed) % count,
        };
        let (interface, address) = &route.hops[turn];
        let gateway = address.as_ref().and_then(|host| {
            let one = Pool {
                hosts: vec![host.clone()],
                kind: PoolKind::RoundRobin,
                sticky: false,
                turn: Default::default(),
                stuck: Default::default(),
            };
            nth(&self.spans(&one, family), 0)
        });
        Some(Via { interface: interface.clone(), gateway })
    }

    /// Sticky routes remember the number of the hop, kept as an address.
    fn sticky_turn(&mut self, route: &Route, client: IpAddr, count: usize) -> usize {
        let mut stuck = route.pool.stuck.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(IpAddr::V4(kept)) = stuck.get(&client) {
            return u32::from(*kept) as usize % count;
        }
        if !self.ask.counting {
            return route.pool.turn.load(Ordering::Relaxed) % count;
        }
        let turn = route.pool.turn.fetch_add(1, Ordering::Relaxed) % count;
        if stuck.len() >= Pool::MAX_STICKY {
            stuck.clear();
        }
        stuck.insert(client, IpAddr::V4(Ipv4Addr::from(u32::try_from(turn).unwrap_or(0))));
        turn
    }
}

/// An address with the network part of `net` and its own host part.
fn onto(net: &IpNet, address: IpAddr) -> IpAddr {
    match (net, address) {
        (IpNet::V4(net), IpAddr::V4(address)) => {
            let mask = u32::from(net.netmask());
            IpAddr::V4(Ipv4Addr::from((u32::from(net.addr()) & mask) | (u32::from(address) & !mask)))
        }
        (IpNet::V6(net), IpAddr::V6(address)) => {
            let mask = u128::from(net.netmask());
            IpAddr::V6(Ipv6Addr::from((u128::from(net.addr()) & mask) | (u128::from(address) & !mask)))
        }
        (_, address) => address,
    }
}

fn last_32(address: Ipv6Addr) -> Ipv4Addr {
    let o = address.octets();
    Ipv4Addr::new(o[12], o[13], o[14], o[15])
}

fn hash(address: IpAddr) -> u128 {
    let number = match address {
        IpAddr::V4(a) => u128::from(u32::from(a)),
        IpAddr::V6(a) => u128::from(a),
    };
    let folded =
        u64::try_from(number & u128::from(u64::MAX)).unwrap_or(0) ^ u64::try_from(number >> 64).unwrap_or(0);
    u128::from(folded.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20)
}

fn nth(spans: &[(IpAddr, u128)], mut turn: u128) -> Option<IpAddr> {
    for (first, count) in spans {
        if turn < *count {
            return Some(match first {
                IpAddr::V4(a) => {
                    IpAddr::V4(Ipv4Addr::from(u32::from(*a).wrapping_add(u32::try_from(turn).ok()?)))
                }
                IpAddr::V6(a) => IpAddr::V6(Ipv6Addr::from(u128::from(*a).wrapping_add(turn))),
            });
        }
        turn -= count;
    }
    None
}

/// The networks that make up a range.
fn ipnet_range(a: IpAddr, b: IpAddr) -> Vec<IpNet> {
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => ipnet::Ipv4Subnets::new(a, b, 0).map(IpNet::V4).collect(),
        (IpAddr::V6(a), IpAddr::V6(b)) => ipnet::Ipv6Subnets::new(a, b, 0).map(IpNet::V6).collect(),
        _ => Vec::new(),
    }
}

/// Makes an IPv6 packet an IPv4 one or the other way round, all but the addresses (RFC 7915).
pub fn convert_family(packet: &mut Packet, to: Family) {
    match to {
        Family::Inet => packet.length = packet.length.saturating_sub(20),
        Family::Inet6 => packet.length += 20,
    }
    if let Transport::Icmp(icmp) = &mut packet.transport {
        let (number, kind) = match (to, icmp.kind) {
            (Family::Inet, 128) => (protocol::ICMP, 8),
            (Family::Inet, 129) => (protocol::ICMP, 0),
            (Family::Inet, 1) => (protocol::ICMP, 3),
            (Family::Inet, 3) => (protocol::ICMP, 11),
            (Family::Inet, other) => (protocol::ICMP, other),
            (Family::Inet6, 8) => (protocol::ICMP6, 128),
            (Family::Inet6, 0) => (protocol::ICMP6, 129),
            (Family::Inet6, 3) => (protocol::ICMP6, 1),
            (Family::Inet6, 11) => (protocol::ICMP6, 3),
            (Family::Inet6, other) => (protocol::ICMP6, other),
        };
        packet.protocol = number;
        icmp.kind = kind;
    }
}
