//! The menu (contract/console.md §7): a header that says what state the appliance is in, numbered entries, one line
//! typed. Ctrl-C leads back to it, never out of it; the end of the input logs out.

mod guard;
mod machine;
mod network;
mod watch;

use std::time::{Duration, Instant};

use super::client::{Client, ClientError};
use super::setup::{self, Outcome};
use super::terminal::{Left, Terminal};
use super::{shell, tell};
use crate::api::console::Shown;
use guard::Guard;

/// How long the appliance is waited for when somebody logs in: the supervisor starts beside getty(8).
const BOOT: Duration = Duration::from_secs(90);
/// Wide enough for half of 80 columns.
const COLUMN: usize = 38;

/// One run of an entry. `Left::Interrupted` leads back to the menu.
type Run = fn(&mut Menu) -> Result<(), Left>;

struct Entry {
    number: u8,
    title: &'static str,
    /// Offered only to an appliance that is not set up.
    only_new: bool,
    run: Run,
}

const fn entry(number: u8, title: &'static str, run: Run) -> Entry {
    Entry { number, title, only_new: false, run }
}

const ENTRIES: [Entry; 14] = [
    entry(1, "Assign interfaces", Menu::assign),
    entry(2, "Set interface IP", Menu::address),
    entry(3, "Reset passwords", Menu::passwords),
    entry(4, "Factory reset", Menu::factory_reset),
    entry(5, "Power off", Menu::power_off),
    entry(6, "Reboot", Menu::reboot),
    entry(7, "Ping host", Menu::ping),
    entry(8, "Shell", Menu::shell),
    entry(9, "pfTop (states)", Menu::states),
    entry(10, "Firewall log", Menu::log),
    entry(11, "Restart all services", Menu::restart_services),
    entry(12, "Update from console", Menu::update),
    entry(13, "Run setup wizard", Menu::setup),
    Entry { number: 14, title: "Install to disk", only_new: true, run: Menu::install },
];

struct Menu {
    terminal: Terminal,
    client: Client,
    /// Of a session that began before setup.
    guard: Option<Guard>,
}

/// Until somebody logs out.
pub fn run(terminal: Terminal, client: Client) {
    let mut menu = Menu { terminal, client, guard: None };
    // Logging out is how it ends, whether by 0 or by the end of the input.
    let _ = menu.until_logout();
}

impl Menu {
    fn until_logout(&mut self) -> Result<(), Left> {
        match self.wait_for_appliance()? {
            Some(seen) if !seen.configured => {
                self.guard = Some(Guard::begin(&self.client));
                self.ask_setup(false)?;
            }
            _ => {}
        }
        loop {
            let configured = self.header();
            let typed = match self.terminal.read("\nEnter a number: ") {
                Ok(typed) => typed,
                Err(Left::Interrupted) => continue,
                Err(Left::Ended) => return Ok(()),
            };
            let typed = typed.trim();
            if typed == "0" {
                return Ok(());
            }
            let number = typed.parse::<u8>().ok();
            let offered = |entry: &&Entry| Some(entry.number) == number && !(configured && entry.only_new);
            let Some(entry) = ENTRIES.iter().find(offered) else {
                self.terminal.error("expected one of the numbers above");
                continue;
            };
            self.terminal.line(format_args!("\n{}", entry.title));
            match (entry.run)(self) {
                Err(Left::Ended) => return Ok(()),
                Ok(()) | Err(Left::Interrupted) => {}
            }
        }
    }

    /// `None`: it does not come. The menu works all the same, for a shell.
    fn wait_for_appliance(&mut self) -> Result<Option<Shown>, Left> {
        let begun = Instant::now();
        let mut told = false;
        loop {
            match self.client.get("/setup") {
                Ok(seen) => return Ok(Some(seen)),
                Err(ClientError::Unreachable { .. }) if begun.elapsed() < BOOT => {}
                Err(_) => return Ok(None),
            }
            if !std::mem::replace(&mut told, true) {
                self.terminal.line("Waiting for the appliance to start; Enter leads to the menu.");
            }
            match self.terminal.wait(Duration::from_millis(500)) {
                Ok(()) => {}
                Err(Left::Interrupted) => return Ok(None),
                Err(Left::Ended) => return Err(Left::Ended),
            }
        }
    }

