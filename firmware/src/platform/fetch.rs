//! Fetching a document over HTTP for the appliance's own use: lists of addresses, later updates and block
//! lists. Bounded in size and time, conditional, and kept away from the inside of the network unless allowed.
//! Blocking; called through `blocking::unblock`.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};

use crate::config::reach::Reach;

/// What a server said of a copy, sent back to it to ask for a newer one (RFC 9110 §13.1).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validators {
    pub etag: Option<String>,
    pub last_modified: Option<String>,
}

/// Limits of one fetch.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub bytes: u64,
    pub time: Duration,
    /// Loopback, private, link-local and other addresses that are not on the public internet may be asked.
    pub inside_allowed: bool,
}

/// What a fetch found.
#[derive(Debug, PartialEq, Eq)]
pub enum Fetched {
    NotModified,
    Document { body: Vec<u8>, validators: Validators },
}

#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("{url}: only http and https are fetched")]
    Scheme { url: String },
    #[error("{url}: {address} is not a public address")]
    Inside { url: String, address: IpAddr },
    #[error("{url}: the server answered {status}")]
    Status { url: String, status: u16 },
    #[error("{url}: more than {limit} bytes")]
    TooLarge { url: String, limit: u64 },
    #[error("{url}: {reason}")]
    Failed { url: String, reason: String },
}

/// Resolves names, and refuses those that lead inside. The check is on the addresses that are then connected
/// to, so a name cannot change its answer in between.
#[derive(Debug)]
struct Guarded(Reach);

const INSIDE: &str = "is not a public address";

impl Resolver for Guarded {
    fn resolve(
        &self,
        uri: &Uri,
        config: &ureq::config::Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let found = DefaultResolver::default().resolve(uri, config, timeout)?;
        match found.iter().map(SocketAddr::ip).find(|address| !self.0.allows(*address)) {
            Some(address) => Err(ureq::Error::Io(std::io::Error::new(
                std::io::ErrorKind::PermissionDenied,
                format!("{address} {INSIDE}"),
            ))),
            None => Ok(found),
        }
    }
}

/// An agent that connects only to addresses within `reach`.
pub fn agent(config: ureq::config::Config, reach: Reach) -> ureq::Agent {
    ureq::Agent::with_parts(config, DefaultConnector::default(), Guarded(reach))
}

/// Gets a document, if it has changed since `known`. Redirects are followed (at most 5), each target being
/// checked like the first.
pub fn fetch(url: &str, known: &Validators, limits: Limits) -> Result<Fetched, FetchError> {
    fetch_as(concat!("aifw/", env!("CARGO_PKG_VERSION")), url, known, limits)
}

/// As [`fetch`], under a name of its own (`User-Agent`, RFC 9110 §10.1.5).
pub fn fetch_as(
    user_agent: &str,
    url: &str,
    known: &Validators,
    limits: Limits,
) -> Result<Fetched, FetchError> {
    let failed = |reason: String| FetchError::Failed { url: url.to_owned(), reason };
    check_scheme(url)?;
    let config = builder(user_agent).timeout_global(Some(limits.time)).build();
    let agent = agent(config, Reach::inside(limits.inside_allowed));
    let mut request = agent.get(url);
    if let Some(etag) = &known.etag {
        request = request.header("If-None-Match", etag);
    }
    if let Some(date) = &known.last_modified {
        request = request.header("If-Modified-Since", date);
    }
    let mut response = request.call().map_err(|error| told(url, error))?;
    let status = response.status().as_u16();
    if status == 304 {
        return Ok(Fetched::NotModified);
    }
    if status != 200 {
        return Err(FetchError::Status { url: url.to_owned(), status });
    }
    let header =
        |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let validators = Validators { etag: header("etag"), last_modified: header("last-modified") };
    let body =
        response.body_mut().with_config().limit(limits.bytes).read_to_vec().map_err(|error| match error {
            ureq::Error::BodyExceedsLimit(limit) => FetchError::TooLarge { url: url.to_owned(), limit },
            other => failed(other.to_string()),
        })?;
    Ok(Fetched::Document { body, validators })
}

fn check_scheme(url: &str) -> Result<(), FetchError> {
    let parsed = url::Url::parse(url)
        .map_err(|error| FetchError::Failed { url: url.to_owned(), reason: error.to_string() })?;
    match parsed.scheme() {
        "http" | "https" => Ok(()),
        _ => Err(FetchError::Scheme { url: url.to_owned() }),
    }
}

/// What every request has in common.
fn builder(user_agent: &str) -> ureq::config::ConfigBuilder<ureq::typestate::AgentScope> {
    ureq::Agent::config_builder()
        .max_redirects(5)
        .http_status_as_error(false)
        .proxy(None)
        .user_agent(user_agent)
}

fn told(url: &str, error: ureq::Error) -> FetchError {
    let failed = |reason: String| FetchError::Failed { url: url.to_owned(), reason };
    match error {
        ureq::Error::Io(io) if io.kind() == std::io::ErrorKind::PermissionDenied => {
            let address = io.to_string().split(' ').next().and_then(|text| text.parse().ok());
            match address {
                Some(address) => FetchError::Inside { url: url.to_owned(), address },
                None => failed(io.to_string()),
            }
        }
        other => failed(other.to_string()),
    }
}

