//! gzip (RFC 1952) on request: text answers above about 1 KiB, never streams. What is serialised once is also
//! compressed once.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::Reply;
use super::reply::Payload;

/// Smaller answers are sent as they are.
const WORTH_IT: usize = 1024;
/// Larger ones are compressed off the threads that serve connections.
const INLINE: usize = 32 * 1024;
/// Compressed forms kept at most.
const KEPT: usize = 64;

/// Compresses answers, and remembers the compressed form of shared ones as long as they live.
#[derive(Default)]
pub(super) struct Encoder {
    cache: Mutex<Vec<Entry>>,
    /// One at a time, so that many clients asking for the same new list cost one compression.
    building: async_lock::Mutex<()>,
}

struct Entry {
    /// Keeps the address taken, so that equal addresses mean the same bytes.
    plain: Weak<[u8]>,
    packed: Arc<[u8]>,
}

impl Encoder {
    /// Replaces the body by its compressed form if the client takes it and it is worth it.
    pub(super) async fn encode(&self, accepts: Option<&str>, reply: &mut Reply) {
        if !compressible(reply.content_type) || matches!(reply.status, 101 | 204 | 206 | 304) {
            return;
        }
        let (Payload::Bytes(_) | Payload::Shared(_)) = reply.body else { return };
        reply.headers.push(("Vary", "Accept-Encoding".into()));
        if !accepts.is_some_and(takes_gzip) || reply.has_header("Content-Encoding") {
            return;
        }
        let packed = match &mut reply.body {
            Payload::Bytes(bytes) if bytes.len() > INLINE => {
                let plain = std::mem::take(bytes);
                Payload::Bytes(blocking::unblock(move || gzip(&plain, Compression::fast())).await)
            }
            Payload::Bytes(bytes) if bytes.len() >= WORTH_IT => {
                Payload::Bytes(gzip(bytes, Compression::fast()))
            }
            Payload::Shared(bytes) if bytes.len() >= WORTH_IT => Payload::Shared(self.shared(bytes).await),
            _ => return,
        };
        reply.body = packed;
        reply.headers.push(("Content-Encoding", "gzip".into()));
    }

    async fn shared(&self, plain: &Arc<[u8]>) -> Arc<[u8]> {
        if let Some(packed) = self.known(plain) {
            return packed;
        }
        let _one = self.building.lock().await;
        if let Some(packed) = self.known(plain) {
            return packed;
        }
        let bytes = plain.clone();
        let packed: Arc<[u8]> = blocking::unblock(move || gzip(&bytes, Compression::default())).await.into();
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.retain(|entry| entry.plain.strong_count() > 0);
        if cache.len() >= KEPT {
            cache.remove(0);
        }
        cache.push(Entry { plain: Arc::downgrade(plain), packed: packed.clone() });
        packed
    }

    fn known(&self, plain: &Arc<[u8]>) -> Option<Arc<[u8]>> {
        let cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |entry: &&Entry| std::ptr::addr_eq(entry.plain.as_ptr(), Arc::as_ptr(plain));
        cache.iter().find(same).map(|entry| entry.packed.clone())
    }
}

fn gzip(plain: &[u8], level: Compression) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 4), level);
    // Writing to memory cannot fail.
    let _ = encoder.write_all(plain);
    encoder.finish().unwrap_or_default()
}

fn compressible(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default();
    essence != "text/event-stream"
        && (essence.starts_with("text/")
            || matches!(
                essence,
                "application/json" | "application/javascript" | "application/manifest+json" | "image/svg+xml"
            ))
}

/// Whether `Accept-Encoding` (RFC 9110 §12.5.3) allows gzip.
fn takes_gzip(accepts: &str) -> bool {
    let weight = |coding: &str| {
        accepts.split(',').find_map(|item| {
            let mut parts = item.split(';').map(str::trim);
            let name = parts.next()?;
            if !name.eq_ignore_ascii_case(coding) {
                return None;
            }
            let q = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
            Some(q.map_or(1.0, |q| q.parse::<f32>().unwrap_or(0.0)))
        })
    };
    weight("gzip").or_else(|| weight("*")).is_some_and(|q| q > 0.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Read;

    use super::*;
    use crate::api::reply::JSON;

    fn packed(reply: &Reply) -> Option<Vec<u8>> {
        let encoded = reply.headers.contains(&("Content-Encoding", "gzip".into()));
        let bytes = match &reply.body {
            Payload::Bytes(bytes) => bytes.clone(),
            Payload::Shared(bytes) => bytes.to_vec(),
            _ => return None,
        };
        encoded.then(|| {
            let mut plain = Vec::new();
            flate2::read::GzDecoder::new(bytes.as_slice()).read_to_end(&mut plain).unwrap();
            plain
        })
    }

    #[test]
    fn accept_encoding_is_read_as_the_rfc_says() {
        for yes in ["gzip", "deflate, gzip;q=0.5", "br, *", "GZIP"] {
            assert!(takes_gzip(yes), "{yes}");
        }
        for no in ["", "br", "gzip;q=0", "*;q=0", "gzip;q=0, *"] {
            assert!(!takes_gzip(no), "{no}");
        }
    }

    #[test]
    fn shared_bodies_are_compressed_once() {
        smol::block_on(async {
            let encoder = Encoder::default();
            let plain: Arc<[u8]> = vec![b'x'; 5000].into();
            let mut first = Reply::shared(JSON, plain.clone());
            encoder.encode(Some("gzip"), &mut first).await;
            let mut second = Reply::shared(JSON, plain.clone());
            encoder.encode(Some("gzip"), &mut second).await;
            assert_eq!(packed(&first).unwrap(), plain.to_vec());
            let (Payload::Shared(one), Payload::Shared(two)) = (&first.body, &second.body) else { panic!() };
            assert!(Arc::ptr_eq(one, two));
        });
    }

    #[test]
    fn small_and_streaming_answers_stay_as_they_are() {
        smol::block_on(async {
            let encoder = Encoder::default();
            let mut small = Reply::message("hello");
            encoder.encode(Some("gzip"), &mut small).await;
            assert_eq!(packed(&small), None);
            let mut events = Reply::bytes(200, "text/event-stream", vec![b'x'; 5000]);
            encoder.encode(Some("gzip"), &mut events).await;
            assert_eq!(packed(&events), None);
            let mut large = Reply::bytes(200, JSON, vec![b'x'; 100_000]);
            encoder.encode(Some("gzip"), &mut large).await;
            assert_eq!(packed(&large).unwrap().len(), 100_000);
        });
    }
}
