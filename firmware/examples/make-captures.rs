//! Writes the demonstration captures: `cargo run -p aifw --example make-captures [DIR]`; into `firmware/captures`
//! unless told otherwise.

use std::error::Error;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args_os()
        .nth(1)
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/captures")), PathBuf::from);
    std::fs::create_dir_all(&directory)?;
    for (name, bytes) in
        [("office.pcap", aifw::pf::sim::demo::office()?), ("scans.pcap", aifw::pf::sim::demo::scans()?)]
    {
        let path = directory.join(name);
        std::fs::write(&path, &bytes)?;
        println!("{}: {} bytes", path.display(), bytes.len());
    }
    Ok(())
}
