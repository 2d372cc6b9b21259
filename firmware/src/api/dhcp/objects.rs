//! Subnets and reservations.

use schemars::JsonSchema;
use serde::Serialize;

use super::{KIND, READ, WRITE, ask, rehearse, wish};
use crate::api::resource::{Data, Message};
use crate::api::services_common::audit;
use crate::api::{ApiError, Call, Reply, Route};
use crate::apply::services::Wish;
use crate::config::dhcp::{DhcpReservation, DhcpSubnet, ReservationRequest, SubnetRequest};
use crate::config::{Config, Id, Timestamp};
use crate::services::rdhcpd::Lease;

pub fn routes() -> Vec<Route> {
    let subnets = ("/dhcp/v4/subnets", "/dhcp/v4/subnets/{id}");
    let reservations = ("/dhcp/v4/reservations", "/dhcp/v4/reservations/{id}");
    vec![
        Route::new("GET", subnets.0, READ, "Subnets that addresses are given in, oldest first", list_subnets)
            .answers::<Data<Vec<DhcpSubnet>>>(200),
        Route::new("POST", subnets.0, WRITE, "Add a subnet", create_subnet)
            .takes::<SubnetRequest>()
            .answers::<Written<DhcpSubnet>>(201),
        Route::new("PUT", subnets.1, WRITE, "Replace a subnet", replace_subnet)
            .takes::<SubnetRequest>()
            .answers::<Written<DhcpSubnet>>(200),
        Route::new(
            "DELETE",
            subnets.1,
            WRITE,
            "Delete a subnet; its reservations stay, bound to none",
            delete_subnet,
        )
        .answers::<Message>(200),
        Route::new(
            "GET",
            reservations.0,
            READ,
            "Clients that always get the same address, by address",
            list_reservations,
        )
        .answers::<Data<Vec<DhcpReservation>>>(200),
        Route::new("POST", reservations.0, WRITE, "Add a reservation", create_reservation)
            .takes::<ReservationRequest>()
            .answers::<Written<DhcpReservation>>(201),
        Route::new("PUT", reservations.1, WRITE, "Replace a reservation", replace_reservation)
            .takes::<ReservationRequest>()
            .answers::<Written<DhcpReservation>>(200),
        Route::new("DELETE", reservations.1, WRITE, "Delete a reservation", delete_reservation)
            .answers::<Message>(200),
    ]
}

/// What is stored, and what about it is not as its author may expect.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Written<T> {
    data: T,
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<String>,
}

fn written<T: Serialize>(status: u16, data: T, warnings: &[String]) -> Reply {
    let warning = (!warnings.is_empty()).then(|| warnings.join("; "));
    Reply::json(&Written { data, warning }).with_status(status)
}

fn missing(what: &str, id: impl std::fmt::Display) -> ApiError {
    ApiError::not_found(format!("{what} {id}"))
}

fn id_of(call: &Call, what: &str) -> Result<Id, ApiError> {
    call.id("id").map_err(|_| missing(what, call.param("id")))
}

/// A change that is made twice: on a copy, which the daemon's checker looks at, and in the store.
async fn change<T: Send + 'static>(
    call: &Call,
    edit: impl Fn(&mut Config, Timestamp) -> Result<(T, String), ApiError> + Send + 'static,
) -> Result<(T, Vec<String>), ApiError> {
    let mut candidate = call.app.store.snapshot().config.clone();
    edit(&mut candidate, Timestamp::now())?;
    let warnings = rehearse(&call.app, &candidate).await?;
    let author = call.author();
    let by = author.clone();
    let done = call
        .app
        .store
        .commit(&author, move |draft| {
            let (done, what) = edit(&mut draft.config, draft.now)?;
            draft.audit.push(audit("dhcp", &by, what));
            Ok::<_, ApiError>(done)
        })
        .await?;
    let wish = wish(&call.app, &call.app.store.snapshot().config);
    if let Some(wish) = wish {
        call.app.applier.service_soon(&author, KIND, wish);
    }
    Ok((done, warnings))
}

async fn list_subnets(call: Call) -> Result<Reply, ApiError> {
    let snapshot = call.app.store.snapshot();
    let mut subnets: Vec<_> = snapshot.config.dhcp_subnets.iter().map(|subnet| &**subnet).collect();
    subnets.sort_by_key(|subnet| (subnet.created_at, subnet.id));
    Ok(Reply::data(&subnets))
}

/// For the audit: what else would be hard to see later.
fn told(subnet: &DhcpSubnet) -> String {
    let options: Vec<String> =
        subnet.options.iter().map(|option| format!("{}={}", option.code, option.value)).collect();
    format!("relays [{}], options [{}]", subnet.trusted_relays.join(", "), options.join(", "))
}

async fn create_subnet(call: Call) -> Result<Reply, ApiError> {
    let request: SubnetRequest = call.json()?;
    // One id for the copy and the store.
    let id = Id::new_v4();
    let (subnet, warnings) = change(&call, move |config, now| {
        let mut subnet = request.clone().subnet(None, now, config)?;
        subnet.id = id;
        config.dhcp_subnets.insert(subnet.clone());
        let what = format!("subnet {} added: {}", subnet.network, told(&subnet));
        Ok((subnet, what))
    })
    .await?;
    Ok(written(201, subnet, &warnings))
}

