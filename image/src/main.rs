//! The project's own tool, behind the cargo aliases: runs the sandbox appliance (`cargo appliance`), builds the
//! daemons that it runs (`cargo image components`) and the firmware for FreeBSD (`cargo image cross`), and makes and
//! checks what is published: the disk image and the signed update package. A person or tests/run calls it on a
//! development host; it is not part of the appliance and nothing of the firmware uses it.

mod accounts;
mod appliance;
mod build;
mod cargo;
mod components;
mod cross;
mod disk;
mod elf;
mod inspect;
mod keygen;
mod progress;
mod release;
mod sets;
mod slot;
mod tarball;
mod tool;
mod tree;
mod ufs;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Builds, runs and checks the appliance.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build the firmware and run the sandbox appliance on http://127.0.0.1:8080
    Appliance(appliance::Arguments),
    /// Build the daemons that the sandbox appliance and the tests run
    Components(components::Arguments),
    /// Compile and link the firmware for x86_64-unknown-freebsd
    Cross(cross::Arguments),
    /// Build the disk image
    Build(Box<build::Arguments>),
    /// Make the key that updates are signed with
    Keygen(keygen::Arguments),
    /// Make the signed update package from an image
    Tarball(tarball::Arguments),
    /// Show what is in an image or an update package
    Inspect(inspect::Arguments),
    /// Check an image or an update package
    Verify(verify::Arguments),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Appliance(arguments) => appliance::run(&arguments),
        Command::Components(arguments) => components::run_command(&arguments),
        Command::Cross(arguments) => cross::run_command(&arguments),
        Command::Build(arguments) => build::run_command(&arguments),
        Command::Keygen(arguments) => keygen::run_command(&arguments),
        Command::Tarball(arguments) => tarball::run_command(&arguments),
        Command::Inspect(arguments) => inspect::run_command(&arguments),
        Command::Verify(arguments) => verify::run_command(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
