//! How a sandbox ends, and how it comes up again: a machine that is told to reboot does so, and one that is told to
//! restart its firmware keeps running from the same slot. The process takes the place of itself (execve(2)), so that
//! whoever waits for it need not know.

use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future;

use super::ending::Ending;
use super::{Appliance, StartError};
use crate::platform::Power;
use crate::platform::sandbox::Sandbox;
use crate::update::slots::SlotName;
use crate::update::slots::image::SandboxDisk;

/// Where the process before listened.
const LISTEN: &str = "AIFW_SANDBOX_LISTEN";
/// The slot that goes on running: this is a restart of the firmware, not of the machine.
const SLOT: &str = "AIFW_SANDBOX_SLOT";
/// How often the power switch is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// Waits for the end.
pub async fn wait(
    appliance: &Appliance,
    stop: &async_channel::Receiver<()>,
    platform: &Arc<Sandbox>,
) -> Ending {
    let power = async {
        loop {
            async_io::Timer::after(LOOK).await;
            match platform.power_due() {
                Some(Power::Reboot) => return Ending::Reboot,
                Some(Power::PowerOff) => return Ending::Off,
                None => {}
            }
        }
    };
    future::or(appliance.until_end(stop), power).await
}

/// Comes up again. Returns only if there is nothing to do, or if it cannot be done.
pub fn again(ending: Ending, address: SocketAddr, slot: Option<SlotName>) -> Result<(), StartError> {
    let mut command = std::process::Command::new(std::env::current_exe()?);
    command.args(std::env::args_os().skip(1)).env(LISTEN, address.to_string()).env_remove(SLOT);
    match (ending, slot) {
        (Ending::Off, _) => return Ok(()),
        (Ending::Restart, Some(slot)) => drop(command.env(SLOT, slot.label())),
        _ => {}
    }
    Err(command.exec().into())
}

/// Where to listen: where the process before did, if there was one.
pub fn address(asked: SocketAddr) -> SocketAddr {
    std::env::var(LISTEN).ok().and_then(|text| text.parse().ok()).unwrap_or(asked)
}

/// The disk of a sandbox: the slot that gptboot chooses, or that goes on running.
pub fn disk(state: &Path, slot_bytes: u64) -> Result<SandboxDisk, StartError> {
    let path = state.join("disk.img");
    let same = std::env::var(SLOT).ok();
    let same = SlotName::BOTH.into_iter().find(|slot| Some(slot.label()) == same.as_deref());
    let disk = match same {
        Some(slot) => Ok(SandboxDisk::running_from(&path, slot_bytes, slot)),
        None => SandboxDisk::power_on(&path, slot_bytes),
    };
    disk.map_err(|error| StartError::Input { what: path.display().to_string(), reason: error.to_string() })
}
