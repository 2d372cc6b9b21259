//! Steps 3, 4, 9 and 11: name, tuning, API, policy.

use std::net::IpAddr;

use super::Dialogue;
use super::answers::Tuning;
use crate::config::setup::{TuningItem, answers};
use crate::console::terminal::Left;

/// What is offered to somebody who guesses a time zone.
const SUGGESTIONS: usize = 6;
pub(super) const POLICIES: [(&str, &str); 3] = [
    ("standard", "out is free, in is blocked but for the LAN"),
    ("strict", "everything is blocked but managing the appliance from the LAN"),
    ("permissive", "everything passes"),
];

impl Dialogue<'_> {
    pub(super) fn names(&mut self) -> Result<(String, String), Left> {
        self.heading(3, "Host name");
        let present = match (self.seen.configured, self.seen.domain.as_str()) {
            (false, _) => "aifw".to_owned(),
            (true, "") => self.seen.hostname.clone(),
            (true, domain) => format!("{}.{domain}", self.seen.hostname),
        };
        let mut default = present;
        let hostname = loop {
            let text = self.terminal.ask("Host name, with or without a domain", &default)?;
            match answers::hostname(&text) {
                Ok(_) => break text,
                Err(bad) => {
                    self.terminal.error(bad.reason);
                    default = "aifw".into();
                }
            }
        };
        let zone =
            self.seen.present.as_ref().map_or_else(|| "UTC".to_owned(), |present| present.timezone.clone());
        let timezone = loop {
            let text = self.terminal.ask("Time zone, such as Europe/Vienna", &zone)?;
            match answers::timezone(&text) {
                Ok(zone) => break zone,
                Err(bad) => {
                    self.terminal.error(bad.reason);
                    let like = answers::timezones_like(&text);
                    if !like.is_empty() {
                        let some = like.iter().take(SUGGESTIONS).cloned().collect::<Vec<_>>().join(" ");
                        self.terminal.line(format_args!("  There are: {some}"));
                    }
                }
            }
        };
        Ok((hostname, timezone))
    }

    pub(super) fn tuning(&mut self) -> Result<Tuning, Left> {
        self.heading(4, "Detection and tuning");
        for line in self.hardware_lines() {
            self.terminal.line(line);
        }
        let mut items = self.seen.tuning.clone();
        self.tuning_list(&items);
        let ways = ["Accept", "Customise", "Skip"].map(str::to_owned);
        match self.terminal.choose(&ways, 0)? {
            0 => return Ok(Tuning::Default),
            2 => return Ok(Tuning::None),
            _ => {}
        }
        loop {
            let text = self.terminal.ask("Numbers to turn on or off, or done", "done")?;
            if text.eq_ignore_ascii_case("done") {
                break;
            }
            let words = text.split([' ', ',']).filter(|word| !word.is_empty());
            let numbers: Option<Vec<usize>> = words
                .map(|word| word.parse().ok().filter(|number| (1..=items.len()).contains(number)))
                .collect();
            match numbers {
                None => {
                    self.terminal.error(format_args!("expected numbers from 1 to {}, or done", items.len()))
                }
                Some(numbers) => {
                    for number in numbers {
                        items[number - 1].on = !items[number - 1].on;
                    }
                    self.tuning_list(&items);
                }
            }
        }
        Ok(Tuning::These(items.into_iter().filter(|item| item.on).map(|item| item.key).collect()))
    }

    fn tuning_list(&mut self, items: &[TuningItem]) {
        for (place, item) in items.iter().enumerate() {
            let mark = if item.on { "x" } else { " " };
            let set = format!("{}={}", item.key, item.value);
            self.terminal.line(format_args!("{:>2} [{mark}] {set:<34} {}", place + 1, item.reason));
        }
    }

    fn hardware_lines(&self) -> Vec<String> {
        let machine = &self.seen.hardware;
        let threads = machine.cores * machine.threads_per_core.max(1);
        let list = |items: Vec<String>| if items.is_empty() { "none".to_owned() } else { items.join(", ") };
        let mut lines = vec![
            format!("  Processor  {}", machine.cpu),
            format!("             {}, {} cores, {threads} threads", machine.architecture, machine.cores),
            format!("  Memory     {} MB", machine.ram_mb),
            format!("  Crypto     {}", list(machine.crypto.clone())),
            format!("  Network    {}", list(machine.nics.iter().map(|nic| nic.name.clone()).collect())),
        ];
        for (place, disk) in machine.disks.iter().enumerate() {
            let label = if place == 0 { "Disks" } else { "" };
            let size = disk.bytes / 1_000_000_000;
            lines.push(format!("  {label:<10} {} {size} GB {} {}", disk.name, disk.kind, disk.model));
        }
        lines
    }

    pub(super) fn api(&mut self) -> Result<(IpAddr, u16, bool), Left> {
        self.heading(9, "API and web UI");
        let present = self.seen.present.as_ref();
        let listen = present.map_or_else(|| "0.0.0.0".to_owned(), |present| present.api_listen.clone());
        let port = present.map_or(8080, |present| present.api_port).to_string();
        let ui = present.is_none_or(|present| present.ui_enabled);
        let listen = self.terminal.ask_until("Listen on address", &listen, answers::listen)?;
        let port = self.terminal.ask_until("Port", &port, answers::port)?;
        let ui = self.terminal.yes_no("Enable web UI?", ui)?;
        Ok((listen, port, ui))
    }

    pub(super) fn policy(&mut self) -> Result<&'static str, Left> {
        self.heading(11, "Firewall policy");
        let lines = POLICIES.map(|(name, meaning)| format!("{name:<11} {meaning}"));
        let present = self.seen.present.as_ref().map(|present| present.default_policy.as_str());
        let default = POLICIES.iter().position(|(name, _)| Some(*name) == present).unwrap_or(0);
        Ok(POLICIES[self.terminal.choose(&lines, default)?].0)
    }
}
