//! Entries 3 to 7 and 11, 12, 14: passwords, factory reset, power, ping, services, updates, installing.

use std::time::Duration;

use serde_json::{Value, json};

use super::Menu;
use crate::api::console::{Installation, Restarted};
use crate::config::Invalid;
use crate::config::setup::answers;
use crate::console::client::ClientError;
use crate::console::shell;
use crate::console::terminal::Left;
use crate::platform::hardware::DiskDrive;

const PING: &str = if cfg!(target_os = "freebsd") { "/sbin/ping" } else { "ping" };

impl Menu {
    pub(super) fn passwords(&mut self) -> Result<(), Left> {
        let ways = ["Root's password", "An administrator's password and second factor"].map(str::to_owned);
        if self.terminal.choose(&ways, 0)? == 0 {
            let Some(password) =
                self.terminal.new_password("New password for root", 5, answers::root_password)?
            else {
                self.terminal.warn("Nothing was changed.");
                return Ok(());
            };
            let answer = self.client.put("/console/root-password", &json!({ "password": password.as_str() }));
            self.told(answer);
            return Ok(());
        }
        let name = self.terminal.ask_until("User", "admin", answers::admin_username)?;
        let judge = |text: &str| answers::password("password", text);
        let Some(password) = self.terminal.new_password("New password", 5, judge)? else {
            self.terminal.warn("Nothing was changed.");
            return Ok(());
        };
        let reset_totp = self.terminal.yes_no("Take the second factor (TOTP) away?", false)?;
        let request = json!({ "username": name, "password": password.as_str(), "reset_totp": reset_totp });
        let answer = self.client.put("/console/admin-password", &request);
        self.told(answer);
        Ok(())
    }

    pub(super) fn factory_reset(&mut self) -> Result<(), Left> {
        self.terminal
            .warn("Configuration, users, certificates, keys and logs are removed; then it starts anew.");
        if self.terminal.yes_no("Show the configuration first, to be copied from this terminal?", false)? {
            match self.client.get::<Value>("/config/export") {
                Ok(document) => self.terminal.line(format_args!("{document:#}")),
                Err(error) => self.terminal.error(error),
            }
        }
        let typed = self.terminal.ask("Type RESET to go on", "")?;
        if typed != "RESET" {
            self.terminal.ok("Nothing was changed.");
            return Ok(());
        }
        let answer = self.client.post("/console/factory-reset", &json!({ "confirm": "RESET" }));
        let done = answer.is_ok();
        self.told(answer);
        // The machine goes down under us.
        if done { Err(Left::Ended) } else { Ok(()) }
    }

    pub(super) fn power_off(&mut self) -> Result<(), Left> {
        self.power("Power off now?", "power_off")
    }

    pub(super) fn reboot(&mut self) -> Result<(), Left> {
        self.power("Reboot now?", "reboot")
    }

    fn power(&mut self, question: &str, action: &str) -> Result<(), Left> {
        if !self.terminal.yes_no(question, false)? {
            return Ok(());
        }
        match self.client.post("/console/power", &json!({ "action": action })) {
            // With nobody to ask, the base system's own way is the only one left.
            Err(error @ ClientError::Unreachable { .. }) if cfg!(target_os = "freebsd") => {
                self.terminal.error(error);
                let flag = if action == "reboot" { "-r" } else { "-p" };
                if let Err(error) = shell::run(&mut self.terminal, "/sbin/shutdown", &[flag, "now"]) {
                    self.terminal.error(error);
                }
            }
            answer => self.told(answer),
        }
        Ok(())
    }

    pub(super) fn ping(&mut self) -> Result<(), Left> {
        let host = self.terminal.ask_until("Host name or address", "", |text| {
            let is_name = text.split('.').all(|label| answers::hostname(label).is_ok());
            match text.parse::<std::net::IpAddr>().is_ok() || is_name {
                true => Ok(text.to_owned()),
                false => Err(Invalid::new("host", "expected a host name or an address")),
            }
        })?;
        if let Err(error) = shell::run(&mut self.terminal, PING, &["-c", "4", &host]) {
            self.terminal.error(format_args!("{PING}: {error}"));
        }
        Ok(())
    }

    pub(super) fn restart_services(&mut self) -> Result<(), Left> {
        if !self.terminal.yes_no("Load the rules again and restart every service?", true)? {
            return Ok(());
        }
        match self.client.post::<Restarted>("/console/restart-services", &json!({})) {
            Ok(restarted) => {
                for service in restarted.services {
                    let line = format!("{}: {}", service.name, service.detail);
                    if service.ok { self.terminal.ok(line) } else { self.terminal.error(line) }
                }
            }
            Err(error) => self.terminal.error(error),
        }
        Ok(())
    }

