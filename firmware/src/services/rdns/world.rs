//! What the resolver's compiler cannot know: which name servers answer, who has leased an address under which
//! name, where aliases lead, and which user the daemon becomes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::query::{Transport, Type, ask};
use crate::compile::services::Facts;
use crate::compile::services::dns::zones::Named;
use crate::compile::services::dns::{self, World};
use crate::config::Config;
use crate::config::dns::names::DNS_PORT;
use crate::platform::resolv;

/// Where names of DHCP clients come from. May block, for a second at most.
pub trait LeaseNames: Send + Sync + 'static {
    /// Names and addresses of the leases in force; a name may have several labels and any case.
    fn leases(&self, config: &Config) -> Vec<Named>;
}

/// How long a server has to show that it is there.
const PATIENCE: Duration = Duration::from_millis(700);
/// For so long what was found out is taken for true: an apply looks twice.
const FRESH: Duration = Duration::from_secs(2);

type Found = (Instant, BTreeSet<SocketAddr>, BTreeSet<SocketAddr>);

/// Finds it all out.
#[derive(Default)]
pub struct Scout {
    /// When; which servers were asked; which of them did not answer.
    health: Mutex<Option<Found>>,
}

impl Scout {
    /// May block for as long as a dead server is waited for.
    pub fn world(&self, config: &Config, facts: &Facts, leases: &dyn LeaseNames) -> World {
        let (user, group) = account(facts);
        let mut world = World {
            system_servers: system_servers(facts),
            leases: leases.leases(config),
            user,
            group,
            ..World::default()
        };
        let servers = dns::servers(config, &world);
        world.unreachable = self.unreachable(servers);
        world.aliases = aliases(config, &world);
        world
    }

    fn unreachable(&self, servers: BTreeSet<SocketAddr>) -> BTreeSet<SocketAddr> {
        let mut known = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, asked, silent)) = &*known
            && at.elapsed() < FRESH
            && *asked == servers
        {
            return silent.clone();
        }
        let silent = smol::block_on(async {
            let tasks: Vec<_> = servers
                .iter()
                .map(|server| (*server, smol::spawn(ask(*server, Transport::Udp, ".", Type::Soa, PATIENCE))))
                .collect();
            let mut silent = BTreeSet::new();
            for (server, task) in tasks {
                if task.await.is_err() {
                    silent.insert(server);
                }
            }
            silent
        });
        *known = Some((Instant::now(), servers, silent.clone()));
        silent
    }
}

/// Addresses of what aliases lead to, asked of the first server that answers.
fn aliases(config: &Config, world: &World) -> BTreeMap<String, Vec<IpAddr>> {
    let targets = dns::alias_targets(config);
    let servers = dns::servers(config, world);
    let Some(server) = servers.iter().find(|server| !world.unreachable.contains(server)).copied() else {
        return BTreeMap::new();
    };
    smol::block_on(async {
        let tasks: Vec<_> = targets
            .into_iter()
            .map(|target| {
                smol::spawn(async move {
                    let mut addresses = Vec::new();
                    for kind in [Type::A, Type::Aaaa] {
                        if let Ok(answer) = ask(server, Transport::Udp, &target, kind, PATIENCE).await {
                            addresses.extend(answer.addresses);
                        }
                    }
                    // In whatever order they come, the file is the same.
                    addresses.sort();
                    (target, addresses)
                })
            })
            .collect();
        let mut found = BTreeMap::new();
        for task in tasks {
            let (target, addresses) = task.await;
            found.insert(target, addresses);
        }
        found
    })
}

/// The appliance's own servers but those on it, which are likely this very resolver.
fn system_servers(facts: &Facts) -> Vec<SocketAddr> {
    let text = std::fs::read_to_string(facts.root.join("etc/resolv.conf")).unwrap_or_default();
    let outside = resolv::name_servers(&text).into_iter().filter(|ip| !ip.is_loopback());
    outside.map(|ip| SocketAddr::new(ip, DNS_PORT)).collect()
}

/// Who the daemon becomes: FreeBSD's own user for name servers, or on a development host one without rights.
fn account(facts: &Facts) -> (String, String) {
    use nix::unistd::{Group, User};
    let there = |user: &str, group: &str| {
        matches!(User::from_name(user), Ok(Some(_))) && matches!(Group::from_name(group), Ok(Some(_)))
    };
    let candidates = [("bind", "bind"), ("nobody", "nogroup"), ("nobody", "nobody")];
    let wanted = candidates.into_iter().filter(|_| facts.sandbox).find(|(user, group)| there(user, group));
    let (user, group) = wanted.unwrap_or(("bind", "bind"));
    (user.to_owned(), group.to_owned())
}
