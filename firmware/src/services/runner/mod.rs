//! One daemon and its files: made to match a configuration, or left as it was. The order is always: compile,
//! check in a rehearsal directory, write, reload or restart, wait until ready; a step that fails takes the
//! steps before it back.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_lock::Mutex;

use super::{Daemon, ServiceError, Setup, files};
use crate::compile::InterfaceFacts;
use crate::compile::services::{Artifacts, Facts, File, Places};
use crate::config::{Config, ServiceKind, Timestamp};
use crate::supervisor::{LogLine, ServiceSpec, State, Status, Supervisor, SupervisorError};

/// What was done to a daemon.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Files that were written anew.
    pub changed: Vec<PathBuf>,
    pub reloaded: bool,
    pub restarted: bool,
    pub stopped: bool,
    pub running: bool,
    pub warnings: Vec<String>,
}

/// A daemon with its directories and its turn: one change at a time.
pub struct Runner {
    daemon: Arc<dyn Daemon>,
    setup: Arc<Setup>,
    /// How it is run with the files that are in force, once it has come up with them.
    turn: Mutex<Option<ServiceSpec>>,
}

/// Why a daemon is made to match a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// A change: what it does not come up with is taken back.
    Change,
    /// As [`How::Change`], and started anew even if nothing has changed.
    Restart,
    /// The appliance starts: what was in force before is put in force again, without asking the checker, and
    /// tried again and again if it does not come up.
    Boot,
}

impl Runner {
    pub(super) fn new(daemon: Arc<dyn Daemon>, setup: Arc<Setup>) -> Self {
        let runner = Self { daemon, setup, turn: Mutex::new(None) };
        // Known from the start, so that it is reported, installed or not.
        let spec = ServiceSpec::new(runner.kind().program(), runner.program());
        runner.supervisor().define(spec);
        runner
    }

    pub fn kind(&self) -> ServiceKind {
        self.daemon.kind()
    }

    pub fn supervisor(&self) -> &Supervisor {
        &self.setup.supervisor
    }

    pub fn program(&self) -> PathBuf {
        self.setup.components.program(self.kind())
    }

    /// Another program, that goes with the daemon.
    pub fn tool(&self, name: &str) -> PathBuf {
        self.setup.components.tool(name)
    }

    pub fn is_installed(&self) -> bool {
        self.program().is_file()
    }

    /// The directories of the live daemon.
    pub fn places(&self) -> Places {
        places_in(&self.directory())
    }

    fn directory(&self) -> PathBuf {
        directory_of(&self.setup.state_dir, self.kind())
    }

    /// What the world is like now. May block.
    pub fn facts(&self) -> Facts {
        self.facts_in(self.places())
    }

    fn facts_in(&self, places: Places) -> Facts {
        let interfaces = self.setup.platform.interfaces().unwrap_or_else(|error| {
            log::warn!("interfaces: {error}");
            Vec::new()
        });
        Facts {
            interfaces: interfaces
                .iter()
                .filter_map(|interface| InterfaceFacts::of(&interface.name, &interface.addresses))
                .collect(),
            places,
            listen: self.setup.listen,
            root: self.setup.root.clone(),
            sandbox: self.setup.sandbox,
            now: Timestamp::now(),
        }
    }

    pub fn status(&self) -> Status {
        // Defined by `new`.
        self.supervisor()
            .status(self.kind().program())
            .unwrap_or_else(|_| Status::unknown(self.kind().program()))
    }

    pub fn is_running(&self) -> bool {
        self.status().state == State::Running
    }

    /// The newest lines it has said, oldest first.
    pub fn log(&self, lines: usize) -> Vec<LogLine> {
        self.supervisor().log(self.kind().program(), lines).unwrap_or_default()
    }

    /// Compiles a configuration and has it checked, in a directory of its own; nothing live is touched. Returns
    /// the warnings.
    pub async fn rehearse(self: &Arc<Self>, config: &Config) -> Result<Vec<String>, ServiceError> {
        let (this, config) = (self.clone(), config.clone());
        blocking::unblock(move || this.rehearse_now(&config)).await
    }

