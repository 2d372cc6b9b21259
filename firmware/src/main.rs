//! The appliance's one program.

fn main() {
    println!("aifw {}", env!("CARGO_PKG_VERSION"));
}
