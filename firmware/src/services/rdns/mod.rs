//! Rdns under supervision: its arguments, readiness, checker and reload.

pub mod control;

use std::path::Path;

use crate::compile::services::{Artifacts, Facts, Places};
use crate::config::{Config, ServiceKind};
use crate::services::{Daemon, ServiceError, base_spec};
use crate::supervisor::ServiceSpec;

#[derive(Debug, Default)]
pub struct Rdns {}

impl Daemon for Rdns {
    fn kind(&self) -> ServiceKind {
        ServiceKind::Dns
    }
    fn artifacts(&self, _: &Config, _: &Facts) -> Result<Artifacts, ServiceError> {
        Ok(Artifacts::default())
    }
    fn check(&self, _: &Path, _: &Artifacts, _: &Places) -> Result<(), ServiceError> {
        Ok(())
    }
    fn spec(&self, program: &Path, _: &Artifacts, facts: &Facts) -> ServiceSpec {
        base_spec(self.kind(), program, facts)
    }
}
