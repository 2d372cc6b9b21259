//! sshd(8): a supervised child whose host keys last on the data partition. Its configuration is checked by sshd
//! itself before it takes the old one's place; a running sshd takes a new one without cutting open sessions. Called by
//! `apply/`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_lock::Mutex;
use nix::sys::signal::Signal;

use super::{ServiceError, files};
use crate::atomic;
use crate::compile::os::host::{HOST_KEYS, SshPlaces, SshSettings};
use crate::config::Timestamp;
use crate::supervisor::{Listening, Probe, ServiceSpec, Supervisor, SupervisorError};
use crate::tool::Tool;

/// Its name under supervision.
pub const NAME: &str = "sshd";
/// A slow machine needs some seconds for an RSA key.
const KEYGEN: Duration = Duration::from_secs(120);
const CHECK: Duration = Duration::from_secs(20);
/// From HUP to listening again.
const TAKES_UP: Duration = Duration::from_secs(10);

/// What it says on standard error when it does, one line for each address.
const LISTENS: &str = "Server listening on ";
/// So many of its last lines are looked at.
const SAID: usize = 20;

/// The SSH daemon of this machine.
pub struct Sshd {
    supervisor: Supervisor,
    places: SshPlaces,
    programs: Programs,
    /// Held for the length of a change: what it runs with, if it runs.
    running: Mutex<Option<SshSettings>>,
}

/// Where its programs are.
#[derive(Debug, Clone)]
pub enum Programs {
    /// Nothing is started or checked: the files alone are written (a sandbox is no machine to log in to).
    None,
    At {
        sshd: PathBuf,
        keygen: PathBuf,
    },
}

impl Programs {
    /// FreeBSD's own.
    pub fn of_freebsd() -> Self {
        Self::At { sshd: "/usr/sbin/sshd".into(), keygen: "/usr/bin/ssh-keygen".into() }
    }
}

/// Why it does not listen as it was told to, and what it said since.
struct NotUp {
    reason: String,
    last_lines: Vec<String>,
}

impl Sshd {
    pub fn new(supervisor: Supervisor, places: SshPlaces, programs: Programs) -> Self {
        Self { supervisor, places, programs, running: Mutex::default() }
    }

    pub fn places(&self) -> &SshPlaces {
        &self.places
    }

    /// Makes it as wanted. When sshd refuses its new configuration, it runs on with the one before.
    pub async fn apply(&self, wanted: &SshSettings) -> Result<(), ServiceError> {
        let mut running = self.running.lock().await;
        let (places, programs, settings) = (self.places.clone(), self.programs.clone(), wanted.clone());
        blocking::unblock(move || install(&places, &programs, &settings)).await?;
        let Programs::At { sshd, .. } = &self.programs else { return Ok(()) };
        if !wanted.enabled {
            *running = None;
            return match self.supervisor.stop(NAME).await {
                Ok(()) | Err(SupervisorError::Unknown(_)) => Ok(()),
                Err(error) => Err(ServiceError::Supervisor(error)),
            };
        }
        let alive = self.supervisor.status(NAME).is_ok_and(|status| status.pid.is_some());
        if alive && running.as_ref() == Some(wanted) {
            return Ok(());
        }
        let listening = Listening(self.address(wanted.port));
        self.supervisor.define(self.spec(sshd, listening));
        if alive {
            // It starts itself anew, with the same process number; sessions are processes of their own.
            let asked = Timestamp::now();
            self.supervisor.signal(NAME, Signal::SIGHUP).map_err(ServiceError::Supervisor)?;
            if let Err(failed) = self.listens_anew(asked, &listening).await {
                return Err(self.back_to(running.as_ref(), sshd, failed).await);
            }
        } else {
            self.supervisor.start(NAME).await.map_err(ServiceError::Supervisor)?;
        }
        *running = Some(wanted.clone());
        Ok(())
    }

    /// The one of before listens until it has heard the signal, and drops whoever comes then: what counts is that the
    /// new one says it listens.
    async fn listens_anew(&self, asked: Timestamp, listening: &Listening) -> Result<(), NotUp> {
        let pid = || self.supervisor.status(NAME).ok().and_then(|status| status.pid);
        let before = pid();
        let end = Instant::now() + TAKES_UP;
        loop {
            let lines = self.supervisor.log(NAME, SAID).unwrap_or_default();
            let mut since = lines.iter().filter(|said| said.at >= asked);
            let reason = match since.any(|said| said.line.contains(LISTENS)) {
                false => "it does not say that it listens".to_owned(),
                true => match listening.probe().await {
                    Ok(()) => return Ok(()),
                    Err(reason) => reason,
                },
            };
            let ended = pid() != before;
            if ended || Instant::now() > end {
                let reason = if ended { "it ended".to_owned() } else { reason };
                let since = lines.into_iter().filter(|said| said.at >= asked);
                return Err(NotUp { reason, last_lines: since.map(|said| said.line).collect() });
            }
            async_io::Timer::after(Duration::from_millis(20)).await;
        }
    }

