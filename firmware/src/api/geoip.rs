//! `/geoip`: rules by country, and where an address is (contract/firewall.md §7).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;

use super::resource::{Data, InEffect, Lists, Resource, Written, collection, config_changed};
use super::rules::{environment, rehearse};
use super::{Access, ApiError, App, Call, Reply, Route};
use crate::compile::{self, Environment};
use crate::config::geoip::{Country, GeoIpRequest};
use crate::config::{
    Collection, Config, GeoIpAction, GeoIpRule, Id, Label, Permission, Refusal, Status, Timestamp,
};
use crate::platform::geoip::{Database, Located};
use crate::store::{Author, Draft, NewAudit};

pub fn routes() -> Vec<Route> {
    let mut routes = collection::<GeoIpRules>(&Lists::new());
    routes.push(
        Route::new(
            "GET",
            "/geoip/lookup/{ip}",
            Access::Needs(Permission::GeoipRead),
            "Country and autonomous system of an address",
            lookup,
        )
        .answers::<Located>(200),
    );
    routes
}

/// A geo-IP rule as answers show it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct GeoIpView<'a> {
    id: Id,
    country: &'a Country,
    country_code: &'a Country,
    country_name: Option<&'static str>,
    action: GeoIpAction,
    label: Option<&'a Label>,
    status: Status,
    /// Networks of both families known for the country; 0 without a database.
    cidr_count: usize,
    created_at: Timestamp,
    updated_at: Timestamp,
}

/// How many networks each country with a rule has, by a database.
#[derive(Clone)]
pub struct Counts {
    database: Arc<Database>,
    of: Arc<HashMap<Country, usize>>,
}

impl PartialEq for Counts {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.database, &other.database) && self.of == other.of
    }
}

/// Geo-IP rules.
pub struct GeoIpRules;

impl Resource for GeoIpRules {
    type Object = GeoIpRule;
    type Request = GeoIpRequest;
    type View<'a> = GeoIpView<'a>;
    type Schema = InEffect<GeoIpView<'static>>;
    type Answer = Data<Self::Schema>;
    type Context = Counts;
    type Order = (Country, Id);

    const PATHS: (&'static str, &'static str) = ("/geoip", "/geoip/{id}");
    const NOUN: &'static str = "geo-IP rule";
    const SUMMARIES: [&'static str; 5] = [
        "Geo-IP rules, by country",
        "Add a rule for a country",
        "A geo-IP rule",
        "Replace a geo-IP rule",
        "Delete a geo-IP rule",
    ];
    const READ: Permission = Permission::GeoipRead;
    const WRITE: Permission = Permission::GeoipWrite;
    const HAS_GET: bool = false;

    fn collection(config: &Config) -> &Collection<GeoIpRule> {
        &config.geoip
    }
    fn collection_mut(config: &mut Config) -> &mut Collection<GeoIpRule> {
        &mut config.geoip
    }
    fn create(request: GeoIpRequest, now: Timestamp, config: &Config) -> Result<GeoIpRule, Refusal> {
        request.create(now, config)
    }
    fn replace(
        request: GeoIpRequest,
        stored: &GeoIpRule,
        now: Timestamp,
        config: &Config,
    ) -> Result<GeoIpRule, Refusal> {
        request.replace(stored, now, config)
    }
    fn order(rule: &GeoIpRule) -> Self::Order {
        (rule.country.clone(), rule.id)
    }
    async fn context(app: &App) -> Counts {
        let geoip = app.applier.machine().geoip.clone();
        let rules = app.store.snapshot().config.geoip.clone();
        // Reading a database takes a while.
        blocking::unblock(move || {
            let database = geoip.database();
            let count = |country: &Country| (country.clone(), geoip.networks(country.as_str()).len());
            let of = rules.iter().map(|rule| count(&rule.country)).collect();
            Counts { database, of: Arc::new(of) }
        })
        .await
    }
    fn view<'a>(rule: &'a GeoIpRule, counts: &'a Counts) -> GeoIpView<'a> {
        GeoIpView {
            id: rule.id,
            country: &rule.country,
            country_code: &rule.country,
            country_name: rule.country.english_name(),
            action: rule.action,
            label: rule.label.as_ref(),
            status: rule.status,
            cidr_count: counts.of.get(&rule.country).copied().unwrap_or(0),
            created_at: rule.created_at,
            updated_at: rule.updated_at,
        }
    }
    async fn environment(app: &App) -> Environment {
        environment(app).await
    }
    async fn rehearse(
        app: &App,
        environment: &Environment,
        config: &Config,
        rule: GeoIpRule,
    ) -> Result<(), ApiError> {
        if rule.status == Status::Disabled {
            return Ok(());
        }
        let lines = compile::geoip_lines(config, environment, &rule);
        rehearse(app, "aifw-geoip", lines.join("\n")).await
    }
    fn audit(author: &Author, written: &Written<GeoIpRule>, _: &Draft, _: &Environment) -> NewAudit {
        let rule = written.object();
        NewAudit {
            rule_id: Some(rule.id),
            ..config_changed(author, format!("geo-IP rule for {} {}", rule.country, written.word()))
        }
    }
    fn deleted(id: &Id) -> String {
        format!("Geo-IP rule {id} deleted")
    }
}

async fn lookup(call: Call) -> Result<Reply, ApiError> {
    let ip: IpAddr = call
        .param("ip")
        .parse()
        .map_err(|_| ApiError::bad_request("ip: expected an IPv4 or IPv6 address"))?;
    let geoip = call.app.applier.machine().geoip.clone();
    let located = blocking::unblock(move || geoip.database().locate(ip)).await;
    Ok(Reply::json(&located))
}
