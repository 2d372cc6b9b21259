//! What a client may take: bytes, connections and time.

use std::time::Duration;

/// The limits of a listener. `Default` gives the appliance's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Request line and headers together, in bytes; more is 431.
    pub head_bytes: usize,
    /// Headers of one request; more is 431.
    pub headers: usize,
    /// Open connections in all.
    pub connections: usize,
    /// Open connections of one address. Loopback is bound by `connections` alone.
    pub connections_per_address: usize,
    /// For a TLS handshake.
    pub handshake: Duration,
    /// From the first byte of a request (or the start of the connection) to the end of its headers; then 408.
    pub head: Duration,
    /// Between two bytes of a body; then 408.
    pub body_gap: Duration,
    /// Slowest body that is waited for, in bytes per second, `body_gap` being free.
    pub body_rate: u64,
    /// Between two requests of a connection.
    pub idle: Duration,
    /// A client that takes no byte of an answer for so long is dropped.
    pub write_stall: Duration,
    /// For what the client still sends after a refusal, so that it can read the refusal.
    pub linger: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes: 16 * 1024,
            headers: 100,
            connections: 4096,
            connections_per_address: 256,
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(10),
            body_gap: Duration::from_secs(30),
            body_rate: 1024,
            idle: Duration::from_secs(60),
            write_stall: Duration::from_secs(30),
            linger: Duration::from_secs(5),
        }
    }
}

impl Limits {
    /// How often deadlines are looked at: fine enough for the shortest of them, 250 ms at most.
    pub(super) fn tick(&self) -> Duration {
        let waits =
            [self.handshake, self.head, self.body_gap, self.idle, self.write_stall, Duration::from_secs(1)];
        let shortest = waits.into_iter().min().unwrap_or_default();
        (shortest / 4).max(Duration::from_millis(5))
    }
}