    /// The way in stays open: it runs with its configuration of before.
    async fn back_to(&self, before: Option<&SshSettings>, sshd: &Path, failed: NotUp) -> ServiceError {
        let NotUp { reason, last_lines } = failed;
        let mut rolled_back = false;
        if let Some(before) = before.cloned() {
            let (places, programs, port) = (self.places.clone(), self.programs.clone(), before.port);
            let installed = blocking::unblock(move || install(&places, &programs, &before)).await;
            self.supervisor.define(self.spec(sshd, Listening(self.address(port))));
            rolled_back = installed.is_ok() && self.supervisor.restart(NAME).await.is_ok();
        }
        ServiceError::NotReady { service: NAME, reason, last_lines, rolled_back }
    }

    fn address(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.places.listen.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), port)
    }

    /// In the foreground, with its log on standard error.
    fn spec(&self, program: &Path, listening: Listening) -> ServiceSpec {
        let mut spec = ServiceSpec::new(NAME, program).arg("-D").arg("-e").arg("-f").arg(&self.places.config);
        spec.readiness = Arc::new(listening);
        spec
    }
}

/// Keys and configuration on the disk, the configuration only if sshd takes it.
fn install(places: &SshPlaces, programs: &Programs, settings: &SshSettings) -> Result<(), ServiceError> {
    files::make_directory(&places.keys, 0o755)?;
    let keys = places.authorized_keys();
    if let Some(folder) = keys.parent() {
        files::make_directory(folder, 0o755)?;
    }
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error| ServiceError::io(&path, error)
    };
    atomic::write_if_different(&keys, settings.authorized_keys.as_bytes(), 0o600).map_err(failed(&keys))?;
    if let Programs::At { sshd, keygen } = programs {
        make_host_keys(places, keygen)?;
        let candidate = places.config.with_extension("candidate");
        files::write(&candidate, settings.config.as_bytes(), 0o644)?;
        let checked = check(sshd, &candidate);
        std::fs::remove_file(&candidate).map_err(failed(&candidate))?;
        checked?;
    }
    let written = atomic::write_if_different(&places.config, settings.config.as_bytes(), 0o644);
    written.map(|_| ()).map_err(failed(&places.config))
}

/// Each made once, and kept: clients know the machine by them.
fn make_host_keys(places: &SshPlaces, keygen: &Path) -> Result<(), ServiceError> {
    for kind in HOST_KEYS {
        let path = places.host_key(kind);
        if std::fs::metadata(&path).is_ok_and(|known| known.len() > 0) {
            continue;
        }
        // Under another name first: a power cut leaves no half of a key under the right one.
        let fresh = path.with_extension("fresh");
        let public = |path: &Path| path.with_extension("fresh.pub");
        for left in [&fresh, &public(&path)] {
            std::fs::remove_file(left).ok();
        }
        let name = fresh.display().to_string();
        let arguments = ["-q", "-t", kind, "-N", "", "-C", "aifw", "-f", &name];
        let ended = Tool::new(keygen, KEYGEN).run(&arguments, "");
        let ended = ended.map_err(|error| ServiceError::Refused(error.to_string()))?;
        if !ended.success() {
            return Err(ServiceError::Refused(format!("ssh-keygen: {}", ended.stderr.trim())));
        }
        let renamed = std::fs::rename(public(&path), path.with_extension("pub"))
            .and_then(|()| std::fs::rename(&fresh, &path));
        renamed.map_err(|error| ServiceError::io(&path, error))?;
    }
    Ok(())
}

/// `sshd -t`.
pub fn check(sshd: &Path, config: &Path) -> Result<(), ServiceError> {
    let arguments = [std::ffi::OsStr::new("-t"), "-f".as_ref(), config.as_os_str()];
    let ended = Tool::new(sshd, CHECK).run(&arguments, "");
    let ended = ended.map_err(|error| ServiceError::Refused(error.to_string()))?;
    match ended.success() {
        true => Ok(()),
        false => {
            let said = match (ended.stderr.trim(), ended.code) {
                ("", None) => "ended by a signal".to_owned(),
                ("", Some(code)) => format!("exit status {code}"),
                (said, _) => said.to_owned(),
            };
            Err(ServiceError::Refused(format!("sshd: {said}")))
        }
    }
}

#[cfg(test)]
mod tests;
