//! The first boot of a new firmware: its signs of health are looked for until all are there, or the time is over
//! (`update::trial`). Called once by what has started the appliance, as soon as it listens.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::api::App;
use crate::supervisor::from_here;
use crate::update::health::{self, Signs};
use crate::update::place::Directory;
use crate::update::state::{Phase, State};

const LOOK: Duration = Duration::from_secs(2);
const CONNECT: Duration = Duration::from_secs(2);

/// Where requests are answered.
#[derive(Debug, Clone, Default)]
pub struct Doors {
    pub addresses: Vec<SocketAddr>,
    pub socket: Option<PathBuf>,
}

/// Whether the firmware that runs was to be booted once, to be judged; for one that cannot open its store.
pub fn is_on_trial(state_dir: &Path) -> bool {
    let state = State::load(&Directory(state_dir.to_owned()));
    state.is_ok_and(|state| matches!(state.phase, Phase::Trying { .. }))
}

/// Judges the firmware, if it is on trial, and confirms or rejects this boot. `loaded` is what became of loading the
/// rules.
pub async fn judge(app: Arc<App>, doors: Doors, loaded: Result<(), String>) {
    let Some(attempt) = app.updater.on_trial() else {
        // Without its data partition it may be on trial and not know.
        if let Some(why) = app.emergency.clone() {
            let updater = app.updater.clone();
            if let Err(error) = blocking::unblock(move || updater.leave_if_booted_once(&why)).await {
                log::error!("{error}");
            }
        }
        return;
    };
    let begun = Instant::now();
    loop {
        let signs = signs(&app, &doors, &loaded).await;
        let faults = health::faults(&signs, &attempt.links);
        let updater = app.updater.clone();
        if faults.is_empty() {
            if let Err(error) = blocking::unblock(move || updater.confirm_boot()).await {
                log::error!("the new firmware is healthy, but cannot be made permanent: {error}");
            } else {
                return;
            }
        } else if begun.elapsed() > health::PATIENCE {
            let why = faults.join("; ");
            if let Err(error) = blocking::unblock(move || updater.reject_boot(&why)).await {
                log::error!("{error}");
            }
            return;
        }
        async_io::Timer::after(LOOK).await;
    }
}

async fn signs(app: &Arc<App>, doors: &Doors, loaded: &Result<(), String>) -> Signs {
    let (app, doors) = (app.clone(), doors.clone());
    let loaded = loaded.clone();
    blocking::unblock(move || Signs {
        store: app.emergency.clone().map_or(Ok(()), Err),
        packet_filter: loaded.and_then(|()| app.applier.machine().intact()),
        api: answers(&doors),
        links: app.platform.interfaces().map(|found| health::links(&found)).unwrap_or_default(),
    })
    .await
}

/// Whether somebody answers at every door. On the local socket a whole request is made, on the others (TLS) a
/// connection is enough.
fn answers(doors: &Doors) -> Result<(), String> {
    for address in &doors.addresses {
        TcpStream::connect_timeout(&from_here(*address), CONNECT)
            .map_err(|error| format!("{address}: {error}"))?;
    }
    doors.socket.as_deref().map_or(Ok(()), asked)
}

fn asked(socket: &Path) -> Result<(), String> {
    use std::io::{Read, Write};
    let ask = || -> std::io::Result<bool> {
        let mut stream = std::os::unix::net::UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(CONNECT))?;
        stream.write_all(b"GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut first = [0; 12];
        stream.read_exact(&mut first)?;
        Ok(&first == b"HTTP/1.1 200")
    };
    match ask() {
        Ok(true) => Ok(()),
        Ok(false) => Err(format!("{}: no good answer", socket.display())),
        Err(error) => Err(format!("{}: {error}", socket.display())),
    }
}
