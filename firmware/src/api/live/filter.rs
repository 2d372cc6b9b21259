//! Query parameters that several lists filter by.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::api::{ApiError, Call};
use crate::config::Timestamp;

/// An address or a network (`10.0.0.1`, `10.0.0.0/8`); else 400.
pub fn network(call: &Call, name: &str) -> Result<Option<IpNet>, ApiError> {
    let Some(text) = call.query(name) else { return Ok(None) };
    let network = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    network
        .map(Some)
        .ok_or_else(|| ApiError::bad_request(format!("{name}: expected an address or a network")))
}

/// A port; else 400.
pub fn port(call: &Call) -> Result<Option<u16>, ApiError> {
    call.query_as::<u16>("port", "a port from 0 to 65535")
}

/// A moment: RFC 3339, or Unix seconds; else 400.
pub fn moment(call: &Call, name: &str) -> Result<Option<Timestamp>, ApiError> {
    let Some(text) = call.query(name) else { return Ok(None) };
    let seconds = || text.parse::<i64>().ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    let moment = text.parse::<Timestamp>().ok().or_else(seconds);
    moment
        .map(Some)
        .ok_or_else(|| ApiError::bad_request(format!("{name}: expected a time as RFC 3339 or Unix seconds")))
}

/// Whether a filter that may be absent lets a value through.
pub fn lets<T>(wanted: &Option<T>, fits: impl FnOnce(&T) -> bool) -> bool {
    wanted.as_ref().is_none_or(fits)
}
