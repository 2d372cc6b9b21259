//! The updater: what the API, the maintenance window and the boot ask for. Every call may block; one that changes
//! something writes its row of the history.

use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use schemars::JsonSchema;
use semver::Version;
use serde::{Deserialize, Serialize};

use super::download::{self, DownloadError};
use super::health;
use super::history::{self, Action, Outcome};
use super::job::{Busy, Desk, Job, JobKind, Turn};
use super::machine::{self, Boot, Machine, MachineError, Stage};
use super::manifest::{Keys, KeysError, Manifest, Policy};
use super::package;
use super::place::{Directory, Place};
use super::release::{self, Release, ReleaseError};
use super::slots::{SlotName, Slots};
use super::state::{Link, Phase, State};
use crate::config::Timestamp;
use crate::config::update::UpdateSettings;
use crate::platform::{Platform, PlatformError, Power, Scheduled};
use crate::store::DATABASE_FILE;

/// What the last check found; a file of the data partition.
const KNOWN: &str = "update/known.json";
/// Between the answer to a restart and the restart itself.
const BEFORE_RESTART: Duration = Duration::from_secs(2);
/// Most bytes of a package beside its slot image, which may not be compressible at all.
const PACKAGE_OVERHEAD: u64 = 16 * 1024 * 1024;

/// What an updater works with.
pub struct Options {
    pub slots: Arc<dyn Slots>,
    pub platform: Arc<dyn Platform>,
    /// Its files are below `update` there; the store is beside it.
    pub state_dir: PathBuf,
    /// `release.keys`, read anew for each package.
    pub keys: PathBuf,
    /// Of this program.
    pub version: Version,
    /// The machine is simulated: the version told is that of the slot which it runs from, though the program stays
    /// the same.
    pub simulated: bool,
    /// A file that asks for a reboot by being there.
    pub reboot_marker: PathBuf,
    /// Where releases are looked for unless the configuration says otherwise.
    pub release_url: String,
}

