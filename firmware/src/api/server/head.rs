//! The head of an HTTP/1.1 request (RFC 9112): where it ends, what it says, how long its body is. Pure. Whatever
//! two parsers could read differently (request smuggling) is refused.

use std::net::IpAddr;

use tide::http::headers::{self, HeaderName, HeaderValue};
use tide::http::{self, Method, Url};

/// How a request's body is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    None,
    Length(u64),
    Chunked,
}

/// A request that was refused before anybody looked at what it wants.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{status}: {reason}")]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) reason: &'static str,
}

fn refuse<T>(status: u16, reason: &'static str) -> Result<T, Refusal> {
    Err(Refusal { status, reason })
}

/// What the connection needs to know of a request, beside the request itself.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) request: http::Request,
    pub(super) framing: Framing,
    pub(super) keep_alive: bool,
    /// The minor version: 0 or 1.
    pub(super) minor: u8,
    pub(super) expects_continue: bool,
}

/// Finds the end of a head in bytes that arrive bit by bit, looking at each byte once.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    seen: usize,
    line_start: usize,
    /// Length of the empty lines before the request line.
    leading: usize,
}

impl Scanner {
    /// The head's length once it is complete. A line that ends in a bare LF is refused, empty lines before the
    /// request line belong to the head (RFC 9112 §2.2).
    pub(super) fn scan(&mut self, bytes: &[u8]) -> Result<Option<usize>, Refusal> {
        while let Some(offset) = bytes.get(self.seen..).and_then(|rest| rest.iter().position(|b| *b == b'\n'))
        {
            let at = self.seen + offset;
            if at == 0 || bytes[at - 1] != b'\r' {
                return refuse(400, "a line of the head ends in a bare line feed");
            }
            let is_empty = at - 1 == self.line_start;
            let is_leading = self.line_start == self.leading;
            self.seen = at + 1;
            self.line_start = at + 1;
            match (is_empty, is_leading) {
                (true, false) => return Ok(Some(at + 1)),
                (true, true) => self.leading = at + 1,
                (false, _) => {}
            }
        }
        self.seen = bytes.len();
        Ok(None)
    }
}

/// Remembers the last URL of a connection: most clients ask for the same few things again and again.
#[derive(Debug, Default)]
pub(super) struct UrlCache {
    text: String,
    scratch: String,
    url: Option<Url>,
}

impl UrlCache {
    fn url(&mut self, scheme: &str, host: &str, target: &str) -> Result<Url, Refusal> {
        self.scratch.clear();
        if !target.starts_with('/') {
            let absolute = target.starts_with("http://") || target.starts_with("https://");
            if !absolute && target != "*" {
                return refuse(400, "the request target must be a path");
            }
            if absolute {
                self.scratch.push_str(target);
            }
        }
        if self.scratch.is_empty() {
            for part in [scheme, host, if target == "*" { "/" } else { target }] {
                self.scratch.push_str(part);
            }
        }
        if let Some(url) = self.url.as_ref().filter(|_| self.text == self.scratch) {
            return Ok(url.clone());
        }
        let Ok(url) = Url::parse(&self.scratch) else {
            return refuse(400, "the request target is not a valid URL");
        };
        std::mem::swap(&mut self.text, &mut self.scratch);
        self.url = Some(url.clone());
        Ok(url)
    }
}

/// Reads a complete head (as [`Scanner`] has delimited it).
pub(super) fn parse(
    bytes: &[u8],
    max_headers: usize,
    is_tls: bool,
    urls: &mut UrlCache,
) -> Result<Parsed, Refusal> {
    let mut storage = [std::mem::MaybeUninit::uninit(); 128];
    let storage = &mut storage[..max_headers.min(128)];
    let mut head = httparse::Request::new(&mut []);
    match head.parse_with_uninit_headers(bytes, storage) {
        Ok(httparse::Status::Complete(length)) if length == bytes.len() => {}
        Ok(_) => return refuse(400, "the head of the request is incomplete"),
        Err(httparse::Error::TooManyHeaders) => return refuse(431, "too many headers"),
        Err(httparse::Error::Version) => return refuse(505, "HTTP/1.0 and HTTP/1.1 are spoken here"),
        Err(_) => return refuse(400, "the head of the request is malformed"),
    }
    let (Some(method), Some(target), Some(minor)) = (head.method, head.path, head.version) else {
        return refuse(400, "the request line is incomplete");
    };
    let Ok(method) = method.parse::<Method>() else { return refuse(501, "the method is not known") };
    let mut facts = Facts::default();
    for header in head.headers.iter() {
        facts.note(header.name, header.value)?;
    }
    let framing = facts.framing(minor)?;
    let host = match facts.host {
        Some(host) => host,
        None if minor == 0 => "localhost",
        None => return refuse(400, "Host: exactly one is needed"),
    };
    let url = urls.url(if is_tls { "https://" } else { "http://" }, host, target)?;
    let mut request = http::Request::new(method, url);
    for (at, header) in head.headers.iter().enumerate() {
        let repeated = head.headers[..at].iter().any(|known| known.name.eq_ignore_ascii_case(header.name));
        let value = value_of(header.value);
        if repeated {
            request.append_header(name_of(header.name), value);
        } else {
            request.insert_header(name_of(header.name), value);
        }
    }
    request.set_version(Some(if minor == 0 { http::Version::Http1_0 } else { http::Version::Http1_1 }));
    Ok(Parsed {
        request,
        framing,
        keep_alive: if minor == 0 { facts.keep_alive && !facts.close } else { !facts.close },
        minor,
        expects_continue: facts.expects_continue && minor == 1 && framing != Framing::None,
    })
}

