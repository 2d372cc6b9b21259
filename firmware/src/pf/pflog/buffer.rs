//! What read(2) on a bpf(4) device returns: records one behind the other, each with `struct bpf_hdr` in front.
//! Pure, so that every host tests it; the layout is that of 64-bit FreeBSD, little-endian.

use crate::config::Timestamp;

/// Seconds, microseconds, captured and original length, length of this header: 8 + 8 + 4 + 4 + 2 bytes.
const HEADER: usize = 26;

/// The records of one buffer, each with its time. A buffer that ends within a record ends the walk.
pub fn records(buffer: &[u8]) -> impl Iterator<Item = (Timestamp, &[u8])> {
    let mut rest = buffer;
    std::iter::from_fn(move || {
        let header = rest.first_chunk::<HEADER>()?;
        let wide = |at: usize| header[at..].first_chunk().map(|bytes| i64::from_le_bytes(*bytes));
        let (seconds, micros) = (wide(0)?, wide(8)?);
        let captured = header[16..].first_chunk().map(|bytes| u32::from_le_bytes(*bytes))?;
        let captured = usize::try_from(captured).ok()?;
        let length = usize::from(u16::from_le_bytes([header[24], header[25]]));
        if length < HEADER {
            return None;
        }
        let record = rest.get(length..length.checked_add(captured)?)?;
        // BPF_WORDALIGN: the next record begins at a multiple of sizeof(long). The last one is not padded.
        let next = (length + captured).next_multiple_of(8);
        rest = rest.get(next..).unwrap_or_default();
        let nanos = i32::try_from(micros.checked_mul(1000)?).ok()?;
        Some((Timestamp::new(seconds, nanos).ok()?, record))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A record as the kernel writes it, padded like one that another follows.
    fn record(seconds: i64, micros: i64, data: &[u8]) -> Vec<u8> {
        let mut bytes = [seconds.to_le_bytes(), micros.to_le_bytes()].concat();
        for length in [data.len() as u32, 1500] {
            bytes.extend(length.to_le_bytes());
        }
        bytes.extend(32u16.to_le_bytes());
        bytes.resize(32, 0);
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    }

    #[test]
    fn records_follow_each_other_at_multiples_of_eight() {
        let mut buffer = record(1_795_470_262, 347_491, b"first");
        buffer.extend(record(1_795_470_263, 0, b"second record"));
        buffer.truncate(buffer.len() - 3);
        let found: Vec<_> = records(&buffer).map(|(at, data)| (at.to_string(), data)).collect();
        let expected: [(String, &[u8]); 2] = [
            ("2026-11-23T21:44:22.347491Z".into(), b"first"),
            ("2026-11-23T21:44:23Z".into(), b"second record"),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn damaged_buffers_end_the_walk() {
        assert_eq!(records(&[]).count(), 0);
        let whole = record(1, 2, b"0123456789abcdef");
        for cut in 0..whole.len() {
            assert_eq!(records(&whole[..cut]).count(), 0, "{cut}");
        }
        let mut no_header = whole.clone();
        no_header[24] = 0;
        assert_eq!(records(&no_header).count(), 0);
        let mut huge = whole;
        huge[16..20].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(records(&huge).count(), 0);
    }
}
