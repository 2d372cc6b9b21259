//! One mail through the configured server (RFC 5321). Its certificate is checked; STARTTLS must succeed where it is
//! asked for; the address that was looked at is the one that is connected to.

use std::net::{IpAddr, ToSocketAddrs};
use std::sync::mpsc;
use std::time::Duration;

use lettre::message::header::ContentType;
use lettre::message::{Mailbox, Mailboxes, MessageBuilder};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{Message, SmtpTransport, Transport};

use crate::config::mail::{Mail, Security};
use crate::config::reach::Reach;
use crate::config::{Secret, secret};

const PATIENCE: Duration = Duration::from_secs(20);
/// For each step of the conversation.
const STEP: Duration = Duration::from_secs(10);

/// Why a mail was not sent.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    #[error("{0}: expected a mail address")]
    Address(&'static str),
    #[error("{0} has no address")]
    NoHost(String),
    #[error("{0} is a link-local or metadata address")]
    Forbidden(IpAddr),
    #[error("{0}")]
    Message(String),
    #[error("{0}")]
    Server(String),
    #[error("{0} did not take the mail within 20 s")]
    Patience(String),
}

/// Certificate authorities beside the well-known ones, in PEM.
#[derive(Debug, Clone, Default)]
pub struct Trust(pub Vec<String>);

/// Sends; `host` is how the appliance is called. Blocks, 20 s at most.
pub fn send(settings: &Mail, host: &str, subject: &str, body: &str, trust: &Trust) -> Result<(), MailError> {
    let from: Mailbox = settings.from_address.parse().map_err(|_| MailError::Address("from_address"))?;
    let to: Vec<Mailbox> =
        settings.recipients().into_iter().map(|address| Mailbox::new(None, address)).collect();
    if to.is_empty() {
        return Err(MailError::Address("recipients"));
    }
    let builder: MessageBuilder = Message::builder()
        .from(from)
        .mailbox(lettre::message::header::To::from(to.into_iter().collect::<Mailboxes>()));
    let message = builder
        .subject(subject.replace(['\r', '\n'], " "))
        .date_now()
        .message_id(None)
        .header(ContentType::TEXT_PLAIN)
        .body(body.to_owned())
        .map_err(|error| MailError::Message(error.to_string()))?;
    let (settings, host, trust) = (settings.clone(), host.to_owned(), trust.clone());
    let name = settings.host.clone();
    // The steps' own limits add up to more.
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        // Nobody listens any more when it took too long.
        let _ = sender.send(hand_over(&settings, &host, &trust, &message));
    });
    receiver.recv_timeout(PATIENCE).unwrap_or(Err(MailError::Patience(name)))
}

fn addresses(host: &str, port: u16) -> Result<Vec<IpAddr>, MailError> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let found = (bare, port).to_socket_addrs();
    let found = found.map_err(|error| MailError::Server(format!("{host}: {error}")))?;
    let mut addresses: Vec<IpAddr> = found.map(|address| address.ip()).collect();
    addresses.dedup();
    match addresses.iter().find(|address| !Reach::Inside.allows(**address)) {
        Some(address) => Err(MailError::Forbidden(*address)),
        None if addresses.is_empty() => Err(MailError::NoHost(host.to_owned())),
        None => Ok(addresses),
    }
}

fn hand_over(settings: &Mail, host: &str, trust: &Trust, message: &Message) -> Result<(), MailError> {
    let clean = |error: &dyn std::fmt::Display| secret::without(&error.to_string(), [&settings.password]);
    let parameters = || {
        let name = settings.host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let mut builder = TlsParameters::builder(name);
        for pem in &trust.0 {
            let root = Certificate::from_pem(pem.as_bytes());
            builder = builder.add_root_certificate(root.map_err(|error| MailError::Server(clean(&error)))?);
        }
        builder.build_rustls().map_err(|error| MailError::Server(clean(&error)))
    };
    let tls = match settings.tls {
        Security::None => Tls::None,
        Security::Starttls => Tls::Required(parameters()?),
        Security::Implicit => Tls::Wrapper(parameters()?),
    };
    let mut unreachable = MailError::NoHost(settings.host.clone());
    for server in addresses(&settings.host, settings.port)? {
        let mut builder = SmtpTransport::builder_dangerous(server.to_string())
            .port(settings.port)
            .tls(tls.clone())
            .timeout(Some(STEP));
        if !host.is_empty() {
            builder = builder.hello_name(ClientId::Domain(host.to_owned()));
        }
        if let Some(user) = settings.username.as_ref().filter(|_| !settings.password.is_empty()) {
            let password: &Secret = &settings.password;
            builder = builder.credentials(Credentials::new(user.clone(), password.expose().to_owned()));
        }
        let Err(error) = builder.build().send(message) else { return Ok(()) };
        let told = MailError::Server(told(&error, &clean));
        if !is_unreachable(&error) {
            return Err(told);
        }
        unreachable = told;
    }
    Err(unreachable)
}

/// Whether there was no connection at all. A mail that was spoken of is not offered to another address: it could
/// arrive twice.
fn is_unreachable(error: &lettre::transport::smtp::Error) -> bool {
    use std::io::ErrorKind::{AddrNotAvailable, ConnectionRefused, HostUnreachable, NetworkUnreachable};
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        if let Some(io) = next.downcast_ref::<std::io::Error>() {
            let kinds = [ConnectionRefused, HostUnreachable, NetworkUnreachable, AddrNotAvailable];
            return kinds.contains(&io.kind());
        }
        cause = next.source();
    }
    false
}

/// An error and what led to it, in one line.
fn told(error: &lettre::transport::smtp::Error, clean: &dyn Fn(&dyn std::fmt::Display) -> String) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        let more = next.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = next.source();
    }
    clean(&text)
}