    /// Whether the appliance is set up, as far as is known.
    fn header(&mut self) -> bool {
        let seen: Result<Shown, ClientError> = self.client.get("/setup");
        self.terminal.write("\n");
        let configured = match &seen {
            Ok(seen) => {
                for line in header(seen) {
                    self.terminal.line(line);
                }
                seen.configured
            }
            Err(error) => {
                self.terminal.line(format_args!("AiFw {}", env!("CARGO_PKG_VERSION")));
                self.terminal.error(error);
                true
            }
        };
        self.terminal.write("\n");
        let mut titles = vec![" 0) Logout".to_owned()];
        let offered = ENTRIES.iter().filter(|entry| !(configured && entry.only_new));
        titles.extend(offered.map(|entry| format!("{:>2}) {}", entry.number, entry.title)));
        let rows = titles.len().div_ceil(2);
        for row in 0..rows {
            let right = titles.get(row + rows).map_or("", String::as_str);
            let line = format!("{:<COLUMN$}{right}", titles[row]);
            self.terminal.line(line.trim_end());
        }
        configured
    }

    /// What the appliance has answered.
    fn told(&mut self, answer: Result<Acted, ClientError>) {
        match answer {
            Ok(acted) => {
                self.terminal.ok(acted.message);
                if let Some(warning) = acted.warning {
                    self.terminal.warn(warning);
                }
            }
            Err(error) => self.terminal.error(error),
        }
    }

    /// The state that questions start from; an error is shown.
    fn seen(&mut self) -> Option<Shown> {
        match self.client.get("/setup") {
            Ok(seen) => Some(seen),
            Err(error) => {
                self.terminal.error(error);
                None
            }
        }
    }

    fn shell(&mut self) -> Result<(), Left> {
        if let Err(error) = shell::interactive(&mut self.terminal) {
            self.terminal.error(error);
        }
        Ok(())
    }

    fn setup(&mut self) -> Result<(), Left> {
        let Some(seen) = self.seen() else { return Ok(()) };
        self.ask_setup(seen.configured)
    }

    fn ask_setup(&mut self, configured: bool) -> Result<(), Left> {
        if let Some(guard) = &self.guard {
            guard.asking();
        }
        let outcome = setup::run(&mut self.terminal, &self.client, configured);
        if let Some(guard) = &self.guard {
            guard.asked(matches!(outcome, Outcome::Done));
        }
        tell(&mut self.terminal, &outcome);
        match outcome {
            Outcome::Left(Left::Ended) => Err(Left::Ended),
            _ => Ok(()),
        }
    }
}

/// The answer of most writes.
#[derive(serde::Deserialize)]
struct Acted {
    message: String,
    #[serde(default)]
    warning: Option<String>,
}

/// Product, name, addresses, state: what somebody wants to know who has just logged in.
fn header(seen: &Shown) -> Vec<String> {
    let name = match seen.domain.as_str() {
        "" => seen.hostname.clone(),
        domain => format!("{}.{domain}", seen.hostname),
    };
    let sandbox = if seen.platform == "sandbox" { "  (sandbox: pf is simulated)" } else { "" };
    let mut lines = vec![format!("AiFw {}  {name}{sandbox}", seen.version)];
    for interface in &seen.interfaces {
        if interface.addresses.is_empty() && interface.role.is_none() {
            continue;
        }
        let addresses = match interface.addresses.is_empty() {
            true => "no address".to_owned(),
            false => interface.addresses.join(" "),
        };
        let role = interface.role.as_deref().unwrap_or("");
        let down = if interface.up { "" } else { " (down)" };
        lines.push(format!("  {:<8} {role:<4} {addresses}{down}", interface.name));
    }
    if let Some(url) = &seen.url {
        lines.push(format!("  Web UI: {url}"));
    }
    if let Some(role) = &seen.ha {
        lines.push(format!("  HA: {role}"));
    }
    if !seen.configured {
        lines.push("[!] not configured".into());
    }
    if let Some(reason) = &seen.emergency {
        lines.push(format!("[ERROR] it runs without its stored configuration: {reason}"));
    }
    if seen.pending {
        lines.push("[!] pending changes: stored, not applied yet".into());
    }
    lines
}
