//! Steps 5, 6, 7, 10 and the HA pair: interfaces and addresses.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

use super::Dialogue;
use super::answers::{Lan, Pair, Shared};
use crate::config::Invalid;
use crate::config::setup::answers;
use crate::console::terminal::Left;
use crate::platform::hardware::Nic;

/// Which cards are what.
pub(super) struct Roles {
    pub wan: String,
    pub lan: Option<String>,
}

impl Dialogue<'_> {
    pub(super) fn roles(&mut self) -> Result<Roles, Left> {
        self.heading(5, "Interfaces");
        let nics = self.seen.hardware.nics.clone();
        let wan = self.seen.wan_interface.as_ref().map(ToString::to_string);
        let lan = self.seen.lan_interface.as_ref().map(ToString::to_string);
        match nics.as_slice() {
            [] => {
                self.terminal.warn("No network card is found.");
                let name = |text: &str| answers::interface("wan_interface", text);
                let wan = self.terminal.ask_until("Name of the WAN interface", "em0", name)?;
                return Ok(Roles { wan: wan.to_string(), lan: None });
            }
            [only] => {
                self.terminal.line(format_args!("  {}", described(only)));
                self.terminal.line(format_args!("{} is the WAN: filter only, no LAN, NAT off.", only.name));
                return Ok(Roles { wan: only.name.clone(), lan: None });
            }
            _ => {}
        }
        self.terminal.line("Which one leads to the Internet (WAN)?");
        let wan = self.pick(&nics, wan.as_deref())?;
        if !self.terminal.yes_no("Configure a LAN?", true)? {
            return Ok(Roles { wan, lan: None });
        }
        let rest: Vec<Nic> = nics.into_iter().filter(|nic| nic.name != wan).collect();
        self.terminal.line("Which one leads to the LAN?");
        let lan = self.pick(&rest, lan.as_deref())?;
        Ok(Roles { wan, lan: Some(lan) })
    }

    fn pick(&mut self, nics: &[Nic], default: Option<&str>) -> Result<String, Left> {
        let lines: Vec<String> = nics.iter().map(described).collect();
        let default = nics.iter().position(|nic| Some(nic.name.as_str()) == default).unwrap_or(0);
        let chosen = self.terminal.choose(&lines, default)?;
        Ok(nics[chosen].name.clone())
    }

    /// `None` = DHCP.
    pub(super) fn wan(&mut self) -> Result<Option<(IpNet, IpAddr)>, Left> {
        self.heading(6, "WAN address");
        let present = self.seen.present.clone();
        let own = present.as_ref().and_then(|present| present.wan_ip.clone());
        let gateway = present.and_then(|present| present.wan_gateway);
        let ways = ["DHCP", "Static"].map(str::to_owned);
        if self.terminal.choose(&ways, own.is_some().into())? == 0 {
            return Ok(None);
        }
        let label = "Address with prefix, such as 203.0.113.2/24";
        let own = self.terminal.ask_until(label, own.as_deref().unwrap_or_default(), answers::wan_address)?;
        let gateway = self.terminal.ask_until("Gateway", gateway.as_deref().unwrap_or_default(), |text| {
            answers::wan_gateway(text, &own)
        })?;
        Ok(Some((own, gateway)))
    }

    pub(super) fn lan(&mut self, interface: String, wan: Option<IpNet>) -> Result<Lan, Left> {
        self.heading(7, "LAN address");
        let present = self.seen.present.as_ref();
        let held = present.and_then(|present| present.lan_ip.clone());
        let dhcp = present.is_none_or(|present| present.dhcp_enabled);
        let default = held.unwrap_or_else(|| answers::DEFAULT_LAN.to_owned());
        let judge = |text: &str| answers::lan_address(text, wan);
        let address: Ipv4Net = self.terminal.ask_until("Address with prefix", &default, judge)?;
        let dhcp = self.terminal.yes_no("Enable DHCP server?", dhcp)?;
        Ok(Lan { interface, address, dhcp })
    }

    pub(super) fn dns(&mut self) -> Result<Vec<IpAddr>, Left> {
        self.heading(10, "DNS servers");
        let held = self.seen.present.as_ref().map(|present| present.dns_servers.join(","));
        let default = held.filter(|held| !held.is_empty()).unwrap_or_else(|| "1.1.1.1,8.8.8.8".into());
        self.terminal.ask_until("Servers, separated by commas", &default, answers::dns_servers)
    }

    pub(super) fn pair(&mut self, roles: &Roles) -> Result<Option<Pair>, Left> {
        self.terminal.write("\n");
        if !self.terminal.yes_no("Is this one part of an HA pair?", false)? {
            return Ok(None);
        }
        let Some(lan) = roles.lan.clone() else {
            self.terminal.warn("A pair needs a LAN; this one stands alone.");
            return Ok(None);
        };
        let role = self.terminal.choose(&["Primary", "Secondary"].map(str::to_owned), 0)?;
        let known: Vec<String> = self.seen.hardware.nics.iter().map(|nic| nic.name.clone()).collect();
        let third = known.iter().find(|name| **name != roles.wan && **name != lan).unwrap_or(&lan).clone();
        let card = |text: &str| match known.iter().any(|name| name == text) {
            true => answers::interface("interface", text).map(|name| name.to_string()),
            false => Err(Invalid::new("interface", format!("expected one of {}", known.join(", ")))),
        };
        let sync = self.terminal.ask_until("Interface to the other node (pfsync)", &third, card)?;
        let peer = self.terminal.ask_until("Address of the other node", "", answers::peer)?;
        let password = loop {
            let password = self.terminal.new_password("CARP password", 0, answers::carp_password)?;
            if let Some(password) = password {
                break password;
            }
        };
        let mut shared: Vec<Shared> = Vec::new();
        for (name, nic) in [("WAN", &roles.wan), ("LAN", &lan)] {
            if !self.terminal.yes_no(&format!("Add a CARP address on the {name}?"), true)? {
                continue;
            }
            let interface = self.terminal.ask_until("Interface", nic, card)?;
            let address = self.terminal.ask_until("Shared address", "", |text| {
                let address = answers::virtual_ip(text)?;
                match shared.iter().any(|held| held.address == address) {
                    true => Err(Invalid::new("virtual_ip", "expected another address than the one above")),
                    false => Ok(address),
                }
            })?;
            let prefix = self.terminal.ask_until("Prefix", "24", |text| answers::prefix(text, address))?;
            let free = (1..=255).find(|vhid| shared.iter().all(|held| held.vhid != *vhid)).unwrap_or(1u8);
            let vhid = self.terminal.ask_until("VHID", &free.to_string(), |text| {
                let vhid = answers::vhid(text)?;
                match shared.iter().any(|held| held.vhid == vhid && held.interface == interface) {
                    true => Err(Invalid::new("vhid", "expected another number than the one above")),
                    false => Ok(vhid),
                }
            })?;
            shared.push(Shared { interface, address, prefix, vhid });
        }
        Ok(Some(Pair { primary: role == 0, sync, peer, password, shared }))
    }
}

/// A card as the choice shows it.
pub(in crate::console) fn described(nic: &Nic) -> String {
    let link = match nic.link {
        Some(true) => "link up",
        Some(false) => "no link",
        None => "link unknown",
    };
    format!("{:<8} {:<17}  {:<12} {}", nic.name, nic.mac.as_deref().unwrap_or("-"), link, nic.driver)
}
