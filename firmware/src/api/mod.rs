//! The REST API: one file per area, thin — parse, permit, call, shape the answer. The route table is data:
//! see [`route`]. Every answer is made by a [`Reply`], every refusal by an [`ApiError`].

pub mod aliases;
pub mod app;
mod auth;
pub mod call;
pub mod config;
pub mod console;
mod dhcp;
mod dns;
mod dynamic_dns;
mod encode;
pub mod error;
mod events;
pub mod explain;
mod gate;
pub mod geoip;
pub mod geoip_database;
pub(crate) mod ids;
pub mod live;
pub mod nat;
mod network;
pub mod openapi;
pub mod peer;
mod proxy;
pub mod reply;
pub mod resource;
pub mod route;
pub mod router;
pub mod rules;
pub mod schedules;
pub mod server;
pub mod services;
mod services_common;
pub(crate) mod settings;
mod system;
#[doc(hidden)]
pub mod testing;
mod time;
mod tree;
pub(crate) mod ui;
mod updates;

pub use app::{App, Gate};
pub use call::{Call, Page};
pub use error::ApiError;
pub use peer::Peer;
pub use reply::Reply;
pub use route::{Access, Route};
pub use router::{Api, Cors, Options, app, app_with};

/// Every operation of this build: the areas, one after the other.
pub fn routes() -> Vec<Route> {
    [
        openapi::routes(),
        auth::routes(),
        live::routes(),
        config::routes(),
        rules::routes(),
        schedules::routes(),
        aliases::routes(),
        nat::routes(),
        geoip::routes(),
        geoip_database::routes(),
        explain::routes(),
        dns::routes(),
        services::routes(),
        proxy::routes(),
        dhcp::routes(),
        ids::routes(),
        time::routes(),
        settings::routes(),
        dynamic_dns::routes(),
        console::routes(),
        system::routes(),
        updates::routes(),
        network::routes(),
    ]
    .concat()
}
