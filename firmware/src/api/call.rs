//! A request as a handler sees it: who calls, path parameters, query, body; every accessor refuses bad input
//! with the field's name.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use futures_lite::{AsyncRead, AsyncReadExt};
use serde::de::DeserializeOwned;

use super::{ApiError, App};
use crate::auth::Caller;
use crate::config::{Id, request};
use crate::store::Author;

/// One request, already routed, authenticated and permitted, its body read within the route's limit.
pub struct Call {
    pub app: Arc<App>,
    /// `None` on public routes without a credential.
    pub caller: Option<Caller>,
    pub method: &'static str,
    /// Path as sent, without query.
    pub path: String,
    pub params: HashMap<&'static str, String>,
    pub query: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The body of a route that reads it itself.
    pub upload: Option<Upload>,
    /// Client address: the socket's peer, or the right-most untrusted hop behind a trusted proxy.
    pub ip: Option<IpAddr>,
    /// The appliance's end of the connection, where there is one.
    pub local_addr: Option<SocketAddr>,
    /// Request headers, names in lower case.
    pub headers: HashMap<String, String>,
}

/// A body on its way.
pub struct Upload {
    body: Box<dyn AsyncRead + Unpin + Send + Sync>,
    limit: usize,
    left: usize,
    /// Bytes of the body, where they were announced.
    pub length: Option<usize>,
}

impl Upload {
    pub(super) fn new(
        body: impl AsyncRead + Unpin + Send + Sync + 'static,
        limit: usize,
        length: Option<usize>,
    ) -> Self {
        Self { body: Box::new(body), limit, left: limit, length }
    }

    /// The next bytes; none at the end. 413 once there are more than the limit.
    pub async fn next(&mut self) -> Result<Vec<u8>, ApiError> {
        let mut piece = vec![0; 64 * 1024];
        let count = self.body.read(&mut piece).await.map_err(|error| body_failed(&error))?;
        self.left = self.left.checked_sub(count).ok_or_else(|| too_large(self.limit))?;
        piece.truncate(count);
        Ok(piece)
    }
}

/// 413.
pub(super) fn too_large(limit: usize) -> ApiError {
    ApiError::new(413, format!("the body is larger than {limit} bytes"))
}

/// A body that did not arrive.
pub(super) fn body_failed(error: &std::io::Error) -> ApiError {
    match error.kind() {
        std::io::ErrorKind::TimedOut => ApiError::new(408, "the body did not arrive in time"),
        _ => ApiError::bad_request(format!("body: {error}")),
    }
}

/// `limit` and `offset` of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    pub limit: usize,
    pub offset: usize,
}

impl Call {
    pub fn caller(&self) -> Result<&Caller, ApiError> {
        self.caller.as_ref().ok_or_else(|| ApiError::unauthorized("a credential is needed"))
    }
    /// Author of this call's changes.
    pub fn author(&self) -> Author {
        match &self.caller {
            Some(caller) => caller.author(),
            None => Author { ip: self.ip, ..Author::system("anonymous") },
        }
    }
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
    pub fn param(&self, name: &str) -> &str {
        self.params.get(name).map_or("", String::as_str)
    }
    /// A path parameter that is a UUID; else 400.
    pub fn id(&self, name: &str) -> Result<Id, ApiError> {
        self.param(name).parse().map_err(|_| ApiError::bad_request(format!("{name}: expected a UUID")))
    }
    /// A query parameter's text, if present.
    pub fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
    /// A query parameter parsed; unparsable → 400.
    pub fn query_as<T: std::str::FromStr>(&self, name: &str, expected: &str) -> Result<Option<T>, ApiError> {
        self.query(name)
            .map(|text| {
                text.parse().map_err(|_| ApiError::bad_request(format!("{name}: expected {expected}")))
            })
            .transpose()
    }
    /// `limit` (clamped to `cap`) and `offset`; not a non-negative integer → 400.
    pub fn page(&self, default: usize, cap: usize) -> Result<Page, ApiError> {
        let count = |name| match self.query(name) {
            // Too large for the type is still a number: as much as there is.
            Some(digits) if digits.len() > 18 && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                Ok(Some(digits.parse().unwrap_or(usize::MAX)))
            }
            _ => self.query_as::<usize>(name, "a non-negative integer"),
        };
        Ok(Page { limit: count("limit")?.unwrap_or(default).min(cap), offset: count("offset")?.unwrap_or(0) })
    }
    /// The JSON body as a type; anything else → 400 that names the field.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        Ok(request::parse(&self.body)?)
    }
    /// As [`Call::json`], an empty body being the default.
    pub fn json_or_default<T: DeserializeOwned + Default>(&self) -> Result<T, ApiError> {
        if self.body.iter().all(u8::is_ascii_whitespace) { Ok(T::default()) } else { self.json() }
    }
}

impl Page {
    /// The rows of this page.
    pub fn of<T>(self, rows: Vec<T>) -> Vec<T> {
        rows.into_iter().skip(self.offset).take(self.limit).collect()
    }
}
