//! The name servers that the appliance asks itself: stored, and written to resolv.conf(5) at once and at each
//! start, since a DHCP client may have replaced them.

use std::path::PathBuf;
use std::sync::Arc;

use super::Applier;
use crate::config::ServiceKind;
use crate::config::dns::names::NameServer;
use crate::platform::resolv;
use crate::services::{ServiceError, files};
use crate::store::{Author, CommitError, Draft, NewAudit, StoreError};

/// Why the name servers are as before.
#[derive(Debug, thiserror::Error)]
pub enum NameServersError {
    #[error(transparent)]
    File(#[from] ServiceError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Applier {
    /// Where the machine's name servers stand.
    pub async fn resolv_conf(&self) -> PathBuf {
        let runner = self.services().runner(ServiceKind::Dns).clone();
        blocking::unblock(move || runner.facts().path("/etc/resolv.conf")).await
    }

    /// Stores the servers and writes them; none = what others have written there stays.
    pub async fn set_name_servers(
        &self,
        author: &Author,
        servers: Vec<NameServer>,
        audit: NewAudit,
    ) -> Result<(), NameServersError> {
        let path = self.resolv_conf().await;
        let none = servers.is_empty();
        let before = self.write_servers(path.clone(), servers.clone()).await?;
        let commit = self.inner.store.commit(author, move |draft: &mut Draft| {
            Arc::make_mut(&mut draft.config.system).dns_servers.clone_from(&servers);
            Arc::make_mut(&mut draft.applied.system).dns_servers.clone_from(&servers);
            draft.audit.push(audit);
            Ok::<(), StoreError>(())
        });
        if let Err(CommitError::Refused(error) | CommitError::Store(error)) = commit.await {
            if let Some(before) = before {
                blocking::unblock(move || files::write(&path, before.as_bytes(), 0o644)).await?;
            }
            return Err(error.into());
        }
        if none {
            // Those that the network tells take their place, if it tells any.
            self.apply_network().await;
        }
        Ok(())
    }

    /// At start-up: what is stored is written again.
    pub async fn write_name_servers(&self) {
        let servers = self.inner.store.snapshot().applied.system.dns_servers.clone();
        let path = self.resolv_conf().await;
        if let Err(error) = self.write_servers(path, servers).await {
            log::error!("name servers: {error}");
        }
    }

    /// Returns what the file held, if it was written.
    async fn write_servers(
        &self,
        path: PathBuf,
        servers: Vec<NameServer>,
    ) -> Result<Option<String>, ServiceError> {
        if servers.is_empty() {
            return Ok(None);
        }
        blocking::unblock(move || {
            let before = std::fs::read_to_string(&path).unwrap_or_default();
            let servers: Vec<String> = servers.iter().map(NameServer::to_string).collect();
            files::write(&path, resolv::with_name_servers(&before, &servers).as_bytes(), 0o644)?;
            Ok(Some(before))
        })
        .await
    }
}
