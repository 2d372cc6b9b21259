//! Packets a second through the pf simulator with 10, 1,000 and 10,000 rules: `cargo bench -p aifw --bench
//! simulator`; `-- --quick` for a short run.

use std::error::Error;

use aifw::pf::sim::measure::measure;

fn main() -> Result<(), Box<dyn Error>> {
    let packets = if std::env::args().any(|argument| argument == "--quick") { 5_000 } else { 40_000 };
    println!("\nPackets through the simulator");
    println!("{:>7} {:>10} {:>14} {:>14} {:>14}", "rules", "load", "new flows/s", "known/s", "blocked/s");
    for rules in [10, 1_000, 10_000] {
        let m = measure(rules, packets)?;
        println!(
            "{:>7} {:>10.1?} {:>14.0} {:>14.0} {:>14.0}",
            m.rules, m.load, m.new_flows_per_second, m.known_flows_per_second, m.blocked_per_second
        );
    }
    Ok(())
}
