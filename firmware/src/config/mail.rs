//! Mail notifications (contract/system.md §4): through which server, to whom, of which events. A stored password
//! belongs to the server and the user that it was stored for: with another server it is not kept.

use lettre::Address;
use lettre::message::Mailbox;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::request::{Maybe, Port};
use super::{Invalid, Secret};

/// How the connection to the mail server is protected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Security {
    /// Not at all: RFC 5321.
    None,
    /// STARTTLS, which must succeed: RFC 3207.
    #[default]
    Starttls,
    /// TLS from the first byte: RFC 8314.
    #[serde(alias = "tls", alias = "implicittls")]
    Implicit,
}

/// What a mail can be about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MailEvent {
    BackupSaved,
    S3UploadOk,
    S3UploadFailed,
    RestoreOk,
    RestoreFailed,
    Pruned,
    CertRenewedOk,
    CertRenewFailed,
    CertExpiringSoon,
}

impl MailEvent {
    pub const fn name(self) -> &'static str {
        match self {
            Self::BackupSaved => "backup_saved",
            Self::S3UploadOk => "s3_upload_ok",
            Self::S3UploadFailed => "s3_upload_failed",
            Self::RestoreOk => "restore_ok",
            Self::RestoreFailed => "restore_failed",
            Self::Pruned => "pruned",
            Self::CertRenewedOk => "cert_renewed_ok",
            Self::CertRenewFailed => "cert_renew_failed",
            Self::CertExpiringSoon => "cert_expiring_soon",
        }
    }
}

const DEFAULT_FROM: &str = "aifw@localhost";
const MOST_RECIPIENTS: usize = 100;

/// The mail server and what is sent through it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Mail {
    pub enabled: bool,
    pub host: String,
    pub port: u16,
    pub tls: Security,
    pub username: Option<String>,
    pub password: Secret,
    pub from_address: String,
    /// Addresses with commas between them.
    pub recipients: String,
    pub enabled_events: Vec<MailEvent>,
}

impl Default for Mail {
    fn default() -> Self {
        Self {
            enabled: false,
            host: String::new(),
            port: 587,
            tls: Security::Starttls,
            username: None,
            password: Secret::default(),
            from_address: DEFAULT_FROM.into(),
            recipients: String::new(),
            enabled_events: vec![
                MailEvent::S3UploadFailed,
                MailEvent::RestoreFailed,
                MailEvent::CertRenewFailed,
                MailEvent::CertExpiringSoon,
            ],
        }
    }
}

/// Body of PUT, and of a test with a draft.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
pub struct MailRequest {
    enabled: bool,
    #[serde(default)]
    host: String,
    #[serde(default)]
    port: Option<Port>,
    #[serde(default)]
    tls: Option<Security>,
    #[serde(default)]
    username: Option<String>,
    /// Absent or null keeps the stored one, `""` removes it.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    password: Maybe<Secret>,
    #[serde(default)]
    from_address: Option<String>,
    /// Addresses with commas, semicolons or blanks between them.
    #[serde(default)]
    recipients: String,
    #[serde(default)]
    enabled_events: Vec<MailEvent>,
}

/// A draft of a test need not say whether mail is on.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MailDraft {
    pub host: String,
    port: Option<Port>,
    tls: Option<Security>,
    username: Option<String>,
    #[schemars(with = "Option<String>")]
    password: Maybe<Secret>,
    from_address: Option<String>,
    recipients: String,
}

impl MailDraft {
    /// The settings of the test.
    pub fn mail(self, stored: &Mail) -> Result<Mail, Invalid> {
        let request = MailRequest {
            enabled: true,
            host: self.host,
            port: self.port,
            tls: self.tls,
            username: self.username,
            password: self.password,
            from_address: self.from_address,
            recipients: self.recipients,
            enabled_events: Vec::new(),
        };
        request.mail(stored)
    }
}

fn addresses(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| c == ',' || c == ';' || c.is_whitespace()).filter(|part| !part.is_empty())
}

/// A host name or an address, as a server's place is given.
pub(super) fn check_host(field: &str, host: &str) -> Result<(), Invalid> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    if bare.parse::<std::net::IpAddr>().is_ok() || super::dhcp::names::is_domain(host) {
        return Ok(());
    }
    Err(Invalid::new(field, "expected a host name or an IP address"))
}

