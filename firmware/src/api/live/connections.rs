//! `GET /connections`: pf's state table, largest by bytes first.

use super::{Rows, filter};
use crate::api::{ApiError, Call, Reply};
use crate::live::states;
use crate::pf::StateEntry;

pub async fn connections(call: Call) -> Result<Reply, ApiError> {
    let page = call.page(1000, 10_000)?;
    let protocol = call.query("protocol").map(str::to_ascii_lowercase);
    let addr = filter::network(&call, "addr")?;
    let port = filter::port(&call)?;
    let iface = call.query("iface");
    let table = call.app.live.states().await.map_err(ApiError::internal)?;
    let fits = |state: &&StateEntry| {
        filter::lets(&protocol, |protocol| state.protocol == *protocol)
            && filter::lets(&addr, |net| net.contains(&state.src.0) || net.contains(&state.dst.0))
            && filter::lets(&port, |port| state.src.1 == *port || state.dst.1 == *port)
            && filter::lets(&iface, |iface| state.interface.as_deref() == Some(iface))
    };
    let mut total = 0;
    let rows = table
        .entries
        .iter()
        .filter(fits)
        .inspect(|_| total += 1)
        .enumerate()
        .filter(|(index, _)| (page.offset..page.offset.saturating_add(page.limit)).contains(index))
        .map(|(_, state)| states::row(state))
        .collect();
    Ok(Rows::reply(rows, total))
}
