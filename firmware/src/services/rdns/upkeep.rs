//! What a resolver that runs needs from time to time: names of DHCP clients as they come and go, a forwarder that
//! answers in the first place, addresses behind aliases as they change. Called by the appliance's own tasks.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::leases;
use super::query::{TRY, Transport, Type, ask};
use crate::compile::services::dns;
use crate::compile::services::dns::zones::Named;
use crate::config::Config;
use crate::config::dns::Backend;
use crate::services::{How, Runner, ServiceError};

/// Names that DHCP clients have now.
pub async fn leased(dhcp: &Runner, applied: &Config) -> Result<Vec<Named>, ServiceError> {
    let (config, places) = (applied.clone(), dhcp.places());
    blocking::unblock(move || leases::ask(&config, &places)).await
}

/// Lets the running resolver know the names that DHCP clients have now, without a restart. Whether they had changed.
pub async fn refresh_leases(runner: &Arc<Runner>, applied: &Config) -> Result<bool, ServiceError> {
    match applied.dns_resolver.backend {
        Backend::Rdns => runner.refresh(applied, |path| path == Path::new("rpz/hosts.rpz")).await,
        // unbound has them in its configuration.
        Backend::Unbound => again(runner, applied).await,
    }
}

/// Makes the resolver anew with the same configuration; whether that has changed anything that it is given.
async fn again(runner: &Arc<Runner>, applied: &Config) -> Result<bool, ServiceError> {
    Ok(!runner.apply(applied, How::Change).await?.changed.is_empty())
}

/// rDNS asks its first forwarder and has no time for a second: when that one is dead and another is not, it is
/// restarted with another order. Whether that was necessary.
pub async fn fail_over(runner: &Arc<Runner>, applied: &Config) -> Result<bool, ServiceError> {
    if applied.dns_resolver.backend != Backend::Rdns || !runner.is_running() {
        return Ok(false);
    }
    let file = runner.places().config.join("rdns.toml");
    let text = blocking::unblock(move || std::fs::read_to_string(file)).await.unwrap_or_default();
    let forwarders = forwarders(&text);
    let Some((first, others)) = forwarders.split_first() else { return Ok(false) };
    // One lost packet is no dead server.
    if answers(*first).await || answers(*first).await || answers(*first).await {
        return Ok(false);
    }
    for other in others {
        if answers(*other).await {
            log::warn!("name server {first} does not answer; {other} is asked first now");
            return again(runner, applied).await;
        }
    }
    Ok(false)
}

async fn answers(server: SocketAddr) -> bool {
    // A little more than an apply allows itself: the two must not disagree for long.
    ask(server, Transport::Udp, ".", Type::Soa, TRY + Duration::from_millis(100)).await.is_ok()
}

fn forwarders(rdns_toml: &str) -> Vec<SocketAddr> {
    let table: toml::Table = rdns_toml.parse().unwrap_or_default();
    let list =
        table.get("resolver").and_then(|resolver| resolver.get("forwarders")).and_then(toml::Value::as_array);
    list.into_iter().flatten().filter_map(|server| server.as_str()?.parse().ok()).collect()
}

/// Addresses of names that aliases of overrides lead to are looked up again; whether they had changed, and rDNS was
/// restarted, since it reads its zones at its start.
pub async fn follow_aliases(runner: &Arc<Runner>, applied: &Config) -> Result<bool, ServiceError> {
    let follows = applied.dns_resolver.backend == Backend::Rdns && !dns::alias_targets(applied).is_empty();
    if follows && runner.is_running() { again(runner, applied).await } else { Ok(false) }
}

#[cfg(test)]
mod tests {
    use super::forwarders;

    #[test]
    fn forwarders_are_read_from_the_file_in_force() {
        let text = "[resolver]\nforwarders = [\"9.9.9.9:53\", \"[2001:db8::1]:53\"]\n";
        let read: Vec<String> = forwarders(text).iter().map(ToString::to_string).collect();
        assert_eq!(read, ["9.9.9.9:53", "[2001:db8::1]:53"]);
        assert!(forwarders("").is_empty());
    }
}