impl MailRequest {
    pub fn mail(self, stored: &Mail) -> Result<Mail, Invalid> {
        let host = self.host.trim().to_owned();
        if !host.is_empty() {
            check_host("host", &host)?;
        }
        let list: Vec<&str> = addresses(&self.recipients).collect();
        if let Some(bad) = list.iter().find(|address| address.parse::<Address>().is_err()) {
            return Err(Invalid::new("recipients", format!("{bad:?} is no mail address")));
        }
        if list.len() > MOST_RECIPIENTS {
            return Err(Invalid::new("recipients", format!("expected at most {MOST_RECIPIENTS} addresses")));
        }
        if self.enabled && host.is_empty() {
            return Err(Invalid::new(
                "host",
                "expected the mail server's name or address, to switch mail on",
            ));
        }
        if self.enabled && list.is_empty() {
            return Err(Invalid::new("recipients", "expected at least one address, to switch mail on"));
        }
        let from = self.from_address.unwrap_or_default();
        let from = if from.trim().is_empty() { DEFAULT_FROM } else { from.trim() };
        if from.parse::<Mailbox>().is_err() {
            return Err(Invalid::new("from_address", "expected a mail address"));
        }
        let username = self.username.filter(|name| !name.is_empty());
        if username.as_ref().is_some_and(|name| name.chars().any(char::is_control)) {
            return Err(Invalid::new("username", "expected text without control characters"));
        }
        let mut events = self.enabled_events;
        events.sort();
        events.dedup();
        let mut mail = Mail {
            enabled: self.enabled,
            host,
            port: self.port.map_or(587, |port| port.0),
            tls: self.tls.unwrap_or_default(),
            username,
            password: Secret::default(),
            from_address: from.to_owned(),
            recipients: list.join(", "),
            enabled_events: events,
        };
        mail.password = match self.password {
            Maybe::Value(password) => password,
            Maybe::Absent | Maybe::Null => mail.kept_password(stored)?,
        };
        Ok(mail)
    }
}

impl Mail {
    /// The stored password, where it is for this server, this user and no weaker protection.
    fn kept_password(&self, stored: &Self) -> Result<Secret, Invalid> {
        let none = || Ok(Secret::default());
        if stored.password.is_empty() || self.host.is_empty() {
            return none();
        }
        let weaker = self.tls == Security::None && stored.tls != Security::None;
        if self.host.eq_ignore_ascii_case(&stored.host) && self.username == stored.username && !weaker {
            return Ok(stored.password.clone());
        }
        Err(Invalid::new(
            "password",
            format!(
                "expected, or \"\" for none: the stored one is for {} at {}",
                stored.username.as_deref().unwrap_or("nobody"),
                stored.host
            ),
        ))
    }

    pub fn recipients(&self) -> Vec<Address> {
        addresses(&self.recipients).filter_map(|address| address.parse().ok()).collect()
    }

    /// Whether an event is to be mailed.
    pub fn wants(&self, event: MailEvent) -> bool {
        self.enabled && self.enabled_events.contains(&event)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::request;

    fn put(body: &str, stored: &Mail) -> Result<Mail, Invalid> {
        request::parse::<MailRequest>(body.as_bytes())?.mail(stored)
    }

    #[test]
    fn recipients_are_addresses_and_the_bad_one_is_named() {
        let mail = put(
            r#"{"enabled":true,"host":"mx.example.org","recipients":"a@example.org;b@example.org c@example.org"}"#,
            &Mail::default(),
        )
        .unwrap();
        assert_eq!(mail.recipients, "a@example.org, b@example.org, c@example.org");
        assert_eq!(
            (mail.port, mail.tls, mail.from_address.as_str()),
            (587, Security::Starttls, DEFAULT_FROM)
        );
        let bad =
            put(r#"{"enabled":true,"host":"mx","recipients":"a@example.org, nobody"}"#, &Mail::default());
        assert_eq!(bad.unwrap_err().to_string(), "recipients: \"nobody\" is no mail address");
        for (body, field) in [
            (r#"{"enabled":true,"recipients":"a@b.c"}"#, "host"),
            (r#"{"enabled":true,"host":"mx"}"#, "recipients"),
            (r#"{"host":"mx"}"#, "body"),
            (r#"{"enabled":false,"tls":"ssl3"}"#, "tls"),
            (r#"{"enabled":false,"port":0}"#, "port"),
            (r#"{"enabled":false,"host":"a b"}"#, "host"),
            (r#"{"enabled":false,"from_address":"x y"}"#, "from_address"),
            (r#"{"enabled":false,"enabled_events":["meteor"]}"#, "enabled_events[0]"),
        ] {
            assert_eq!(put(body, &Mail::default()).unwrap_err().field, field, "{body}");
        }
    }

    #[test]
    fn a_password_stays_with_its_server_and_user() {
        let stored = Mail {
            host: "mx.example.org".into(),
            username: Some("u".into()),
            password: Secret::new("marked"),
            ..Mail::default()
        };
        let kept =
            put(r#"{"enabled":false,"host":"MX.example.org","username":"u","password":null}"#, &stored);
        assert_eq!(kept.unwrap().password.expose(), "marked");
        let gone = put(r#"{"enabled":false,"host":"mx.example.org","username":"u","password":""}"#, &stored);
        assert!(gone.unwrap().password.is_empty());
        for elsewhere in [
            r#"{"enabled":false,"host":"evil.example.org","username":"u"}"#,
            r#"{"enabled":false,"host":"mx.example.org","username":"other"}"#,
            r#"{"enabled":false,"host":"mx.example.org","username":"u","tls":"none"}"#,
        ] {
            let refused = put(elsewhere, &stored).unwrap_err();
            assert_eq!(refused.field, "password");
            assert!(!refused.to_string().contains("marked"));
        }
    }
}
