#![allow(clippy::unwrap_used, clippy::expect_used)]
use super::*;

#[test]
fn the_files_are_what_this_program_makes() {
    for (name, made) in [("office", office().unwrap()), ("scans", scans().unwrap())] {
        let path = format!("{}/captures/{name}.pcap", env!("CARGO_MANIFEST_DIR"));
        let kept = std::fs::read(&path).unwrap();
        assert!(made.len() < 300_000, "{name}: {} bytes", made.len());
        assert!(made == kept, "{path} differs: cargo run -p aifw --example make-captures");
    }
}
