//! VLANs. A write is stored; the kernel has it with the next reload.

use schemars::JsonSchema;
use serde::Serialize;

use crate::api::resource::{Data, InEffect, Lists, Resource, Written, collection, config_changed};
use crate::api::{ApiError, App, Route};
use crate::compile::Environment;
use crate::config::network::{Inet, Inet6, Vlan, VlanRequest};
use crate::config::{Collection, Config, Id, Invalid, Permission, Refusal, Timestamp};
use crate::store::{Author, Draft, NewAudit};

pub fn routes() -> Vec<Route> {
    collection::<Vlans>(&Lists::new())
}

/// A VLAN as answers show it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct VlanView<'a> {
    id: Id,
    vlan_id: u16,
    parent: &'a str,
    /// The interface that it is.
    device: &'a str,
    /// `dhcp`, `static` or `none`.
    ipv4_mode: &'static str,
    ipv4_address: Option<String>,
    gateway: Option<String>,
    /// `slaac`, `static` or `none`.
    ipv6_mode: &'static str,
    ipv6_address: Option<String>,
    ipv6_gateway: Option<String>,
    mtu: u16,
    enabled: bool,
    description: Option<&'a str>,
    created_at: Timestamp,
}

/// VLANs.
pub struct Vlans;

impl Resource for Vlans {
    type Object = Vlan;
    type Request = VlanRequest;
    type View<'a> = VlanView<'a>;
    type Schema = InEffect<VlanView<'static>>;
    type Answer = Data<Self::Schema>;
    type Context = ();
    type Order = (u16, Timestamp, Id);

    const PATHS: (&'static str, &'static str) = ("/vlans", "/vlans/{id}");
    const NOUN: &'static str = "VLAN";
    const SUMMARIES: [&'static str; 5] = [
        "VLANs, by tag",
        "Add a VLAN; it is there after the next reload",
        "A VLAN",
        "Replace a VLAN",
        "Delete a VLAN; its device goes with the next reload",
    ];
    const READ: Permission = Permission::InterfacesRead;
    const WRITE: Permission = Permission::InterfacesWrite;
    const HAS_GET: bool = false;
    const BAD_ID: u16 = 404;

    fn collection(config: &Config) -> &Collection<Vlan> {
        &config.vlans
    }
    fn collection_mut(config: &mut Config) -> &mut Collection<Vlan> {
        &mut config.vlans
    }
    fn create(request: VlanRequest, now: Timestamp, config: &Config) -> Result<Vlan, Refusal> {
        request.create(now, config)
    }
    fn replace(request: VlanRequest, stored: &Vlan, _: Timestamp, config: &Config) -> Result<Vlan, Refusal> {
        request.replace(stored, config)
    }
    fn order(vlan: &Vlan) -> Self::Order {
        (vlan.vlan_id, vlan.created_at, vlan.id)
    }
    async fn context(_: &App) {}
    async fn rehearse(app: &App, _: &Environment, stored: &Config, vlan: Vlan) -> Result<(), ApiError> {
        let platform = app.platform.clone();
        // Where the machine's own list cannot be had, the reload will tell.
        let Ok(held) = blocking::unblock(move || platform.interfaces()).await else { return Ok(()) };
        let parent = held.iter().find(|held| held.name == vlan.parent.as_str());
        let Some(parent) = parent else {
            let said = format!("expected an interface of this machine, which has no {}", vlan.parent);
            return Err(Invalid::new("parent", said).into());
        };
        if parent.vlan.is_some() {
            return Err(Invalid::new("parent", format!("{} is a VLAN itself", vlan.parent)).into());
        }
        if let Some(mtu) = vlan.addressing.mtu.filter(|mtu| parent.mtu > 0 && u32::from(*mtu) > parent.mtu) {
            let said = format!("expected at most {}, which {} has, not {mtu}", parent.mtu, vlan.parent);
            return Err(Invalid::new("mtu", said).into());
        }
        let known = |config: &Config| config.vlans.iter().any(|known| known.device == vlan.device);
        let ours = known(stored) || known(&app.store.snapshot().applied);
        if !ours && held.iter().any(|held| held.name == vlan.device.as_str()) {
            let said = format!("this machine has a {} that is not AiFw's", vlan.device);
            return Err(Invalid::new("vlan_id", said).into());
        }
        Ok(())
    }
    fn view<'a>(vlan: &'a Vlan, _: &'a ()) -> VlanView<'a> {
        let own = &vlan.addressing;
        VlanView {
            id: vlan.id,
            vlan_id: vlan.vlan_id,
            parent: vlan.parent.as_str(),
            device: vlan.device.as_str(),
            ipv4_mode: match own.inet {
                Inet::None => "none",
                Inet::Dhcp => "dhcp",
                Inet::Static(_) => "static",
            },
            ipv4_address: if let Inet::Static(own) = own.inet { Some(own.to_string()) } else { None },
            gateway: own.gateway.map(|gateway| gateway.to_string()),
            ipv6_mode: match own.inet6 {
                Inet6::None => "none",
                Inet6::Slaac => "slaac",
                Inet6::Static(_) => "static",
            },
            ipv6_address: if let Inet6::Static(own) = own.inet6 { Some(own.to_string()) } else { None },
            ipv6_gateway: own.gateway6.map(|gateway| gateway.to_string()),
            mtu: own.mtu.unwrap_or(1500),
            enabled: own.enabled,
            description: own.description.as_deref(),
            created_at: vlan.created_at,
        }
    }
    fn audit(author: &Author, written: &Written<Vlan>, _: &Draft, _: &Environment) -> NewAudit {
        let vlan = written.object();
        config_changed(author, format!("VLAN {} on {} {}", vlan.vlan_id, vlan.parent, written.word()))
    }
    fn deleted(id: &Id) -> String {
        format!("VLAN {id} deleted")
    }
}
