//! How pf follows a connection from the segments it sees: one peer per end, its state, and the window in which
//! its sequence numbers may lie. The rules are those that pf(4) describes for stateful inspection (after
//! G. van Rooij, "Real Stateful TCP Packet Filtering in IP Filter"); the numbers of the states are those of
//! RFC 9293 as FreeBSD's tcp_fsm.h orders them.

use crate::pf::ast::Timeout;
use crate::pf::packet::{Tcp, flag};

/// State of one end, ordered by progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[repr(u8)]
pub enum TcpState {
    #[default]
    Closed,
    SynSent,
    Established,
    Closing,
    FinWait2,
    TimeWait,
}

impl TcpState {
    /// As `pfctl -ss` prints it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => "CLOSED",
            Self::SynSent => "SYN_SENT",
            Self::Established => "ESTABLISHED",
            Self::Closing => "CLOSING",
            Self::FinWait2 => "FIN_WAIT_2",
            Self::TimeWait => "TIME_WAIT",
        }
    }
}

/// One end of a connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Peer {
    pub state: TcpState,
    /// Highest sequence number sent, the next to come.
    seq_low: u32,
    /// Highest sequence number that the other end has room for.
    seq_high: u32,
    max_window: u32,
    /// Window scale, when the end has sent one in its SYN.
    scale: Option<u8>,
    /// Whether a segment of this end has been seen.
    seen: bool,
}

/// Largest step back or ahead that a missing segment explains.
const MAX_ACK_WINDOW: i64 = 0xffff + 1500;

/// What a segment did to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Fits,
    /// Outside the windows: dropped, reason `state-mismatch`.
    Mismatch,
    /// A new SYN on a finished connection: the state goes, and rules decide anew.
    Reused,
}

/// Signed distance from `b` to `a` in sequence space.
fn ahead(a: u32, b: u32) -> i64 {
    i64::from(a.wrapping_sub(b).cast_signed())
}

/// Peers of a connection that begins with this segment: originator, responder.
pub fn open(tcp: &Tcp) -> (Peer, Peer) {
    let mut high = tcp.seq.wrapping_add(tcp.payload).wrapping_add(1);
    let mut window = u32::from(tcp.window).max(1);
    let mut scale = None;
    if tcp.flags & flag::SYN != 0 {
        high = high.wrapping_add(1);
        scale = tcp.wscale;
        if let Some(shift) = scale.filter(|shift| *shift > 0) {
            // The window of a SYN is never scaled: bring it to the unit of later ones.
            window = (window + (1 << shift) - 1) >> shift;
        }
    }
    if tcp.flags & flag::FIN != 0 {
        high = high.wrapping_add(1);
    }
    let src = Peer {
        state: TcpState::SynSent,
        seq_low: tcp.seq,
        seq_high: high,
        max_window: window,
        scale,
        seen: true,
    };
    let dst =
        Peer { state: TcpState::Closed, seq_low: 0, seq_high: 1, max_window: 1, scale: None, seen: false };
    (src, dst)
}

