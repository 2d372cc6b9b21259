//! Entries 1 and 2: which interface is what, and its address.

use serde_json::json;

use super::Menu;
use crate::config::setup::answers;
use crate::config::{InterfaceName, Invalid};
use crate::console::setup::described;
use crate::console::terminal::Left;
use crate::platform::hardware::Nic;

impl Menu {
    pub(super) fn assign(&mut self) -> Result<(), Left> {
        let Some(seen) = self.seen() else { return Ok(()) };
        if !seen.configured {
            self.terminal.error("the appliance is not set up yet: 13");
            return Ok(());
        }
        let nics = seen.hardware.nics;
        for nic in &nics {
            self.terminal.line(format_args!("  {}", described(nic)));
        }
        let known = |nics: &[Nic], text: &str| match nics.iter().any(|nic| nic.name == text) {
            true => answers::interface("interface", text),
            false => Err(Invalid::new("interface", format!("there is no interface {text:?}"))),
        };
        let wan = seen.wan_interface.map(|name| name.to_string()).unwrap_or_default();
        let wan = self.terminal.ask_until("WAN", &wan, |text| known(&nics, text))?;
        let lan = seen.lan_interface.filter(|lan| *lan != wan).map(|name| name.to_string());
        let lan = self.terminal.ask_until("LAN, or none", lan.as_deref().unwrap_or("none"), |text| {
            if text == "none" {
                return Ok(None);
            }
            let lan: InterfaceName = known(&nics, text)?;
            match lan == wan {
                true => Err(Invalid::new("lan", "expected another interface than the WAN's")),
                false => Ok(Some(lan)),
            }
        })?;
        if !self.terminal.yes_no("Rules, NAT and DHCP follow at once. Continue?", true)? {
            return Ok(());
        }
        let answer = self.client.put("/console/interfaces", &json!({ "wan": wan, "lan": lan }));
        self.told(answer);
        Ok(())
    }

    pub(super) fn address(&mut self) -> Result<(), Left> {
        let Some(seen) = self.seen() else { return Ok(()) };
        let (Some(wan), Some(present)) = (seen.wan_interface, seen.present) else {
            self.terminal.error("the appliance is not set up yet: 13");
            return Ok(());
        };
        let mut names = vec![(wan, "WAN")];
        names.extend(seen.lan_interface.map(|lan| (lan, "LAN")));
        let lines: Vec<String> = names.iter().map(|(name, role)| format!("{role}  {name}")).collect();
        let chosen = self.terminal.choose(&lines, lines.len() - 1)?;
        let (name, role) = &names[chosen];
        let mut request = json!({ "interface": name });
        if *role == "WAN" {
            let ways = ["DHCP", "Static"].map(str::to_owned);
            if self.terminal.choose(&ways, present.wan_ip.is_some().into())? == 1 {
                let held = present.wan_ip.as_deref().unwrap_or_default();
                let own = self.terminal.ask_until("Address with prefix", held, answers::wan_address)?;
                let held = present.wan_gateway.as_deref().unwrap_or_default();
                let gateway =
                    self.terminal.ask_until("Gateway", held, |text| answers::wan_gateway(text, &own))?;
                request["address"] = own.to_string().into();
                request["gateway"] = gateway.to_string().into();
            }
        } else {
            let wan = present.wan_ip.as_deref().and_then(|own| own.parse().ok());
            let held = present.lan_ip.as_deref().unwrap_or(answers::DEFAULT_LAN);
            let judge = |text: &str| answers::lan_address(text, wan);
            let own = self.terminal.ask_until("Address with prefix", held, judge)?;
            request["address"] = own.to_string().into();
            let dhcp = self.terminal.yes_no("DHCP server?", present.dhcp_enabled)?;
            request["dhcp"] = dhcp.into();
            if dhcp && !self.terminal.yes_no("Lease the usual range?", true)? {
                for (key, label) in [("dhcp_from", "From"), ("dhcp_to", "To")] {
                    let ip = self.terminal.ask_until(label, "", |text| {
                        let ip: Option<std::net::Ipv4Addr> = text.parse().ok();
                        ip.filter(|ip| own.contains(ip)).ok_or_else(|| {
                            Invalid::new(key, format!("expected an address in {}", own.trunc()))
                        })
                    })?;
                    request[key] = ip.to_string().into();
                }
            }
        }
        if !self.terminal.yes_no("It is in force at once. Continue?", true)? {
            return Ok(());
        }
        let answer = self.client.put("/console/address", &request);
        self.told(answer);
        Ok(())
    }
}
