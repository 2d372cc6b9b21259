//! What `PUT /system/*` takes, and what is wrong with it (contract/system.md §1.1–1.4). Pure.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Console, ConsoleKind, System};
use crate::config::setup::answers;
use crate::config::{Invalid, Refusal};

/// Longest banner, and longest message of the day, in bytes.
pub const LONGEST_TEXT: usize = 8192;
/// Speeds of a serial console.
pub const BAUDS: [u32; 5] = [9600, 19_200, 38_400, 57_600, 115_200];

/// Name and time zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct General {
    pub hostname: String,
    pub domain: String,
    /// A name of the tz database.
    pub timezone: String,
}

/// What is shown before and after a login.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Banner {
    pub login_banner: String,
    pub motd: String,
}

/// Who may log in over SSH, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ssh {
    pub enabled: bool,
    pub port: u16,
    pub password_auth: bool,
    pub permit_root_login: bool,
}

/// As [`Ssh`], with the administrator's word that being locked out of SSH is fine.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct SshRequest {
    #[serde(flatten)]
    pub ssh: Ssh,
    #[serde(default)]
    pub force: bool,
}

impl General {
    pub fn of(system: &System) -> Self {
        Self {
            hostname: system.hostname.clone(),
            domain: system.domain.clone(),
            timezone: system.timezone.clone(),
        }
    }

    /// `zones`: the time zones that this machine knows.
    pub fn check(&self, zones: &[String]) -> Result<(), Invalid> {
        if self.hostname.contains('.') || answers::hostname(&self.hostname).is_err() {
            return Err(Invalid::new(
                "hostname",
                "expected 1 to 63 letters, digits and -, with a letter or digit first and last",
            ));
        }
        if !self.domain.is_empty() && answers::domain(&self.domain).is_err() {
            return Err(Invalid::new(
                "domain",
                "expected labels of 1 to 63 letters, digits and - with dots between them, 253 characters at most",
            ));
        }
        if zones.binary_search(&self.timezone).is_err() {
            return Err(Invalid::new(
                "timezone",
                format!("there is no time zone {:?}; /system/timezones lists them", self.timezone),
            ));
        }
        Ok(())
    }

    pub fn put(self, system: &mut System) {
        (system.hostname, system.domain, system.timezone) = (self.hostname, self.domain, self.timezone);
    }
}

impl Banner {
    pub fn of(system: &System) -> Self {
        Self { login_banner: system.login_banner.clone(), motd: system.motd.clone() }
    }

    /// Checked, with line ends made LF.
    pub fn checked(self) -> Result<Self, Invalid> {
        Ok(Self { login_banner: text("login_banner", &self.login_banner)?, motd: text("motd", &self.motd)? })
    }

    pub fn put(self, system: &mut System) {
        (system.login_banner, system.motd) = (self.login_banner, self.motd);
    }
}

fn text(field: &str, text: &str) -> Result<String, Invalid> {
    if text.len() > LONGEST_TEXT {
        return Err(Invalid::new(field, format!("expected at most {LONGEST_TEXT} bytes")));
    }
    if text.chars().any(|c| c.is_control() && !matches!(c, '\t' | '\n' | '\r')) {
        return Err(Invalid::new(field, "expected no control characters but tabs and line ends"));
    }
    Ok(text.replace("\r\n", "\n").replace('\r', "\n"))
}

impl Ssh {
    pub fn of(system: &System) -> Self {
        Self {
            enabled: system.ssh_enabled,
            port: system.ssh_port,
            password_auth: system.ssh_password_auth,
            permit_root_login: system.ssh_permit_root_login,
        }
    }

    pub fn put(self, system: &mut System) {
        system.ssh_enabled = self.enabled;
        system.ssh_port = self.port;
        system.ssh_password_auth = self.password_auth;
        system.ssh_permit_root_login = self.permit_root_login;
    }
}

impl SshRequest {
    /// Refuses port 0, and to take the only way in over SSH away from somebody who has not said so.
    pub fn checked(self, stored: &System) -> Result<Ssh, Refusal> {
        if self.ssh.port == 0 {
            return Err(Invalid::new("port", "expected 1 to 65535").into());
        }
        let by_password = stored.ssh_enabled && stored.ssh_password_auth && stored.ssh_permit_root_login;
        if by_password
            && self.ssh.enabled
            && !self.ssh.password_auth
            && stored.ssh_authorized_keys.is_empty()
            && !self.force
        {
            return Err(Refusal::Conflict(
                "password_auth: without passwords nobody could log in over SSH, since no public key is stored; \
                 repeat with \"force\": true if that is meant"
                    .into(),
            ));
        }
        Ok(self.ssh)
    }
}

impl Console {
    pub fn check(&self) -> Result<(), Invalid> {
        if BAUDS.contains(&self.baud) {
            return Ok(());
        }
        Err(Invalid::new("baud", "expected 9600, 19200, 38400, 57600 or 115200"))
    }
}

/// What `PUT /system/console` takes: as [`Console`], nothing left out.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct ConsoleRequest {
    pub kind: ConsoleKind,
    pub baud: u32,
}

impl From<ConsoleRequest> for Console {
    fn from(request: ConsoleRequest) -> Self {
        Self { kind: request.kind, baud: request.baud }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn general(hostname: &str, domain: &str, timezone: &str) -> Result<(), String> {
        let general = General { hostname: hostname.into(), domain: domain.into(), timezone: timezone.into() };
        general.check(&["Europe/Berlin".into(), "UTC".into()]).map_err(|bad| bad.field)
    }

    #[test]
    fn names_and_zones() {
        assert_eq!(general("fw1", "home.lan", "Europe/Berlin"), Ok(()));
        assert_eq!(general("f", "", "UTC"), Ok(()));
        let long = "h".repeat(64);
        for bad in ["-bad", "bad-", "a_b", "", "a.b", long.as_str()] {
            assert_eq!(general(bad, "", "UTC"), Err("hostname".into()), "{bad}");
        }
        for bad in [".lan", "lan.", "a..b", "a_b", &format!("{}.{long}", "a")] {
            assert_eq!(general("fw", bad, "UTC"), Err("domain".into()), "{bad}");
        }
        for bad in ["../../etc/passwd", "", "Europe", "utc"] {
            assert_eq!(general("fw", "", bad), Err("timezone".into()), "{bad}");
        }
    }

    #[test]
    fn banners_are_bounded_and_end_their_lines_with_lf() {
        let banner = |text: &str| Banner { login_banner: text.into(), motd: String::new() }.checked();
        assert_eq!(banner("a\r\nb\rc\t\n").unwrap().login_banner, "a\nb\nc\t\n");
        assert!(banner(&"x".repeat(8192)).is_ok());
        assert_eq!(banner(&"x".repeat(8193)).unwrap_err().field, "login_banner");
        assert_eq!(banner("\x1b[2J").unwrap_err().field, "login_banner");
    }

    #[test]
    fn the_only_way_in_is_not_taken_away_by_accident() {
        let ssh = |password_auth, force| SshRequest {
            ssh: Ssh { enabled: true, port: 22, password_auth, permit_root_login: true },
            force,
        };
        let mut stored = System { ssh_password_auth: true, ssh_permit_root_login: true, ..System::default() };
        assert!(matches!(ssh(false, false).checked(&stored), Err(Refusal::Conflict(_))));
        assert!(ssh(false, true).checked(&stored).is_ok());
        assert!(ssh(true, false).checked(&stored).is_ok());
        stored.ssh_authorized_keys = vec!["ssh-ed25519 AAAA".into()];
        assert!(ssh(false, false).checked(&stored).is_ok());
    }
}