/// Follows one segment from `src` to `dst`.
pub fn follow(tcp: &Tcp, src: &mut Peer, dst: &mut Peer) -> Verdict {
    let has = |bit: u8| tcp.flags & bit != 0;
    if tcp.flags & (flag::SYN | flag::ACK) == flag::SYN
        && src.state >= TcpState::FinWait2
        && dst.state >= TcpState::FinWait2
    {
        return Verdict::Reused;
    }
    // Scaling counts once both ends have offered it, and never in a SYN.
    let (src_shift, dst_shift) = match (src.scale, dst.scale) {
        (Some(s), Some(d)) if !has(flag::SYN) => (s, d),
        _ => (0, 0),
    };
    let window = u32::from(tcp.window);
    let mut seq = tcp.seq;
    let mut end = seq.wrapping_add(tcp.payload);
    if has(flag::SYN) {
        end = end.wrapping_add(1);
    }
    if has(flag::FIN) {
        end = end.wrapping_add(1);
    }
    if !src.seen {
        // First segment of this end.
        src.seen = true;
        if has(flag::SYN) && dst.scale.is_some() {
            src.scale = tcp.wscale;
            if src.scale.is_none() {
                // Scaling is off: what was brought to the scaled unit goes back.
                let shift = dst.scale.take().unwrap_or(0);
                dst.max_window = (dst.max_window << shift).min(65535);
            }
        }
        src.seq_low = seq;
        if src.state < TcpState::SynSent {
            src.state = TcpState::SynSent;
        }
        let room = end.wrapping_add((dst.max_window << dst_shift).max(1));
        if src.seq_high == 1 || ahead(room, src.seq_high) >= 0 {
            src.seq_high = room;
        }
        src.max_window = src.max_window.max(window);
    }
    let mut ack = tcp.ack;
    if !has(flag::ACK) || dst.state < TcpState::SynSent || (ack == 0 && has(flag::RST)) {
        // No acknowledgement, or one that cannot be checked.
        ack = dst.seq_low;
    }
    if seq == end {
        // No data: keep-alives and pure acknowledgements may lie one off.
        seq = src.seq_low;
        end = seq;
    }
    let skew = ahead(dst.seq_low, ack);
    let reset_fits = !has(flag::RST) || ahead(tcp.seq, src.seq_low).abs() <= 1;
    let fits = ahead(src.seq_high, end) >= 0
        && ahead(seq, src.seq_low.wrapping_sub(dst.max_window << dst_shift)) >= 0
        && skew >= -MAX_ACK_WINDOW
        && skew <= MAX_ACK_WINDOW << src_shift
        && reset_fits;
    if !fits {
        // Picked up in the middle, or closing: loose limits, and only the end is followed.
        let loose = dst.state < TcpState::SynSent
            || dst.state >= TcpState::FinWait2
            || src.state >= TcpState::FinWait2;
        let near =
            ahead(src.seq_high, end) + MAX_ACK_WINDOW >= 0 && ahead(seq, src.seq_low) + MAX_ACK_WINDOW >= 0;
        if !(loose && near) {
            return Verdict::Mismatch;
        }
    }
    src.max_window = src.max_window.max(window);
    if ahead(end, src.seq_low) > 0 {
        src.seq_low = end;
    }
    let room = ack.wrapping_add((window << src_shift).max(1));
    if ahead(room, dst.seq_high) >= 0 || dst.seq_high == 1 {
        dst.seq_high = room;
    }
    if fits {
        advance(tcp, src, dst);
    } else {
        if has(flag::FIN) && src.state < TcpState::Closing {
            src.state = TcpState::Closing;
        }
        if has(flag::RST) {
            (src.state, dst.state) = (TcpState::TimeWait, TcpState::TimeWait);
        }
    }
    Verdict::Fits
}

/// Follows a segment by its flags alone (`keep state (sloppy)`).
pub fn follow_sloppy(tcp: &Tcp, src: &mut Peer, dst: &mut Peer) -> Verdict {
    let closed = TcpState::FinWait2;
    if tcp.flags & (flag::SYN | flag::ACK) == flag::SYN && src.state >= closed && dst.state >= closed {
        return Verdict::Reused;
    }
    // A sloppy state may see one direction only: an acknowledgement tells that the other end has answered.
    if tcp.flags & flag::ACK != 0 && dst.state == TcpState::Closed {
        dst.state = TcpState::Established;
        if src.state < TcpState::Established {
            src.state = TcpState::Established;
        }
    }
    advance(tcp, src, dst);
    Verdict::Fits
}

fn advance(tcp: &Tcp, src: &mut Peer, dst: &mut Peer) {
    let has = |bit: u8| tcp.flags & bit != 0;
    if has(flag::SYN) && src.state < TcpState::SynSent {
        src.state = TcpState::SynSent;
    }
    if has(flag::FIN) && src.state < TcpState::Closing {
        src.state = TcpState::Closing;
    }
    if has(flag::ACK) {
        match dst.state {
            TcpState::SynSent => dst.state = TcpState::Established,
            TcpState::Closing => dst.state = TcpState::FinWait2,
            _ => {}
        }
    }
    if has(flag::RST) {
        (src.state, dst.state) = (TcpState::TimeWait, TcpState::TimeWait);
    }
}

/// Which timeout of `set timeout` a connection is under.
pub fn timeout(src: &Peer, dst: &Peer) -> Timeout {
    let (low, high) = (src.state.min(dst.state), src.state.max(dst.state));
    if low >= TcpState::FinWait2 {
        Timeout::TcpClosed
    } else if low >= TcpState::Closing {
        Timeout::TcpFinwait
    } else if low < TcpState::Established {
        Timeout::TcpOpening
    } else if high >= TcpState::Closing {
        Timeout::TcpClosing
    } else {
        Timeout::TcpEstablished
    }
}