    /// FreeBSD itself is part of the firmware's image: there is one question for both.
    pub(super) fn update(&mut self) -> Result<(), Left> {
        let checked: Value = match self.client.post("/updates/aifw/check", &json!({})) {
            Ok(checked) => checked,
            Err(error) => {
                self.terminal.error(error);
                return Ok(());
            }
        };
        let text = |value: &Value, key: &str| value[key].as_str().unwrap_or("unknown").to_owned();
        let (current, latest) = (text(&checked, "current_version"), text(&checked, "latest_version"));
        self.terminal.line(format_args!("  This version: {current}\n  Latest:       {latest}"));
        if !checked["update_available"].as_bool().unwrap_or(false) {
            // What it finds for FreeBSD is said too: nothing, or that it comes with the next version.
            let answer = self.client.post("/updates/check", &json!({}));
            self.told(answer);
            return Ok(());
        }
        if !self.terminal.yes_no("Install it, with its FreeBSD?", false)? {
            self.terminal.ok("Nothing was changed.");
            return Ok(());
        }
        self.terminal.line("Downloading and verifying ...");
        match self.client.post::<Value>("/updates/aifw/install", &json!({})) {
            Ok(done) => {
                self.terminal.ok(text(&done, "message"));
                if done["restart_required"].as_bool().unwrap_or(false) {
                    self.power("It is in use after a reboot. Reboot now?", "reboot")?;
                }
            }
            Err(error) => self.terminal.error(error),
        }
        Ok(())
    }

    pub(super) fn install(&mut self) -> Result<(), Left> {
        let disks: Vec<DiskDrive> = match self.client.get("/console/disks") {
            Ok(disks) => disks,
            Err(error) => {
                self.terminal.error(error);
                return Ok(());
            }
        };
        for disk in &disks {
            let use_of = match (disk.boot, disk.in_use) {
                (true, _) => "  (running from it)",
                (_, true) => "  (in use)",
                _ => "",
            };
            let size = disk.bytes / 1_000_000_000;
            self.terminal
                .line(format_args!("  {:<8} {size:>6} GB  {} {}{use_of}", disk.name, disk.kind, disk.model));
        }
        if disks.iter().all(|disk| disk.boot || disk.in_use) {
            self.terminal.error("there is no disk to install to");
            return Ok(());
        }
        let name = self.terminal.ask_until("Install to which disk", "", |text| {
            match disks.iter().any(|disk| disk.name == text) {
                true => Ok(text.to_owned()),
                false => Err(Invalid::new("disk", format!("there is no disk {text:?}"))),
            }
        })?;
        let question = format!("All data on {name} will be destroyed. Continue?");
        if !self.terminal.yes_no(&question, false)? {
            self.terminal.ok("Nothing was written.");
            return Ok(());
        }
        let request = json!({ "disk": name, "confirm": name });
        if let Err(error) = self.client.post::<Value>("/console/install", &request) {
            self.terminal.error(error);
            return Ok(());
        }
        self.follow_installation(&name)
    }

    /// One line for each step, and for each tenth of it.
    fn follow_installation(&mut self, name: &str) -> Result<(), Left> {
        let mut shown = (String::new(), 0);
        loop {
            let now: Option<Installation> = match self.client.get("/console/install") {
                Ok(now) => now,
                Err(error) => {
                    self.terminal.error(error);
                    return Ok(());
                }
            };
            let Some(now) = now else { return Ok(()) };
            let tenth = now.progress.done * 10 / now.progress.total.max(1);
            if (&now.progress.step, tenth) != (&shown.0, shown.1) {
                self.terminal.line(format_args!("  {:>3} %  {}", tenth * 10, now.progress.step));
                shown = (now.progress.step.clone(), tenth);
            }
            if !now.running {
                match now.error {
                    Some(reason) => self.terminal.error(reason),
                    None => {
                        self.terminal
                            .ok(format_args!("{name} holds the appliance. Remove the medium it runs from."));
                        self.terminal.read("Enter reboots, Ctrl-C leads to the menu: ")?;
                        let answer = self.client.post("/console/power", &json!({ "action": "reboot" }));
                        self.told(answer);
                    }
                }
                return Ok(());
            }
            match self.terminal.wait(Duration::from_millis(300)) {
                // It goes on by itself, whatever is typed.
                Ok(()) | Err(Left::Interrupted) => {}
                Err(Left::Ended) => return Err(Left::Ended),
            }
        }
    }
}
