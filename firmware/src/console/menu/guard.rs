//! A session that began before setup was let in without a password. When the appliance has been set up from elsewhere
//! (another console, a setup file), it ends, with the shell it may have open: whoever comes to that terminal later
//! is to log in.

use std::io::{Write, stdin, stdout};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{getpgrp, getpid, tcgetpgrp};

use crate::api::console::Shown;
use crate::console::client::Client;

/// From one look at the appliance to the next.
const LOOK: Duration = Duration::from_secs(1);

/// Watches from a thread of its own for the life of the process.
pub struct Guard {
    /// Setup is being answered in this session, or was.
    ours: Arc<AtomicBool>,
}

impl Guard {
    pub fn begin(client: &Client) -> Self {
        let ours = Arc::new(AtomicBool::new(false));
        let (client, held) = (client.clone(), ours.clone());
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(LOOK);
                let set_up = |seen: Shown| seen.configured;
                if !held.load(Ordering::SeqCst)
                    && client.get("/setup").is_ok_and(set_up)
                    && !held.load(Ordering::SeqCst)
                {
                    end();
                }
            }
        });
        Self { ours }
    }

    /// Setup begins to be answered here.
    pub fn asking(&self) {
        self.ours.store(true, Ordering::SeqCst);
    }

    /// Setup was answered here, or left.
    pub fn asked(&self, set_up: bool) {
        self.ours.store(set_up, Ordering::SeqCst);
    }
}

/// As if the line were hung up. A shell with job control is a process group of its own.
fn end() {
    let mut out = stdout();
    let told = out.write_all(b"\r\n[!] The appliance has been set up on another terminal: log in.\r\n");
    // Nobody may be there to read it.
    let _ = told.and_then(|()| out.flush());
    if let Ok(front) = tcgetpgrp(stdin())
        && front != getpgrp()
    {
        let _ = killpg(front, Signal::SIGHUP);
    }
    let _ = kill(getpid(), Signal::SIGHUP);
}