    fn rehearse_now(&self, config: &Config) -> Result<Vec<String>, ServiceError> {
        let base = self.directory();
        files::make_directory(&base, 0o755)?;
        let rehearsal = Rehearsal::new(&base)?;
        let places = places_in(&rehearsal.0);
        for place in [&places.config, &places.run, &places.data, &places.log] {
            files::make_directory(place, 0o755)?;
        }
        let artifacts = self.daemon.artifacts(config, &self.facts_in(places.clone()))?;
        files::replace(&places.config, &artifacts.files, &[])?;
        files::seed(&places.config, &artifacts.seeds)?;
        let (program, _) = self.daemon.program(config, &self.setup.components);
        if program.is_file() {
            self.daemon.check(&program, &artifacts, &places)?;
        }
        Ok(artifacts.warnings)
    }

    /// Makes the daemon match `config`: stopped where it is not to run, else running with these files.
    pub async fn apply(self: &Arc<Self>, config: &Config, how: How) -> Result<Report, ServiceError> {
        let mut in_force = self.turn.lock().await;
        let name = self.kind().program();
        if !self.kind().is_enabled(config) {
            let stopped = self.status().pid.is_some();
            self.supervisor().stop(name).await.map_err(ServiceError::Supervisor)?;
            *in_force = None;
            return Ok(Report { stopped, ..Report::default() });
        }
        let (program, service) = self.daemon.program(config, &self.setup.components);
        if !program.is_file() {
            return Err(ServiceError::NotInstalled(service));
        }
        if how != How::Boot {
            self.rehearse(config).await?;
        }
        let (this, wanted) = (self.clone(), config.clone());
        let (artifacts, replaced) = blocking::unblock(move || this.write(&wanted)).await?;
        let mut report = Report {
            changed: changed(&replaced),
            warnings: artifacts.warnings.clone(),
            running: true,
            ..Report::default()
        };
        let (this, known) = (self.clone(), Arc::new(artifacts));
        let artifacts = known.clone();
        let spec = blocking::unblock(move || this.daemon.spec(&program, &artifacts, &this.facts())).await;
        self.supervisor().define(spec.clone());
        let running = self.is_running();
        let same_run = in_force.as_ref().is_some_and(|old| old.runs_like(&spec));
        let lasts = running && same_run && how != How::Restart;
        if lasts && (report.changed.is_empty() || self.reload(&replaced, known).await?) {
            report.reloaded = !report.changed.is_empty();
            *in_force = Some(spec);
            return Ok(report);
        }
        match self.start_anew().await {
            Ok(()) => {
                report.restarted = true;
                *in_force = Some(spec);
                Ok(report)
            }
            Err(reason) => {
                let last_lines = self.last_lines();
                if how == How::Boot {
                    return Err(ServiceError::NotReady { service, reason, last_lines, rolled_back: false });
                }
                self.supervisor().stop(name).await.ok();
                blocking::unblock(move || replaced.undo()).await?;
                let rolled_back = match in_force.clone() {
                    Some(before) if running => {
                        self.supervisor().define(before);
                        self.start_anew().await.is_ok()
                    }
                    _ => false,
                };
                Err(ServiceError::NotReady { service, reason, last_lines, rolled_back })
            }
        }
    }

    /// Lets the running daemon take the changed files; `false` when it cannot. If it refuses, they are as before.
    async fn reload(
        self: &Arc<Self>,
        replaced: &Arc<files::Replaced>,
        artifacts: Arc<Artifacts>,
    ) -> Result<bool, ServiceError> {
        let (this, replaced) = (self.clone(), replaced.clone());
        blocking::unblock(move || {
            let taken = this.daemon.reload(&changed(&replaced), &artifacts, &this.facts());
            if taken.is_err() {
                replaced.undo()?;
            }
            taken
        })
        .await
    }

