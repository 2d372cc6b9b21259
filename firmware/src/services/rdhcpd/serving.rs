//! Whether rDHCP serves. Its API is open before its port is bound, and it goes on without its API when another
//! program has that port: so it is asked with our key, and has to have said that its sockets are there.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use super::Client;
use crate::config::ServiceKind;
use crate::supervisor::{Probe, State, Supervisor};

const PATIENCE: Duration = Duration::from_secs(1);
/// What it logs once all its sockets are bound.
const BOUND: &str = "rdhcpd started";
/// Where that is not logged: it binds at once or ends.
const SETTLED: Duration = Duration::from_millis(500);
/// Lines that it may have said since it started.
const LINES: usize = 1000;

pub struct Serving {
    supervisor: Supervisor,
    place: SocketAddr,
    key: String,
    /// Its log has the lines of level `info`.
    speaks: bool,
}

impl Serving {
    pub fn new(supervisor: Supervisor, place: SocketAddr, key: String, speaks: bool) -> Self {
        Self { supervisor, place, key, speaks }
    }
}

impl Probe for Serving {
    fn probe(&self) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> {
        let (supervisor, speaks) = (self.supervisor.clone(), self.speaks);
        let (place, key) = (self.place, self.key.clone());
        Box::pin(async move {
            let ask = move || {
                let client = Client::at(place, key.clone(), PATIENCE);
                // The first is open to all, the second to our key only.
                client.health().and_then(|_| client.pool_stats())
            };
            let answer = blocking::unblock(ask.clone()).await;
            answer.map_err(|error| format!("its API at {place}: {error}"))?;
            let name = ServiceKind::Dhcp.program();
            let status = supervisor.status(name).map_err(|error| error.to_string())?;
            // Once it was ready, its words may leave the log.
            if status.state == State::Running {
                return Ok(());
            }
            if speaks {
                let lines = supervisor.log(name, LINES).unwrap_or_default();
                let bound = lines.iter().any(|line| line.at >= status.since && line.line.contains(BOUND));
                if !bound {
                    return Err("it has not bound its ports".into());
                }
            } else {
                async_io::Timer::after(SETTLED).await;
                let answer = blocking::unblock(ask).await;
                answer.map_err(|error| format!("its API at {place}: {error}"))?;
            }
            Ok(())
        })
    }
}