/// The headers that the connection itself acts upon.
#[derive(Debug, Default)]
struct Facts<'a> {
    host: Option<&'a str>,
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    expects_continue: bool,
}

impl<'a> Facts<'a> {
    fn note(&mut self, name: &str, value: &'a [u8]) -> Result<(), Refusal> {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        match name.len() {
            4 if is("host") => {
                let text = std::str::from_utf8(value).ok().filter(|host| is_host(host));
                let Some(host) = text.filter(|_| self.host.is_none()) else {
                    return refuse(400, "Host: expected one host name or address");
                };
                self.host = Some(host);
            }
            14 if is("content-length") => {
                if self.length.is_some() {
                    return refuse(400, "Content-Length: given more than once");
                }
                let digits = !value.is_empty() && value.len() <= 18 && value.iter().all(u8::is_ascii_digit);
                let number = std::str::from_utf8(value).ok().filter(|_| digits);
                let Some(length) = number.and_then(|text| text.parse().ok()) else {
                    return refuse(400, "Content-Length: expected a number of bytes");
                };
                self.length = Some(length);
            }
            17 if is("transfer-encoding") => {
                if self.chunked {
                    return refuse(400, "Transfer-Encoding: given more than once");
                }
                if !value.eq_ignore_ascii_case(b"chunked") {
                    return refuse(501, "Transfer-Encoding: only chunked is understood");
                }
                self.chunked = true;
            }
            10 if is("connection") => {
                for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                    self.close |= option.eq_ignore_ascii_case(b"close");
                    self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            6 if is("expect") => {
                if !value.eq_ignore_ascii_case(b"100-continue") {
                    return refuse(417, "Expect: only 100-continue is understood");
                }
                self.expects_continue = true;
            }
            _ => {}
        }
        Ok(())
    }

    fn framing(&self, minor: u8) -> Result<Framing, Refusal> {
        match (self.chunked, self.length) {
            (true, Some(_)) => refuse(400, "Content-Length and Transfer-Encoding exclude each other"),
            (true, None) if minor == 0 => refuse(400, "Transfer-Encoding is not part of HTTP/1.0"),
            (true, None) => Ok(Framing::Chunked),
            (false, Some(0)) | (false, None) => Ok(Framing::None),
            (false, Some(length)) => Ok(Framing::Length(length)),
        }
    }
}

/// `name[:port]`, `192.0.2.1[:port]`, `[2001:db8::1][:port]`.
fn is_host(text: &str) -> bool {
    if let Some(rest) = text.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else { return false };
        let is_port = port.is_empty() || port.strip_prefix(':').is_some_and(is_number);
        return is_port && address.parse::<IpAddr>().is_ok();
    }
    let (name, port) = text.split_once(':').unwrap_or((text, "0"));
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    !name.is_empty() && name.bytes().all(is_name) && is_number(port)
}

