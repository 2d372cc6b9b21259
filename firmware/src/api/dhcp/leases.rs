//! Leases of the running daemon.

use std::collections::HashSet;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::Serialize;

use super::{KIND, READ, WRITE, ask};
use crate::api::resource::Message;
use crate::api::services_common::{audit, note};
use crate::api::{ApiError, Call, Reply, Route};
use crate::apply::services::Wish;
use crate::config::Timestamp;
use crate::config::dhcp::names;
use crate::services::rdhcpd::Lease;

pub fn routes() -> Vec<Route> {
    vec![
        Route::new("GET", "/dhcp/v4/leases", READ, "Leases of the running daemon", list)
            .answers::<Leases>(200)
            .with_query(&[
                ("state", "`bound` (default), `offered`, `expired`, `released`, `declined` or `all`"),
                ("subnet", "of this network only"),
                ("mac", "of this client only"),
                ("limit", "at most this many; all unless given"),
                ("offset", "leases to leave out at the start"),
            ]),
        Route::new(
            "DELETE",
            "/dhcp/v4/leases/{ip}",
            WRITE,
            "Forget a lease; its client keeps it until it renews",
            release,
        )
        .answers::<Message>(200),
    ]
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct LeaseView {
    ip_address: IpAddr,
    mac_address: String,
    hostname: Option<String>,
    client_id: Option<String>,
    state: String,
    /// Seconds.
    lease_time: u32,
    starts: Option<Timestamp>,
    expires: Option<Timestamp>,
    subnet: Option<String>,
    /// The address is reserved.
    #[serde(rename = "static")]
    is_static: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Leases {
    data: Vec<LeaseView>,
    total: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<String>,
}

const STATES: [&str; 5] = ["bound", "offered", "expired", "released", "declined"];

async fn list(call: Call) -> Result<Reply, ApiError> {
    let state = match call.query("state") {
        None => Some("bound".to_owned()),
        Some("all") => None,
        Some(state) if STATES.contains(&state) => Some(state.to_owned()),
        Some(_) => {
            return Err(ApiError::bad_request(format!(
                "state: expected all or one of {}",
                STATES.join(", ")
            )));
        }
    };
    let page = call.page(usize::MAX, usize::MAX)?;
    let (found, warning) = match ask(&call.app, move |client| client.leases(state.as_deref())).await {
        Ok(found) => (found, None),
        Err(error) => (Vec::new(), Some(error.message)),
    };
    let snapshot = call.app.store.snapshot();
    let reserved: HashSet<IpAddr> =
        snapshot.config.dhcp_reservations.iter().filter_map(|one| one.ip_address.parse().ok()).collect();
    let mac = match call.query("mac").map(|text| (text, names::mac(text))) {
        None => None,
        Some((_, Some(mac))) => Some(mac),
        Some(_) => return Err(ApiError::bad_request("mac: expected six octets such as 00:11:22:33:44:55")),
    };
    let wanted = |lease: &Lease| {
        call.query("subnet").is_none_or(|subnet| lease.subnet == subnet)
            && mac.as_ref().is_none_or(|mac| lease.mac.as_ref() == Some(mac))
    };
    let mut leases: Vec<Lease> = found.into_iter().filter(wanted).collect();
    leases.sort_by_key(|lease| lease.ip);
    let total = leases.len();
    let data = page
        .of(leases)
        .into_iter()
        .map(|lease| LeaseView {
            starts: lease.starts(),
            expires: lease.expires(),
            is_static: reserved.contains(&lease.ip),
            ip_address: lease.ip,
            mac_address: lease.mac.unwrap_or_default(),
            hostname: lease.hostname,
            client_id: lease.client_id,
            state: lease.state,
            lease_time: lease.lease_time,
            subnet: Some(lease.subnet).filter(|subnet| !subnet.is_empty()),
        })
        .collect();
    let answer = Leases { data, total, warning };
    Ok(Reply::json(&answer).with_header("X-Total-Count", total.to_string()))
}

async fn release(call: Call) -> Result<Reply, ApiError> {
    let text = call.param("ip").to_owned();
    let ip: IpAddr = text.parse().map_err(|_| ApiError::bad_request("ip: expected an IP address"))?;
    if !ask(&call.app, move |client| client.release(ip)).await? {
        return Err(ApiError::not_found(format!("lease of {ip}")));
    }
    let author = call.author();
    let snapshot = call.app.store.snapshot();
    let reserved = snapshot.config.dhcp_reservations.iter().any(|one| one.ip_address.parse() == Ok(ip));
    if reserved {
        // The daemon would give the address to anybody until its next start.
        call.app.applier.service_soon(&author, KIND, Wish::Restart);
    }
    note(&call.app, &author, audit("dhcp", &author, format!("lease of {ip} released"))).await?;
    Ok(Reply::message(format!("Lease {ip} released")))
}