#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    #[error("another update, check or rollback is running")]
    Busy,
    #[error(transparent)]
    Release(#[from] ReleaseError),
    #[error("release {version} has no {what} for this machine")]
    NoAsset { version: Version, what: &'static str },
    #[error(transparent)]
    Download(#[from] DownloadError),
    #[error("checksum mismatch")]
    Checksum,
    #[error("sha256: expected a SHA-256 checksum")]
    ChecksumForm,
    #[error(transparent)]
    Machine(#[from] MachineError),
    #[error(transparent)]
    Keys(#[from] KeysError),
    #[error(transparent)]
    Power(#[from] PlatformError),
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl From<Busy> for UpdateError {
    fn from(_: Busy) -> Self {
        Self::Busy
    }
}

/// Base system and packages, both of which are part of the firmware's image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Status {
    pub os_version: String,
    pub last_check: Option<Timestamp>,
    pub pending_os_updates: bool,
    pub pending_pkg_count: usize,
    pub pending_packages: Vec<String>,
    /// What was installed is in force only after a reboot.
    pub needs_reboot: bool,
    pub checking: bool,
    pub installing: bool,
    /// What is being installed, and how far it is.
    pub job: Option<Job>,
}

/// The firmware: what runs, what is there, what can be had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Info {
    /// That the next boot runs.
    pub current_version: String,
    /// That runs now.
    pub running_version: String,
    /// A slot waits for the next boot.
    pub restart_pending: bool,
    /// Empty before the first check.
    pub latest_version: String,
    pub update_available: bool,
    pub release_notes: String,
    pub published_at: String,
    pub tarball_url: Option<String>,
    pub checksum_url: Option<String>,
    pub has_backup: bool,
    pub backup_version: Option<String>,
    pub reboot_recommended: bool,
    pub reboot_reason: Option<String>,
    /// The running firmware was booted once and is not known to be healthy yet.
    pub trying: bool,
}

/// What an install or a rollback did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Installed {
    pub message: String,
    /// A slot waits for the next boot.
    pub restart_required: bool,
    pub reboot_recommended: bool,
    pub reboot_reason: Option<String>,
}

/// What a restart is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switched {
    /// The firmware's process ends and is started again.
    Process,
    /// The machine boots the slot that waits.
    Machine,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Known {
    last_check: Option<Timestamp>,
    release: Option<Release>,
}

/// The updater. One per process, shared.
pub struct Updater {
    pub(super) options: Options,
    pub(super) place: Directory,
    running: Version,
    boot: Boot,
    desk: Desk,
    known: Mutex<Known>,
    restart: (async_channel::Sender<()>, async_channel::Receiver<()>),
}

impl Updater {
    /// Must be called before the store is opened: a firmware that is tried takes over the store here, one that is gone
    /// back to gets it back. An error means that the store is not this firmware's to open; the machine has been told
    /// to reboot then, into the slot before.
    pub fn begin(options: Options) -> Result<Self, UpdateError> {
        let place = Directory(options.state_dir.clone());
        let mut running = options.version.clone();
        let slot = options.slots.running();
        if let (true, Ok(slot)) = (options.simulated, &slot) {
            let state = State::load(&place).unwrap_or_default();
            running = state.content(*slot).map_or(running, |content| content.version.clone());
        }
        let machine = Machine { slots: &*options.slots, place: &place };
        let first = !matches!(place.read(super::state::FILE), Ok(Some(_)));
        let boot = match (&slot, machine.boot(&running)) {
            (_, Ok(boot)) => boot,
            // Not an appliance's disk: it can do all but be updated.
            (Err(error), _) => {
                log::warn!("the firmware cannot be updated here: {error}");
                Boot::Settled
            }
            (Ok(slot), Err(error)) => {
                let on_trial = match State::load(&place).unwrap_or_default().phase {
                    Phase::Ready { attempt } | Phase::Arming { attempt } | Phase::Trying { attempt, .. } => {
                        attempt.target == *slot
                    }
                    _ => false,
                };
                if on_trial {
                    options.platform.power(Power::Reboot, Duration::ZERO)?;
                    return Err(error.into());
                }
                log::error!("the updater: {error}");
                Boot::Settled
            }
        };
        if let (true, Ok(slot)) = (first, slot) {
            machine.learn(slot.other());
        }
        let known = match place.read(KNOWN) {
            Ok(Some(text)) => serde_json::from_slice(&text).unwrap_or_default(),
            _ => Known::default(),
        };
        let updater = Self {
            options,
            place,
            running,
            boot,
            desk: Desk::default(),
            known: Mutex::new(known),
            restart: async_channel::bounded(1),
        };
        updater.tell_of_boot();
        // An upload that was cut off is of no use to anybody; a download may be gone on with.
        if let Ok(folder) = download::folder(&updater.options.state_dir) {
            download::tidy(&folder, Some("aifw-update-"));
        }
        Ok(updater)
    }

    /// Where releases are looked for.
    pub fn release_url(&self, settings: &UpdateSettings) -> String {
        settings.release_url.clone().unwrap_or_else(|| self.options.release_url.clone())
    }
    /// Whether a change is going on.
    pub fn is_busy(&self) -> bool {
        self.desk.now().0.is_some()
    }
    /// What this start found out about itself.
    pub fn boot(&self) -> &Boot {
        &self.boot
    }
    /// The slot that runs; `None` where there are no slots.
    pub fn slot(&self) -> Option<SlotName> {
        self.options.slots.running().ok()
    }
    /// The version that runs.
    pub fn running(&self) -> &Version {
        &self.running
    }
    pub(super) fn machine(&self) -> Machine<'_> {
        Machine { slots: &*self.options.slots, place: &self.place }
    }
    pub(super) fn note(&self, action: Action, status: Outcome, details: impl Into<String>) {
        if let Err(error) = history::add(&self.place, action, status, details) {
            log::error!("the history of updates: {error}");
        }
    }

    /// The newest rows of the history, newest first.
    pub fn history(&self, limit: usize) -> Vec<history::Row> {
        let mut rows = history::load(&self.place);
        rows.reverse();
        rows.truncate(limit);
        rows
    }

    /// A change of the maintenance window.
    pub fn window_changed(&self, enabled: bool, day: &str, user: &str) {
        let word = if enabled { "enabled" } else { "disabled" };
        let details = format!("Maintenance window {word} ({day}) (user {user})");
        self.note(Action::Schedule, Outcome::Configured, details);
    }

    fn known(&self) -> Known {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
    fn remember(&self, change: impl FnOnce(&mut Known)) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut known);
        let written = serde_json::to_vec(&*known).map_err(io::Error::from);
        if let Err(error) = written.and_then(|text| self.place.write(KNOWN, &text)) {
            log::error!("{KNOWN}: {error}");
        }
    }

    /// Asks no network.
    pub fn status(&self, os_version: String) -> Status {
        let info = self.info();
        let packages = match info.update_available {
            true => vec![format!("aifw: {} -> {} [AiFw]", info.current_version, info.latest_version)],
            false => Vec::new(),
        };
        let (job, checking) = self.desk.now();
        Status {
            os_version,
            last_check: self.known().last_check,
            pending_os_updates: info.update_available,
            pending_pkg_count: packages.len(),
            pending_packages: packages,
            needs_reboot: info.restart_pending || self.options.reboot_marker.exists(),
            checking,
            installing: job.is_some(),
            job,
        }
    }

    /// Asks no network.
    pub fn info(&self) -> Info {
        let state = State::load(&self.place).unwrap_or_default();
        let (current, backup) = self.versions(&state);
        let release = self.known().release;
        let notes = release.as_ref().map(|release| release.notes.clone()).unwrap_or_default();
        let (reboot_recommended, reboot_reason) = release::reboot_mark(&notes);
        Info {
            restart_pending: matches!(state.phase, Phase::Ready { .. } | Phase::Arming { .. })
                || current != self.running,
            update_available: release.as_ref().is_some_and(|release| release.version > current),
            latest_version: release.as_ref().map(|found| found.version.to_string()).unwrap_or_default(),
            published_at: release.as_ref().map(|found| found.published_at.clone()).unwrap_or_default(),
            tarball_url: release.as_ref().and_then(|found| found.tarball_url.clone()),
            checksum_url: release.as_ref().and_then(|found| found.checksum_url.clone()),
            release_notes: notes,
            current_version: current.to_string(),
            running_version: self.running.to_string(),
            has_backup: backup.is_some(),
            backup_version: backup.map(|version| version.to_string()),
            reboot_recommended,
            reboot_reason,
            trying: matches!(state.phase, Phase::Trying { .. } | Phase::Committing { .. }),
        }
    }

    /// What the next boot runs, and what a rollback would lead to.
    fn versions(&self, state: &State) -> (Version, Option<Version>) {
        match &state.phase {
            Phase::Ready { attempt } | Phase::Arming { attempt } => {
                (attempt.new.clone(), Some(self.running.clone()))
            }
            Phase::Idle => {
                let other = self.options.slots.running().map(SlotName::other).ok();
                let content = other.and_then(|slot| state.content(slot));
                (self.running.clone(), content.map(|content| content.version.clone()))
            }
            _ => (self.running.clone(), None),
        }
    }

    /// Asks the release server, and remembers what it says. A failure leaves what was known. Called while another
    /// check is going on, it waits for that one.
    pub fn check(&self, url: &str, user: &str) -> Result<Info, UpdateError> {
        let Some(_turn) = self.desk.begin_check() else { return Ok(self.info()) };
        match self.ask(url) {
            Ok(info) => {
                self.note(
                    Action::AifwCheck,
                    Outcome::Completed,
                    format!("{} (user {user})", available(&info)),
                );
                Ok(info)
            }
            Err(error) => {
                self.note(Action::AifwCheck, Outcome::Failed, format!("{error} (user {user})"));
                Err(error)
            }
        }
    }

    /// As [`Updater::check`], told in words and never a failure.
    pub fn check_os(&self, url: &str, user: &str) -> String {
        let Some(_turn) = self.desk.begin_check() else {
            return "OS update check complete. A check was running already".into();
        };
        self.remember(|known| known.last_check = Some(Timestamp::now()));
        let (message, status) = match self.ask(url) {
            Ok(info) => {
                let found = available(&info);
                (format!("Package catalog updated. OS update check complete. {found}"), Outcome::Completed)
            }
            Err(error) => {
                (format!("Package update failed: {error}. OS update check failed"), Outcome::Failed)
            }
        };
        self.note(Action::Check, status, format!("{message} (user {user})"));
        message
    }

    fn ask(&self, url: &str) -> Result<Info, UpdateError> {
        let release = Release::fetch(url)?;
        self.remember(|known| {
            known.last_check = Some(Timestamp::now());
            known.release = Some(release);
        });
        Ok(self.info())
    }

    /// Downloads and installs the release that was found last, or that the server has now if none was.
    pub fn install(&self, url: &str, user: &str) -> Result<Installed, UpdateError> {
        self.install_as(Action::AifwInstall, url, user)
    }

    /// The base system and the packages are in the same image: installs that, told in words.
    pub fn install_os(&self, url: &str, user: &str) -> Result<String, UpdateError> {
        let before = self.info().current_version;
        let installed = self.install_as(Action::Install, url, user)?;
        let after = self.info().current_version;
        Ok(match installed.restart_required {
            true if before != after => format!(
                "1 package updated (aifw {before} -> {after}). OS updates installed with it; they are in force after a \
                 reboot"
            ),
            true => "OS updates are installed already; they are in force after a reboot".into(),
            false => "0 packages updated. No OS updates to install".into(),
        })
    }

    fn install_as(&self, action: Action, url: &str, user: &str) -> Result<Installed, UpdateError> {
        let turn = self.desk.begin(JobKind::Install)?;
        let done = self.install_release(&turn, url);
        drop(turn);
        let (status, details) = match &done {
            Ok(installed) => (Outcome::Completed, installed.message.clone()),
            Err(error) => (Outcome::Failed, error.to_string()),
        };
        self.note(action, status, format!("{details} (user {user})"));
        done
    }

    fn install_release(&self, turn: &Turn, url: &str) -> Result<Installed, UpdateError> {
        if self.known().release.is_none() {
            self.ask(url)?;
        }
        let info = self.info();
        let release = self.known().release.filter(|_| info.update_available);
        let Some(release) = release else {
            return Ok(Installed {
                message: "Already running the latest version".into(),
                restart_required: false,
                reboot_recommended: false,
                reboot_reason: None,
            });
        };
        let missing = |what| UpdateError::NoAsset { version: release.version.clone(), what };
        let tarball = release.tarball_url.clone().ok_or_else(|| missing("package"))?;
        let checksum = release.checksum_url.clone().ok_or_else(|| missing("checksum"))?;
        let sha256 = download::checksum(&checksum)?;
        let folder = download::folder(&self.options.state_dir)?;
        let name = format!("aifw-update-{}", release.version);
        download::tidy(&folder, Some(&name));
        let path = folder.join(format!("{name}.tar.xz"));
        let most = self.capacity()?.saturating_add(PACKAGE_OVERHEAD);
        download::get(&tarball, &path, &sha256, most, &mut |done, total| {
            turn.tell(Stage::Downloading, done, total)
        })?;
        let written = self.write(turn, &path, false);
        std::fs::remove_file(&path).ok();
        let manifest = written?;
        let (reboot_recommended, reboot_reason) = release::reboot_mark(&release.notes);
        self.remember(|known| known.release = None);
        Ok(Installed {
            message: format!("AiFw updated from v{} to v{}", info.current_version, manifest.version),
            restart_required: self.info().restart_pending,
            reboot_recommended,
            reboot_reason,
        })
    }

    /// A file of its own for an upload of so many bytes; the caller removes it.
    pub fn upload_path(&self, bytes: u64) -> Result<PathBuf, UpdateError> {
        let folder = download::folder(&self.options.state_dir)?;
        download::check_room(&folder, bytes)?;
        Ok(folder.join(format!("upload-{}.tar.xz", uuid::Uuid::new_v4())))
    }

    /// Installs a package that somebody brings, of whatever version. `sha256` is what the side file says, if there is
    /// one.
    pub fn install_local(
        &self,
        path: &Path,
        sha256: Option<&str>,
        user: &str,
    ) -> Result<Installed, UpdateError> {
        let turn = self.desk.begin(JobKind::InstallLocal)?;
        let done = self.install_file(&turn, path, sha256);
        drop(turn);
        let (status, details) = match &done {
            Ok(installed) => (Outcome::Completed, installed.message.clone()),
            Err(error) => (Outcome::Failed, error.to_string()),
        };
        self.note(Action::InstallLocal, status, format!("{details} (user {user})"));
        done
    }

    fn install_file(&self, turn: &Turn, path: &Path, sha256: Option<&str>) -> Result<Installed, UpdateError> {
        if let Some(text) = sha256.map(str::trim).filter(|text| !text.is_empty()) {
            let expected = release::checksum(text).ok_or(UpdateError::ChecksumForm)?;
            if download::hash(path)? != expected {
                return Err(UpdateError::Checksum);
            }
        }
        let manifest = self.write(turn, path, true)?;
        let (reboot_recommended, reboot_reason) = release::reboot_mark(&manifest.notes);
        self.remember(|known| known.release = None);
        Ok(Installed {
            message: format!("installed {}", manifest.version),
            restart_required: self.info().restart_pending,
            reboot_recommended,
            reboot_reason,
        })
    }

    fn capacity(&self) -> Result<u64, MachineError> {
        let slot = self.options.slots.running()?.other();
        Ok(self.options.slots.capacity(slot)?)
    }

    /// Checks a package and writes it to the other slot.
    fn write(&self, turn: &Turn, path: &Path, downgrade_allowed: bool) -> Result<Manifest, UpdateError> {
        let keys = Keys::load(&self.options.keys)?;
        let policy = Policy { running: self.running.clone(), downgrade_allowed, capacity: self.capacity()? };
        // A copy of the store is laid aside when the new firmware is tried.
        let store =
            std::fs::metadata(self.options.state_dir.join(DATABASE_FILE)).map_or(0, |file| file.len());
        download::check_room(&self.options.state_dir, store)?;
        let open = || -> io::Result<Box<dyn BufRead>> {
            Ok(Box::new(BufReader::with_capacity(package::PIECE, std::fs::File::open(path)?)))
        };
        // What has begun to be written is not broken off.
        let progress = |stage, done, total| {
            turn.tell(stage, done, Some(total));
        };
        let outcome = self.machine().install(&open, &keys, &policy, self.links(), &progress)?;
        Ok(match outcome {
            machine::Outcome::Written(manifest) | machine::Outcome::Same(manifest) => manifest,
        })
    }

    /// Has the next boot go back, or what waits for it forgotten.
    pub fn roll_back(&self, user: &str) -> Result<Installed, UpdateError> {
        let turn = self.desk.begin(JobKind::Rollback)?;
        let done = self.machine().roll_back(&self.running, self.links());
        drop(turn);
        match done {
            Ok(version) => {
                self.remember(|known| known.release = None);
                let message = format!("Rolled back to v{version}");
                self.note(Action::AifwRollback, Outcome::Completed, format!("{message} (user {user})"));
                Ok(Installed {
                    message,
                    restart_required: true,
                    reboot_recommended: false,
                    reboot_reason: None,
                })
            }
            Err(error) => {
                self.note(Action::AifwRollback, Outcome::Failed, format!("{error} (user {user})"));
                Err(error.into())
            }
        }
    }

    /// Ends a download. Whether there was one.
    pub fn cancel(&self) -> bool {
        self.desk.cancel()
    }

    /// Restarts the firmware in a moment: its process, or the machine when a slot waits for its boot.
    pub fn restart(&self, user: &str) -> Result<Switched, UpdateError> {
        let ready = matches!(State::load(&self.place)?.phase, Phase::Ready { .. });
        let details = match ready {
            true => format!("rebooting into v{} (user {user})", self.info().current_version),
            false => format!("restarting (user {user})"),
        };
        if ready {
            self.power(Power::Reboot, BEFORE_RESTART).inspect_err(|error| {
                self.note(Action::AifwRestart, Outcome::Failed, format!("{error} (user {user})"));
            })?;
        } else {
            let sender = self.restart.0.clone();
            smol::spawn(async move {
                async_io::Timer::after(BEFORE_RESTART).await;
                // One that is wished for already will do.
                sender.try_send(()).ok();
            })
            .detach();
        }
        self.note(Action::AifwRestart, Outcome::Started, details);
        Ok(if ready { Switched::Machine } else { Switched::Process })
    }

    /// Gives once when this process is to end, so that it is started again.
    pub fn restart_wanted(&self) -> async_channel::Receiver<()> {
        self.restart.1.clone()
    }

    /// Reboots the machine, or switches it off, after a while.
    pub fn shut_down(
        &self,
        action: Action,
        power: Power,
        delay: Duration,
        user: &str,
    ) -> Result<Scheduled, UpdateError> {
        let done = self.power(power, delay);
        let (status, told) = match &done {
            Ok(Scheduled::Now) => (Outcome::Scheduled, format!("{} in {} s", power.word(), delay.as_secs())),
            Ok(Scheduled::Already) => (Outcome::Scheduled, "one is scheduled already".into()),
            Err(error) => (Outcome::Failed, error.to_string()),
        };
        self.note(action, status, format!("{told} (user {user})"));
        done
    }

    /// Takes back a reboot or a shutdown that is scheduled. Whether there was one.
    pub fn cancel_power(&self, user: &str) -> Result<bool, UpdateError> {
        let found = self.options.platform.cancel_power()?;
        if found {
            self.note(Action::Reboot, Outcome::Completed, format!("cancelled (user {user})"));
        }
        Ok(found)
    }

    fn power(&self, power: Power, delay: Duration) -> Result<Scheduled, UpdateError> {
        if self.desk.now().0.is_none() {
            // The interfaces may have changed since the install.
            self.machine().note_links(self.links())?;
        }
        Ok(self.options.platform.power(power, delay)?)
    }

    /// The interfaces as a new firmware is to have them.
    pub(super) fn links(&self) -> Vec<Link> {
        self.options.platform.interfaces().map(|found| health::links(&found)).unwrap_or_default()
    }
}

fn available(info: &Info) -> String {
    match info.update_available {
        true => format!("v{} available (current: v{})", info.latest_version, info.current_version),
        false => format!("v{} is the latest", info.current_version),
    }
}
