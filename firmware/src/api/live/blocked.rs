//! `GET /blocked`: what pf logged, newest first.

use std::net::IpAddr;
use std::sync::Arc;

use super::{Rows, filter};
use crate::api::{ApiError, Call, Reply};
use crate::live::blocked::{BlockedView, Logged};

pub async fn blocked(call: Call) -> Result<Reply, ApiError> {
    let page = call.page(1000, 10_000)?;
    let passed = match call.query("action") {
        None | Some("block") => Some(false),
        Some("pass") => Some(true),
        Some("all") => None,
        Some(_) => return Err(ApiError::bad_request("action: expected block, pass or all")),
    };
    let src = filter::network(&call, "src")?;
    let dst = filter::network(&call, "dst")?;
    let port = filter::port(&call)?;
    let iface = call.query("iface");
    let protocol = call.query("protocol").map(str::to_ascii_lowercase);
    let since = filter::moment(&call, "since")?;
    let fits = |packet: &Logged| {
        filter::lets(&passed, |passed| packet.passed == *passed)
            && filter::lets(&src, |net| net.contains(&packet.src))
            && filter::lets(&dst, |net| net.contains(&packet.dst))
            && filter::lets(&port, |port| packet.src_port == *port || packet.dst_port == *port)
            && filter::lets(&iface, |iface| *packet.interface == **iface)
            && filter::lets(&protocol, |protocol| *packet.protocol == **protocol)
            && filter::lets(&since, |since| packet.at >= *since)
    };
    let mut total = 0;
    let mut shown: Vec<Arc<Logged>> = Vec::new();
    for packet in call.app.live.blocked().newest_first().filter(|packet| fits(packet)) {
        if total >= page.offset && shown.len() < page.limit {
            shown.push(packet.clone());
        }
        total += 1;
    }
    let countries = match call.app.live.sources().countries.clone() {
        Some(source) => {
            let sources: Vec<IpAddr> = shown.iter().map(|packet| packet.src).collect();
            blocking::unblock(move || sources.into_iter().map(|ip| source.country(ip)).collect()).await
        }
        None => vec![None; shown.len()],
    };
    let rows = shown
        .iter()
        .zip(countries)
        .map(|(packet, country)| BlockedView { country, ..packet.full() })
        .collect();
    Ok(Rows::reply(rows, total))
}
