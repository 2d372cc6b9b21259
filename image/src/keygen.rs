//! `cargo image keygen`: the key that releases are signed with.

use std::path::PathBuf;

use crate::release;
use crate::tool::Error;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Where the signing key is put, for its owner alone; one that is there is not written over
    #[arg(value_name = "FILE", default_value = "release.pem")]
    output: PathBuf,
}

/// Makes a signing key; prints its public half as a line for `cargo image build --release-keys`.
pub fn run_command(arguments: &Arguments) -> Result<(), Error> {
    let public = release::generate(&arguments.output)?;
    eprintln!("The signing key is in {}; whoever has it can sign updates.", arguments.output.display());
    eprintln!("Its public half, for the file that `cargo image build --release-keys` takes:");
    println!("{public}");
    Ok(())
}