/// What was had of a large document before.
#[derive(Debug, Clone, Copy)]
pub struct Part<'a> {
    /// So many bytes from its beginning.
    pub bytes: u64,
    /// The strong validator of what they are a part of.
    pub etag: &'a str,
}

/// A large document on its way.
pub struct Stream {
    /// Where the bytes begin that `body` gives: behind the part that was had before, or at 0.
    pub from: u64,
    /// Bytes of the whole document, where the server says so.
    pub total: Option<u64>,
    /// A strong validator, by which the document can be gone on with later (RFC 9110 §13.1.5).
    pub etag: Option<String>,
    pub body: Box<dyn std::io::Read + Send>,
}

/// Time limits of a [`stream`]. The whole may take as long as it takes.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    pub connect: Duration,
    /// Between two pieces.
    pub idle: Duration,
}

/// Begins to get a large document, or goes on with it (RFC 9110 §14.2) if it is still the same and the server can.
pub fn stream(
    user_agent: &str,
    url: &str,
    had: Option<Part>,
    patience: Patience,
    inside_allowed: bool,
) -> Result<Stream, FetchError> {
    check_scheme(url)?;
    let config = builder(user_agent)
        .timeout_connect(Some(patience.connect))
        .timeout_recv_response(Some(patience.idle))
        .timeout_per_read(Some(patience.idle))
        .build();
    // As it is: its bytes are counted and its hash is known.
    let mut request =
        agent(config, Reach::inside(inside_allowed)).get(url).header("Accept-Encoding", "identity");
    if let Some(part) = had {
        request = request.header("Range", format!("bytes={}-", part.bytes)).header("If-Range", part.etag);
    }
    let response = request.call().map_err(|error| told(url, error))?;
    let header =
        |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let number = |text: String| text.parse::<u64>().ok();
    let (from, total) = match response.status().as_u16() {
        200 => (0, header("content-length").and_then(number)),
        206 => {
            let range = header("content-range").unwrap_or_default();
            let given = parse_range(&range).filter(|(from, _)| had.is_some_and(|part| part.bytes == *from));
            given.ok_or_else(|| FetchError::Failed {
                url: url.to_owned(),
                reason: format!("the server sent another part than was asked for ({range:?})"),
            })?
        }
        status => return Err(FetchError::Status { url: url.to_owned(), status }),
    };
    let etag = header("etag").filter(|etag| !etag.starts_with("W/"));
    Ok(Stream { from, total, etag, body: Box::new(response.into_body().into_reader()) })
}

/// `bytes 100-199/200`: where it begins, and bytes of the whole.
fn parse_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.parse().ok()?, total.parse().ok()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;

    const LOCAL: Limits = Limits { bytes: 1024, time: Duration::from_secs(10), inside_allowed: true };

    /// Answers one request after the other with what `answer` makes of its head; ends with the listener.
    fn server(answer: impl Fn(&str) -> String + Send + 'static) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/list.txt", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut head = String::new();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                while reader.read_line(&mut head).unwrap() > 2 {}
                stream.write_all(answer(&head.to_lowercase()).as_bytes()).unwrap();
            }
        });
        url
    }

    fn ok(body: &str) -> String {
        format!(
            "HTTP/1.1 200 OK\r\nETag: \"one\"\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )
    }

    #[test]
    fn a_document_comes_with_its_validators_and_only_once() {
        let url = server(|head| {
            if head.contains("if-none-match: \"one\"") {
                "HTTP/1.1 304 Not Modified\r\nConnection: close\r\n\r\n".into()
            } else {
                ok("192.0.2.1\n")
            }
        });
        let Fetched::Document { body, validators } = fetch(&url, &Validators::default(), LOCAL).unwrap()
        else {
            panic!("expected a document")
        };
        assert_eq!(body, b"192.0.2.1\n");
        assert_eq!(fetch(&url, &validators, LOCAL).unwrap(), Fetched::NotModified);
    }

    #[test]
    fn the_inside_of_the_network_is_not_asked_unless_allowed() {
        let url = server(|_| ok("x"));
        let guarded = Limits { inside_allowed: false, ..LOCAL };
        let refused = fetch(&url, &Validators::default(), guarded).unwrap_err();
        assert!(matches!(refused, FetchError::Inside { .. }), "{refused}");
        let url = url.replace("127.0.0.1", "localhost");
        assert!(matches!(fetch(&url, &Validators::default(), guarded), Err(FetchError::Inside { .. })));
    }

    #[test]
    fn other_schemes_errors_and_large_documents_are_refused() {
        for url in ["file:///etc/passwd", "ftp://192.0.2.1/x", "gopher://x/"] {
            assert!(
                matches!(fetch(url, &Validators::default(), LOCAL), Err(FetchError::Scheme { .. })),
                "{url}"
            );
        }
        let redirect = server(|_| {
            "HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\nConnection: close\r\n\r\n".into()
        });
        assert!(fetch(&redirect, &Validators::default(), LOCAL).is_err());
        let missing =
            server(|_| "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".into());
        assert!(matches!(
            fetch(&missing, &Validators::default(), LOCAL),
            Err(FetchError::Status { status: 404, .. })
        ));
        let large = server(|_| ok(&"x".repeat(2000)));
        assert!(matches!(
            fetch(&large, &Validators::default(), LOCAL),
            Err(FetchError::TooLarge { limit: 1024, .. })
        ));
    }
}
