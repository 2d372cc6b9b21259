//! Static routes, which act at once, and the kernel's table.

use std::net::IpAddr;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;

use super::{admin, confirmed};
use crate::api::resource::{Data, Message, config_changed};
use crate::api::{Access, ApiError, Call, Reply, Route};
use crate::apply::network::{Subject, may_fail};
use crate::config::route::{RouteRequest, StaticRoute, destination_text};
use crate::config::{Config, Id, Invalid, Permission, Timestamp};
use crate::platform::{KernelRoute, NetworkReport};

const READ: Access = Access::Needs(Permission::InterfacesRead);
const WRITE: Access = Access::Needs(Permission::InterfacesWrite);

pub fn routes() -> Vec<Route> {
    vec![
        Route::new("GET", "/routes", READ, "Static routes, by FIB and metric", list)
            .answers::<Data<Vec<RouteView>>>(200),
        Route::new("POST", "/routes", WRITE, "Add a static route, at once", create)
            .takes::<RouteRequest>()
            .answers::<WithWarning>(201)
            .with_query(super::CONFIRM),
        Route::new("PUT", "/routes/{id}", WRITE, "Replace a static route, at once", replace)
            .takes::<RouteRequest>()
            .answers::<WithWarning>(200)
            .with_query(super::CONFIRM),
        Route::new("DELETE", "/routes/{id}", WRITE, "Delete a static route, at once", delete)
            .answers::<Message>(200)
            .with_query(super::CONFIRM),
        Route::new("GET", "/routes/system", READ, "The kernel's routing table", system)
            .answers::<Data<Vec<SystemRoute>>>(200)
            .with_query(&[
                ("fib", "number of the table; 0 unless given"),
                ("family", "inet, inet6 or all; inet unless given"),
            ]),
    ]
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct RouteView {
    id: Id,
    destination: String,
    gateway: String,
    interface: Option<String>,
    metric: i32,
    enabled: bool,
    description: Option<String>,
    created_at: Timestamp,
    fib: u32,
    /// The kernel has it: of several to one destination the one with the lowest metric.
    installed: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct WithWarning {
    data: RouteView,
    /// Why the kernel did not take it; absent when it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<String>,
}

/// The kernel's tables of the FIBs that routes name.
async fn tables(call: &Call, fibs: Vec<u32>) -> Vec<(u32, Vec<KernelRoute>)> {
    let platform = call.app.platform.clone();
    blocking::unblock(move || {
        // A table that cannot be read holds nothing that could be shown as installed.
        fibs.into_iter().map(|fib| (fib, platform.routes(fib).unwrap_or_default())).collect()
    })
    .await
}

fn view(route: &StaticRoute, tables: &[(u32, Vec<KernelRoute>)]) -> RouteView {
    let installed = route.path().is_ok_and(|(net, gateway)| {
        let destination = destination_text(&net);
        let is = |held: &KernelRoute| {
            let through: Option<IpAddr> = held.gateway.split('%').next().and_then(|text| text.parse().ok());
            held.destination == destination && through == Some(gateway)
        };
        tables.iter().any(|(fib, table)| *fib == route.fib && table.iter().any(is))
    });
    RouteView {
        id: route.id,
        destination: route.destination.clone(),
        gateway: route.gateway.clone(),
        interface: route.interface.as_ref().map(ToString::to_string),
        metric: route.metric,
        enabled: route.enabled,
        description: route.description.clone(),
        created_at: route.created_at,
        fib: route.fib,
        installed: installed && route.enabled,
    }
}

async fn list(call: Call) -> Result<Reply, ApiError> {
    let snapshot = call.app.store.snapshot();
    let mut stored: Vec<&Arc<StaticRoute>> = snapshot.config.static_routes.iter().collect();
    stored.sort_by_key(|route| route.order());
    let mut fibs: Vec<u32> = stored.iter().map(|route| route.fib).collect();
    fibs.sort_unstable();
    fibs.dedup();
    let tables = tables(&call, fibs).await;
    Ok(Reply::data(&stored.iter().map(|route| view(route, &tables)).collect::<Vec<_>>()))
}

/// What only the machine knows: its interfaces, and how many tables it has.
async fn possible(call: &Call, request: &RouteRequest) -> Result<(), ApiError> {
    let platform = call.app.platform.clone();
    let (fibs, held) = blocking::unblock(move || (platform.fibs(), platform.interfaces())).await;
    if request.fib >= fibs {
        return Err(Invalid::new("fib", format!("expected 0 to {}", fibs.saturating_sub(1))).into());
    }
    if let (Some(name), Ok(held)) = (&request.interface, held)
        && held.iter().all(|held| held.name != name.as_str())
    {
        let said = format!("expected an interface of this machine, which has no {name}");
        return Err(Invalid::new("interface", said).into());
    }
    Ok(())
}

async fn set<F>(call: &Call, what: String, change: F) -> Result<NetworkReport, ApiError>
where
    F: Fn(&mut Config) -> Result<(), ApiError> + Send + 'static,
{
    let author = call.author();
    let by = author.clone();
    let done = call.app.applier.set_network(
        &author,
        admin(call, confirmed(call)?),
        Subject { interface: String::new(), verdict: may_fail },
        move |_| Ok::<_, ApiError>(config_changed(&by, what)),
        change,
    );
    Ok(done.await?)
}

async fn answer(call: &Call, status: u16, route: StaticRoute, report: &NetworkReport) -> Reply {
    let data = view(&route, &tables(call, vec![route.fib]).await);
    let of_route = |problem: &String| problem.contains(&route.destination);
    let warning = report.problems().find(of_route).filter(|_| route.enabled && !data.installed);
    Reply::json(&WithWarning { data, warning }).with_status(status)
}

fn named(route: &StaticRoute) -> String {
    format!("route to {} through {} in FIB {}", route.destination, route.gateway, route.fib)
}

async fn create(call: Call) -> Result<Reply, ApiError> {
    let request: RouteRequest = call.json()?;
    possible(&call, &request).await?;
    let route = request.create(Timestamp::now(), &call.app.store.snapshot().config)?;
    let made = route.clone();
    let report = set(&call, format!("{} added", named(&route)), move |config| {
        // Somebody may have added it in the meantime.
        made.refuse_twice(config)?;
        config.static_routes.insert(made.clone());
        Ok(())
    });
    let report = report.await?;
    Ok(answer(&call, 201, route, &report).await)
}

fn stored(call: &Call) -> Result<Arc<StaticRoute>, ApiError> {
    let missing = || ApiError::not_found(format!("route {}", call.param("id")));
    let id = call.id("id").map_err(|_| missing())?;
    call.app.store.snapshot().config.static_routes.get(&id).cloned().ok_or_else(missing)
}

async fn replace(call: Call) -> Result<Reply, ApiError> {
    let before = stored(&call)?;
    let request: RouteRequest = call.json()?;
    possible(&call, &request).await?;
    let route = request.replace(&before, &call.app.store.snapshot().config)?;
    let made = route.clone();
    let report = set(&call, format!("{} updated", named(&route)), move |config| {
        made.refuse_twice(config)?;
        config.static_routes.insert(made.clone());
        Ok(())
    });
    let report = report.await?;
    Ok(answer(&call, 200, route, &report).await)
}

async fn delete(call: Call) -> Result<Reply, ApiError> {
    let gone = stored(&call)?;
    let id = gone.id;
    set(&call, format!("{} removed", named(&gone)), move |config| {
        config.static_routes.remove(&id);
        Ok(())
    })
    .await?;
    Ok(Reply::message(format!("Route {id} deleted")))
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct SystemRoute {
    /// `default`, `10.0.0.0/8`, `10.1.2.3`.
    destination: String,
    /// An address, or `link#2`.
    gateway: String,
    /// As netstat(1) shows them.
    flags: String,
    interface: String,
}

async fn system(call: Call) -> Result<Reply, ApiError> {
    // What is no number is table 0 (contract/network.md §3).
    let fib: u32 = call.query("fib").and_then(|text| text.parse().ok()).unwrap_or(0);
    let wanted = |inet6: bool| match call.query("family") {
        None | Some("inet") => Ok(!inet6),
        Some("inet6") => Ok(inet6),
        Some("all") => Ok(true),
        Some(_) => Err(ApiError::bad_request("family: expected inet, inet6 or all")),
    };
    let (inet, inet6) = (wanted(false)?, wanted(true)?);
    let platform = call.app.platform.clone();
    let (fibs, table) = blocking::unblock(move || (platform.fibs(), platform.routes(fib))).await;
    if fib >= fibs {
        return Err(ApiError::bad_request(format!("fib: expected 0 to {}", fibs.saturating_sub(1))));
    }
    let rows = table.map_err(ApiError::internal)?.into_iter();
    let rows = rows.filter(|route| if route.inet6 { inet6 } else { inet });
    let rows: Vec<SystemRoute> = rows
        .map(|route| SystemRoute {
            destination: route.destination,
            gateway: route.gateway,
            flags: route.flags,
            interface: route.interface,
        })
        .collect();
    Ok(Reply::data(&rows))
}
