//! VLANs (contract/network.md §2): a tag on a parent, and what the device that comes of it has.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::request::{self, ModeWord};
use super::{Addressing, Inet};
use crate::config::request::{Refusal, Word};
use crate::config::value::{epoch, id_or_new, plain_object};
use crate::config::{Config, Id, InterfaceName, Invalid, Timestamp};

/// Tags that a frame can have (IEEE 802.1Q; 0 and 4095 are reserved).
pub const VLAN_IDS: std::ops::RangeInclusive<u16> = 1..=4094;
const MTU: u32 = 1500;

/// A VLAN, in stored form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Vlan {
    #[serde(default = "Id::new_v4", deserialize_with = "id_or_new")]
    pub id: Id,
    pub vlan_id: u16,
    pub parent: InterfaceName,
    /// `vlan<ID>`, or `<parent>.<ID>` where another VLAN has that name. It stays as long as tag and parent do.
    pub device: InterfaceName,
    #[serde(default = "epoch")]
    pub created_at: Timestamp,
    #[serde(flatten)]
    pub addressing: Addressing,
}
plain_object!(Vlan);

/// Body of `POST /vlans` and `PUT /vlans/{id}`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct VlanRequest {
    /// 1 to 4094.
    pub vlan_id: u16,
    pub parent: String,
    /// `dhcp`, `static` or `none`, which it is when left out.
    #[schemars(with = "Option<ModeWord>")]
    pub ipv4_mode: Option<Word<ModeWord>>,
    /// Required with `static`.
    pub ipv4_address: Option<String>,
    pub gateway: Option<String>,
    /// `static`, `slaac` or `none`.
    #[schemars(with = "Option<ModeWord>")]
    pub ipv6_mode: Option<Word<ModeWord>>,
    pub ipv6_address: Option<String>,
    pub ipv6_gateway: Option<String>,
    pub mtu: Option<u32>,
    pub enabled: Option<bool>,
    pub description: Option<String>,
}

impl Vlan {
    /// What must hold whoever says it.
    pub fn check(&self) -> Result<(), Invalid> {
        if !VLAN_IDS.contains(&self.vlan_id) {
            return Err(Invalid::new("vlan_id", "expected 1 to 4094"));
        }
        self.addressing.check()
    }
}

impl VlanRequest {
    pub fn create(self, now: Timestamp, config: &Config) -> Result<Vlan, Refusal> {
        let (parent, addressing) = self.checked(config, None)?;
        let device = device(config, self.vlan_id, &parent, None)?;
        let vlan =
            Vlan { id: Id::new_v4(), vlan_id: self.vlan_id, parent, device, created_at: now, addressing };
        vlan.addressing.check_against(config, vlan.device.as_str())?;
        Ok(vlan)
    }

    /// A whole replacement; the device keeps its name unless its tag or parent changes.
    pub fn replace(self, stored: &Vlan, config: &Config) -> Result<Vlan, Refusal> {
        let (parent, addressing) = self.checked(config, Some(stored.id))?;
        let device = match (stored.vlan_id, &stored.parent) == (self.vlan_id, &parent) {
            true => stored.device.clone(),
            false => device(config, self.vlan_id, &parent, Some(stored.id))?,
        };
        let vlan = Vlan {
            id: stored.id,
            vlan_id: self.vlan_id,
            parent,
            device,
            created_at: stored.created_at,
            addressing,
        };
        addressing_is_free(&vlan, stored, config)?;
        Ok(vlan)
    }

    fn checked(&self, config: &Config, own: Option<Id>) -> Result<(InterfaceName, Addressing), Refusal> {
        if !VLAN_IDS.contains(&self.vlan_id) {
            return Err(Invalid::new("vlan_id", "expected 1 to 4094").into());
        }
        let parent = InterfaceName::new(self.parent.trim()).map_err(|bad| bad.field("parent"))?;
        if config.vlans.iter().any(|vlan| vlan.device == parent) {
            return Err(Invalid::new("parent", format!("{parent} is a VLAN itself")).into());
        }
        let twice = config
            .vlans
            .iter()
            .any(|vlan| Some(vlan.id) != own && vlan.vlan_id == self.vlan_id && vlan.parent == parent);
        if twice {
            return Err(Refusal::Conflict(format!("there is a VLAN {} on {parent} already", self.vlan_id)));
        }
        let mode = self.ipv4_mode.map_or(ModeWord::None, |word| word.0);
        let (inet, gateway) = request::inet(
            Some(mode),
            self.ipv4_address.as_deref().filter(|_| mode == ModeWord::Static),
            self.gateway.as_deref(),
            (Inet::None, None),
        )?;
        let address = self.ipv6_address.as_deref().map(str::trim).filter(|text| !text.is_empty());
        let (inet6, gateway6) = request::inet6(
            self.ipv6_mode.map(|word| word.0),
            address,
            self.ipv6_gateway.as_deref(),
            Default::default(),
            &[],
        )?;
        let addressing = Addressing {
            enabled: self.enabled.unwrap_or(true),
            mtu: Some(request::check_mtu(self.mtu.unwrap_or(MTU))?),
            inet,
            inet6,
            gateway,
            gateway6,
            description: self.description.as_deref().map_or(Ok(None), request::description)?,
        };
        addressing.check()?;
        Ok((parent, addressing))
    }
}

fn addressing_is_free(vlan: &Vlan, stored: &Vlan, config: &Config) -> Result<(), Refusal> {
    let mut others = config.clone();
    others.vlans.remove(&stored.id);
    vlan.addressing.check_against(&others, vlan.device.as_str())
}

/// The first VLAN with a tag is `vlan<ID>`, further ones are named after their parent.
fn device(
    config: &Config,
    tag: u16,
    parent: &InterfaceName,
    own: Option<Id>,
) -> Result<InterfaceName, Invalid> {
    let free =
        |name: &InterfaceName| config.vlans.iter().all(|vlan| Some(vlan.id) == own || vlan.device != *name);
    let short = InterfaceName::new(&format!("vlan{tag}")).map_err(|bad| bad.field("vlan_id"))?;
    if free(&short) {
        return Ok(short);
    }
    InterfaceName::new(&format!("{parent}.{tag}")).map_err(|_| {
        Invalid::new("parent", format!("expected a shorter name: {parent}.{tag} has more than 15 characters"))
    })
}
