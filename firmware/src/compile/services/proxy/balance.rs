//! HTTP services of the proxy's file: the daemon balances between servers only, so that choices of services become
//! lists of servers.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{DEEPEST, Findings, normal, object, rows};
use crate::config::proxy::{HttpService, Row};
use crate::config::{BadValue, Config};

/// Every enabled service as a list of servers, by name.
pub(super) fn services(config: &Config, findings: &mut Findings) -> Map<String, Value> {
    let mut services = Map::new();
    let stored: BTreeMap<&str, &Row<HttpService>> =
        rows::<HttpService>(config).into_iter().map(|row| (row.name.as_str(), row)).collect();
    for row in stored.values() {
        match load_balancer(row, &stored, findings, 0) {
            Ok(body) => {
                let mut value = json!({ "loadBalancer": body });
                normal::drop_empty(&mut value);
                services.insert(row.name.clone(), value);
            }
            Err(BadValue(reason)) => findings.error(format!("HTTP service {:?}: {reason}", row.name)),
        }
    }
    services
}

/// The daemon balances between servers only: a choice of services becomes one list of servers, their weights scaled.
fn load_balancer(
    row: &Row<HttpService>,
    stored: &BTreeMap<&str, &Row<HttpService>>,
    findings: &mut Findings,
    depth: usize,
) -> Result<Map<String, Value>, BadValue> {
    if depth > DEEPEST {
        return Err(BadValue::new("services refer to each other in a circle"));
    }
    let body = object(&row.body.config_json);
    let member = |name: Option<&Value>| -> Result<&Row<HttpService>, BadValue> {
        let name = name.and_then(Value::as_str).unwrap_or_default();
        stored
            .get(name)
            .copied()
            .ok_or_else(|| BadValue::new(format!("references non-existent service {name:?}")))
    };
    let warn_once = |findings: &mut Findings, text: String| {
        if depth == 0 {
            findings.warn(text);
        }
    };
    match row.body.service_type.as_str() {
        "weighted" => {
            let members = body.get("services").and_then(Value::as_array).cloned().unwrap_or_default();
            let mut parts = Vec::new();
            for one in &members {
                let weight = one.get("weight").and_then(Value::as_u64).unwrap_or(1);
                let inner = load_balancer(member(one.get("name"))?, stored, findings, depth + 1)?;
                let mut servers = inner.get("servers").and_then(Value::as_array).cloned().unwrap_or_default();
                servers.retain(|server| weight_of(server) > 0);
                if weight > 0 && !servers.is_empty() {
                    parts.push((weight, servers));
                }
            }
            if parts.is_empty() {
                return Err(BadValue::new("has no member with servers and a weight above 0"));
            }
            Ok(Map::from_iter([("servers".to_owned(), Value::Array(scaled(&parts)))]))
        }
        "mirroring" => {
            warn_once(
                findings,
                format!(
                    "HTTP service {:?}: this version of the daemon does not mirror; requests go to its main service only",
                    row.name
                ),
            );
            load_balancer(member(body.get("service"))?, stored, findings, depth + 1)
        }
        "failover" => {
            warn_once(
                findings,
                format!(
                    "HTTP service {:?}: this version of the daemon has no failover; requests go to its main service only",
                    row.name
                ),
            );
            load_balancer(member(body.get("service"))?, stored, findings, depth + 1)
        }
        _ => {
            if body.get("sticky").is_some_and(|sticky| !sticky.is_null()) {
                warn_once(
                    findings,
                    format!(
                        "HTTP service {:?}: sticky sessions are stored but not active in this version of the daemon",
                        row.name
                    ),
                );
            }
            Ok(body)
        }
    }
}

/// Servers of several services, each with its service's share: a service's weight is spread over its servers in
/// proportion to theirs.
fn scaled(parts: &[(u64, Vec<Value>)]) -> Vec<Value> {
    fn gcd(a: u128, b: u128) -> u128 {
        if b == 0 { a } else { gcd(b, a % b) }
    }
    let sums: Vec<u128> = parts.iter().map(|(_, servers)| servers.iter().map(weight_of).sum()).collect();
    let common = sums.iter().fold(1_u128, |common, sum| (common / gcd(common, *sum)).saturating_mul(*sum));
    let mut all = Vec::new();
    for ((weight, servers), sum) in parts.iter().zip(&sums) {
        for server in servers {
            let share = u128::from(*weight).saturating_mul(weight_of(server)).saturating_mul(common / sum);
            all.push((server.clone(), share));
        }
    }
    let divisor = all.iter().map(|(_, share)| *share).fold(0, gcd).max(1);
    // What does not fit is rounded; nobody is left without a share.
    let largest = all.iter().map(|(_, share)| share / divisor).max().unwrap_or(1).max(1);
    let fitted = |share: u128| match u128::from(LARGEST_WEIGHT) {
        limit if largest > limit => (share / divisor / largest.div_ceil(limit)).max(1),
        _ => share / divisor,
    };
    let weighted = all.into_iter().map(|(mut server, share)| {
        server["weight"] = json!(u64::try_from(fitted(share)).unwrap_or(LARGEST_WEIGHT));
        server
    });
    weighted.collect()
}

/// The daemon reads weights as 32 bits, with or without a sign.
const LARGEST_WEIGHT: u64 = i32::MAX as u64;

/// A server's weight, 1 unless given.
fn weight_of(server: &Value) -> u128 {
    server.get("weight").and_then(Value::as_u64).unwrap_or(1).into()
}