fn is_number(text: &str) -> bool {
    text.len() <= 5 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The header's name, without allocation where it is a frequent one.
fn name_of(name: &str) -> HeaderName {
    let known = [
        headers::HOST,
        headers::USER_AGENT,
        headers::ACCEPT,
        headers::ACCEPT_ENCODING,
        headers::AUTHORIZATION,
        headers::CONTENT_TYPE,
        headers::CONTENT_LENGTH,
        headers::CONNECTION,
        headers::ORIGIN,
        headers::REFERER,
    ];
    let found = known.into_iter().find(|known| known.as_str().eq_ignore_ascii_case(name));
    found.unwrap_or_else(|| HeaderName::from(name))
}

/// The header's value; what is not ASCII becomes `?`.
fn value_of(bytes: &[u8]) -> HeaderValue {
    let ascii = |byte: &u8| if byte.is_ascii() { *byte } else { b'?' };
    HeaderValue::from_bytes(bytes.iter().map(ascii).collect())
        .unwrap_or_else(|_| HeaderValue::from(http::mime::BYTE_STREAM))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(text: &str) -> Result<Parsed, Refusal> {
        let length = Scanner::default().scan(text.as_bytes())?;
        let length = length.ok_or(Refusal { status: 0, reason: "incomplete" })?;
        parse(&text.as_bytes()[..length], 100, false, &mut UrlCache::default())
    }
    fn status(text: &str) -> u16 {
        read(text).map_or_else(|refusal| refusal.status, |_| 200)
    }

    #[test]
    fn a_plain_request() {
        let parsed = read(
            "\r\nPOST /api/v1/rules?a=1 HTTP/1.1\r\nHost: fw.lan:8080\r\nContent-Length: 3\r\nX-A: 1\r\nx-a: 2\r\n\r\nabc",
        );
        let parsed = parsed.unwrap();
        assert_eq!(parsed.request.url().as_str(), "http://fw.lan:8080/api/v1/rules?a=1");
        assert_eq!(parsed.request.method(), Method::Post);
        assert_eq!(parsed.framing, Framing::Length(3));
        assert!(parsed.keep_alive && !parsed.expects_continue);
        assert_eq!(parsed.request.header("x-a").unwrap().iter().count(), 2);
    }

    #[test]
    fn what_two_parsers_could_read_differently_is_refused() {
        let host = "Host: a\r\n";
        for bad in [
            "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
            "Content-Length: 3\r\nContent-Length: 4\r\n",
            "Content-Length: 3\r\nContent-Length: 3\r\n",
            "Content-Length: +3\r\n",
            "Content-Length: 3, 3\r\n",
            "Content-Length: -1\r\n",
            "Content-Length: 0x3\r\n",
            "Content-Length: \r\n",
            "Content-Length: 99999999999999999999\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding : chunked\r\n",
            "Content-Length\t: 3\r\n",
            "X: a\r\n Content-Length: 3\r\n",
            "X: a\nContent-Length: 3\r\n",
            "X: a\rContent-Length: 3\r\n",
            "X: a\0b\r\n",
            "Host: b\r\n",
            ": empty\r\n",
        ] {
            assert_eq!(status(&format!("POST / HTTP/1.1\r\n{host}{bad}\r\n")), 400, "{bad:?}");
        }
        for coding in ["gzip, chunked", "xchunked", "identity", "chunked, chunked", "\u{b}chunked"] {
            let code = status(&format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding: {coding}\r\n\r\n"));
            assert!(matches!(code, 400 | 501), "{coding:?}");
        }
        assert_eq!(status("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), 400);
        assert_eq!(status("GET / HTTP/1.1\r\n\r\n"), 400);
        assert_eq!(status("GET / HTTP/1.1\nHost: a\n\n"), 400);
        assert_eq!(status("GET / HTTP/2.0\r\nHost: a\r\n\r\n"), 505);
        assert_eq!(status("GET  / HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
        assert_eq!(status("BREW / HTTP/1.1\r\nHost: a\r\n\r\n"), 501);
        for host in ["a/b", "a@b", "a b", "[::1", "a:b", "", "[::1]x"] {
            assert_eq!(status(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")), 400, "{host:?}");
        }
        assert_eq!(status("GET rules HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
    }

    #[test]
    fn connection_options() {
        let keeps = |text: &str| read(text).unwrap().keep_alive;
        assert!(keeps("GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n"));
        assert!(!keeps("GET / HTTP/1.1\r\nHost: a\r\nConnection: foo, Close\r\n\r\n"));
        assert!(!keeps("GET / HTTP/1.0\r\n\r\n"));
        assert!(keeps("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"));
        assert_eq!(read("GET http://x/y HTTP/1.1\r\nHost: a\r\n\r\n").unwrap().request.url().path(), "/y");
    }

    #[test]
    fn the_scanner_does_not_care_how_bytes_arrive() {
        let text = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /2";
        let mut scanner = Scanner::default();
        let ends: Vec<usize> =
            (0..=text.len()).filter_map(|at| scanner.scan(&text[..at]).unwrap()).take(1).collect();
        assert_eq!(ends, [27]);
        assert_eq!(Scanner::default().scan(text), Ok(Some(27)));
    }
}