async fn replace_subnet(call: Call) -> Result<Reply, ApiError> {
    let id = id_of(&call, "subnet")?;
    if !call.app.store.snapshot().config.dhcp_subnets.contains(&id) {
        return Err(missing("subnet", id));
    }
    let request: SubnetRequest = call.json()?;
    let (subnet, warnings) = change(&call, move |config, now| {
        let stored = config.dhcp_subnets.get(&id).cloned().ok_or_else(|| missing("subnet", id))?;
        let subnet = request.clone().subnet(Some(&stored), now, config)?;
        config.dhcp_subnets.insert(subnet.clone());
        let what = format!("subnet {} updated: {}, before: {}", subnet.network, told(&subnet), told(&stored));
        Ok((subnet, what))
    })
    .await?;
    Ok(written(200, subnet, &warnings))
}

async fn delete_subnet(call: Call) -> Result<Reply, ApiError> {
    let id = id_of(&call, "subnet")?;
    change(&call, move |config, _| {
        let gone = config.dhcp_subnets.remove(&id).ok_or_else(|| missing("subnet", id))?;
        let bound: Vec<DhcpReservation> = config
            .dhcp_reservations
            .iter()
            .filter(|reservation| reservation.subnet_id.as_deref() == Some(&id.to_string()))
            .map(|reservation| DhcpReservation { subnet_id: None, ..(**reservation).clone() })
            .collect();
        bound.into_iter().for_each(|reservation| config.dhcp_reservations.insert(reservation));
        Ok(((), format!("subnet {} deleted: {}", gone.network, told(&gone))))
    })
    .await?;
    Ok(Reply::message(format!("Subnet {id} deleted")))
}

async fn list_reservations(call: Call) -> Result<Reply, ApiError> {
    let snapshot = call.app.store.snapshot();
    let mut reservations: Vec<_> = snapshot.config.dhcp_reservations.iter().map(|one| &**one).collect();
    reservations.sort_by_key(|one| (one.ip_address.parse::<std::net::IpAddr>().ok(), one.id));
    Ok(Reply::data(&reservations))
}

fn place(config: &Config, reservation: &DhcpReservation) -> Vec<String> {
    let served = reservation.subnet(config).is_some_and(|subnet| subnet.enabled);
    let warning = || format!("no enabled subnet has {}; it is not served", reservation.ip_address);
    if served { Vec::new() } else { vec![warning()] }
}

/// Another client's lease of an address whose reservation has changed goes; that client keeps the address until it
/// renews.
async fn take_over(call: &Call, reservation: &DhcpReservation) {
    let Ok(ip) = reservation.ip_address.parse() else { return };
    let (mac, id) = (reservation.mac_address.clone(), reservation.client_id.clone());
    let freed = ask(&call.app, move |client| {
        let held = client.leases(Some("bound"))?.into_iter().find(|lease| lease.ip == ip);
        match held {
            Some(lease) if !is_of(&lease, &mac, id.as_deref()) => client.release(ip),
            _ => Ok(false),
        }
    });
    match freed.await {
        // The daemon would give the address to anybody until its next start.
        Ok(true) => call.app.applier.service_soon(&call.author(), KIND, Wish::Restart),
        Ok(false) => {}
        Err(error) if error.status == 503 => {}
        Err(error) => log::warn!("lease of {}: {error}", reservation.ip_address),
    }
}

/// Whether a lease is that of a reservation's client.
fn is_of(lease: &Lease, mac: &str, client_id: Option<&str>) -> bool {
    let same =
        |held: &Option<String>, own: &str| held.as_deref().is_some_and(|held| held.eq_ignore_ascii_case(own));
    (!mac.is_empty() && same(&lease.mac, mac)) || client_id.is_some_and(|id| same(&lease.client_id, id))
}

async fn create_reservation(call: Call) -> Result<Reply, ApiError> {
    let request: ReservationRequest = call.json()?;
    let id = Id::new_v4();
    let (reservation, _) = change(&call, move |config, now| {
        let mut reservation = request.clone().reservation(None, now, config)?;
        reservation.id = id;
        config.dhcp_reservations.insert(reservation.clone());
        let what = format!("reservation of {} for {} added", reservation.ip_address, reservation.mac_address);
        Ok((reservation, what))
    })
    .await?;
    take_over(&call, &reservation).await;
    let warnings = place(&call.app.store.snapshot().config, &reservation);
    Ok(written(201, reservation, &warnings))
}

async fn replace_reservation(call: Call) -> Result<Reply, ApiError> {
    let id = id_of(&call, "reservation")?;
    if !call.app.store.snapshot().config.dhcp_reservations.contains(&id) {
        return Err(missing("reservation", id));
    }
    let request: ReservationRequest = call.json()?;
    let (reservation, _) = change(&call, move |config, now| {
        let stored = config.dhcp_reservations.get(&id).cloned().ok_or_else(|| missing("reservation", id))?;
        let reservation = request.clone().reservation(Some(&stored), now, config)?;
        config.dhcp_reservations.insert(reservation.clone());
        let what =
            format!("reservation of {} for {} updated", reservation.ip_address, reservation.mac_address);
        Ok((reservation, what))
    })
    .await?;
    take_over(&call, &reservation).await;
    let warnings = place(&call.app.store.snapshot().config, &reservation);
    Ok(written(200, reservation, &warnings))
}

async fn delete_reservation(call: Call) -> Result<Reply, ApiError> {
    let id = id_of(&call, "reservation")?;
    let (gone, _) = change(&call, move |config, _| {
        let gone = config.dhcp_reservations.remove(&id).ok_or_else(|| missing("reservation", id))?;
        let what = format!("reservation of {} for {} deleted", gone.ip_address, gone.mac_address);
        Ok((gone, what))
    })
    .await?;
    take_over(&call, &gone).await;
    Ok(Reply::message(format!("Reservation {id} deleted")))
}
