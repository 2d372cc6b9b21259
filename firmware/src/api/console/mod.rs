//! What only somebody at the machine may do: first setup, resetting passwords and the appliance, installing to a
//! disk (contract/console.md). These operations exist on the local socket for root alone; no network credential
//! opens them. The room `console` is their client.

mod disks;
mod machine;
mod reset;
mod setup;
mod state;

pub use machine::{Present, Restarted, Shown, ShownInterface};
pub use setup::{Checked, Done, Key, Keys, configured};
pub use state::{Installation, KEYS_OF, LocalState, Reached};

use super::{Access, Route};

pub fn routes() -> Vec<Route> {
    let local = Access::Local;
    vec![
        Route::new(
            "GET",
            "/setup",
            local,
            "Whether the appliance is set up, and its machine",
            machine::shown,
        )
        .answers::<machine::Shown>(200),
        Route::new("POST", "/setup", local, "Set up, or set up again, from a setup file", setup::set_up)
            .answers::<setup::Done>(201),
        Route::new("POST", "/setup/check", local, "Judge a setup file; nothing is changed", setup::check)
            .without_snapshot()
            .answers::<setup::Checked>(200),
        Route::new("POST", "/setup/keys", local, "SSH keys that a GitHub user has published", setup::keys)
            .without_snapshot()
            .takes::<setup::KeysRequest>()
            .answers::<setup::Keys>(200),
        Route::new("PUT", "/console/interfaces", local, "Give WAN and LAN to interfaces", machine::assign)
            .takes::<machine::Assignment>(),
        Route::new("PUT", "/console/address", local, "Give WAN or LAN another address", machine::readdress)
            .takes::<machine::NewAddress>(),
        Route::new("POST", "/console/power", local, "Restart the machine, or switch it off", machine::power)
            .without_snapshot()
            .takes::<machine::Switch>(),
        Route::new("PUT", "/console/root-password", local, "Set root's password", reset::root_password)
            .takes::<reset::RootPassword>(),
        Route::new("PUT", "/console/admin-password", local, "Let an administrator in again", reset::admin)
            .takes::<reset::AdminPassword>(),
        Route::new("POST", "/console/restart-services", local, "Restart every service", machine::restart)
            .without_snapshot()
            .answers::<machine::Restarted>(200),
        Route::new(
            "POST",
            "/console/factory-reset",
            local,
            "Forget everything and start anew",
            reset::factory,
        )
        .without_snapshot()
        .takes::<reset::Factory>(),
        Route::new("GET", "/console/disks", local, "Disks of the machine", disks::list)
            .answers::<Vec<crate::platform::hardware::DiskDrive>>(200),
        Route::new("GET", "/console/install", local, "How far an installation is", disks::progress)
            .answers::<Option<Installation>>(200),
        Route::new("POST", "/console/install", local, "Install to another disk", disks::install)
            .without_snapshot()
            .takes::<disks::Install>()
            .answers::<Option<Installation>>(202),
    ]
}
