//! What the appliance tells others on its own: metrics to a Valkey server, mails to people, addresses to DNS
//! providers. Started by [`super::background`]; each task ends with the process.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_io::Timer;

use crate::api::App;
use crate::api::settings::mail::host_name;
use crate::config::mail::MailEvent;

/// The newest second to the configured server, once a second.
pub async fn export_metrics(app: Arc<App>) {
    let mut last = None;
    loop {
        Timer::after(Duration::from_millis(250)).await;
        let Some(sample) = app.live.latest().filter(|sample| last != Some(sample.number)) else { continue };
        last = Some(sample.number);
        let config = app.store.snapshot().config.clone();
        if !config.valkey.enabled {
            continue;
        }
        let exporter = app.services.valkey().clone();
        blocking::unblock(move || {
            let entry = sample.history_entry().pieces(true).concat();
            exporter.push(&config.valkey, config.dashboard.history_seconds, &entry);
        })
        .await;
    }
}

/// Mails that wait are sent when they are due.
pub async fn send_mail(app: Arc<App>) {
    loop {
        app.services.mail().due().await;
        let config = app.store.snapshot().config.clone();
        let outbox = app.services.mail().clone();
        blocking::unblock(move || outbox.deliver(&config.mail, &host_name(&config))).await;
    }
}

/// Tells of versions that people have saved and of those that were pruned.
pub async fn watch_versions(app: Arc<App>) {
    let changes = app.store.watch();
    let mut before = app.store.snapshot();
    while changes.recv().await.is_ok() {
        let now = app.store.snapshot();
        let (old, new) = (&before.ledger.versions, &now.ledger.versions);
        if !old.same(new) {
            let mail = &now.config.mail;
            let saved = new.iter().filter(|version| !old.contains(&version.version));
            for version in saved.filter(|version| version.created_by != "auto") {
                let comment = version.comment.as_deref().unwrap_or("no comment");
                let text = format!(
                    "Version {} of the configuration was saved by {} ({comment}).",
                    version.version, version.created_by
                );
                app.services.mail().tell(mail, MailEvent::BackupSaved, text);
            }
            let gone: Vec<String> = old
                .iter()
                .filter(|version| !new.contains(&version.version))
                .map(|version| version.version.to_string())
                .collect();
            if !gone.is_empty() {
                let most = now.config.history.max_versions;
                let text = format!(
                    "At most {most} versions of the configuration are kept; removed: {}.",
                    gone.join(", ")
                );
                app.services.mail().tell(mail, MailEvent::Pruned, text);
            }
        }
        before = now;
    }
}

/// Records follow the appliance's addresses: first when the network has had time to come up, then at the interval that
/// is configured; those that failed are tried again when their pause is over.
pub async fn publish_addresses(app: Arc<App>) {
    const FIRST: Duration = Duration::from_secs(20);
    const LOOK: Duration = Duration::from_secs(5);
    Timer::after(FIRST).await;
    let mut swept: Option<Instant> = None;
    loop {
        let config = app.store.snapshot().config.clone();
        let every = Duration::from_secs(config.ddns.poll_interval_secs.max(60).into());
        let ddns = app.services.dynamic_dns().clone();
        let all = swept.is_none_or(|at| at.elapsed() >= every);
        if all || ddns.is_retry_due(&config) {
            blocking::unblock(move || ddns.sweep(&config, !all)).await;
        }
        if all {
            swept = Some(Instant::now());
        }
        Timer::after(LOOK).await;
    }
}