    /// Makes those files anew of which `which` says so, and lets the running daemon take them; nothing else of the
    /// daemon changes. `false`: there was nothing to do, or it does not run.
    pub async fn refresh(
        self: &Arc<Self>,
        config: &Config,
        which: fn(&Path) -> bool,
    ) -> Result<bool, ServiceError> {
        let _turn = self.turn.lock().await;
        if !self.is_running() {
            return Ok(false);
        }
        let (this, config) = (self.clone(), config.clone());
        blocking::unblock(move || {
            let facts = this.facts();
            let artifacts = this.daemon.artifacts(&config, &facts)?;
            let wanted: Vec<File> =
                artifacts.files.iter().filter(|file| which(&file.path)).cloned().collect();
            let replaced = files::replace(&facts.places.config, &wanted, &[])?;
            if replaced.changed().is_empty() {
                return Ok(false);
            }
            let taken = this.daemon.reload(&replaced.changed(), &artifacts, &facts);
            if !matches!(taken, Ok(true)) {
                replaced.undo()?;
            }
            taken
        })
        .await
    }

    /// Files of the live daemon.
    fn write(&self, config: &Config) -> Result<(Artifacts, Arc<files::Replaced>), ServiceError> {
        let places = self.places();
        for (place, mode) in
            [(&places.config, 0o755), (&places.run, 0o755), (&places.data, 0o755), (&places.log, 0o755)]
        {
            files::make_directory(place, mode)?;
        }
        let artifacts = self.daemon.artifacts(config, &self.facts_in(places.clone()))?;
        files::seed(&places.config, &artifacts.seeds)?;
        // The list of what is ours to remove one day is replaced, and taken back, with the files themselves.
        let before = std::fs::read_to_string(places.config.join(LIST)).unwrap_or_default();
        let gone: Vec<PathBuf> = before
            .lines()
            .map(PathBuf::from)
            .filter(|path| artifacts.files.iter().all(|file| file.path != *path))
            .collect();
        let mut names: Vec<String> =
            artifacts.files.iter().map(|file| file.path.display().to_string()).collect();
        names.sort();
        let mut files = artifacts.files.clone();
        files.push(File::new(LIST, names.join("\n")));
        let replaced = Arc::new(files::replace(&places.config, &files, &gone)?);
        Ok((artifacts, replaced))
    }

    async fn start_anew(&self) -> Result<(), String> {
        match self.supervisor().restart(self.kind().program()).await {
            Ok(()) => Ok(()),
            Err(SupervisorError::NotReady { reason, .. }) => Err(reason),
            Err(error) => Err(error.to_string()),
        }
    }

    fn last_lines(&self) -> Vec<String> {
        self.log(20).iter().map(|line| super::logs::without_colours(&line.line)).collect()
    }
}

fn directory_of(state_dir: &Path, kind: ServiceKind) -> PathBuf {
    // Daemons are told absolute paths.
    let state = std::path::absolute(state_dir).unwrap_or_else(|_| state_dir.to_owned());
    state.join("services").join(kind.program())
}

fn places_in(directory: &Path) -> Places {
    Places {
        config: directory.join("etc"),
        run: directory.join("run"),
        data: directory.join("data"),
        log: directory.join("log"),
    }
}

/// The directories of a live daemon.
pub(super) fn places_of(state_dir: &Path, kind: ServiceKind) -> Places {
    places_in(&directory_of(state_dir, kind))
}

/// Names the files that were made from the configuration.
const LIST: &str = ".files";

fn changed(replaced: &files::Replaced) -> Vec<PathBuf> {
    replaced.changed().into_iter().filter(|path| path != Path::new(LIST)).collect()
}

/// A directory that goes when it is dropped.
struct Rehearsal(PathBuf);

impl Rehearsal {
    fn new(base: &Path) -> Result<Self, ServiceError> {
        use std::os::unix::fs::DirBuilderExt;
        let path = base.join(format!("rehearsal-{}", crate::config::Id::new_v4().simple()));
        std::fs::DirBuilder::new()
            .mode(0o755)
            .create(&path)
            .map_err(|error| ServiceError::io(&path, error))?;
        Ok(Self(path))
    }
}

impl Drop for Rehearsal {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

#[cfg(test)]
mod tests;
