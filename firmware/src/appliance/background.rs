//! What the areas do on their own for the life of the process: schedules, pollers, readers of logs. One line an
//! area. Started once, after the rules are loaded.

use std::sync::Arc;
use std::time::Duration;

use super::outbound;
use crate::api::App;
use crate::compile::services::ids::BLOCK_TABLE;
use crate::config::{ServiceKind, TableName, Timestamp};
use crate::services::ids::{CommandSocket, Tailer};
use crate::services::rdns::upkeep;
use crate::services::trafficcop;
use crate::store::Author;
use crate::{apply, update};

/// Starts every area's own tasks. They end with the process.
pub fn start(app: &Arc<App>) {
    smol::spawn(keep_access_log_small(app.clone())).detach();
    smol::spawn(follow_time_sources(app.clone())).detach();
    smol::spawn(follow_leases(app.clone())).detach();
    smol::spawn(follow_intrusions(app.clone())).detach();
    smol::spawn(update_rulesets(app.clone())).detach();
    smol::spawn(keep_resolver_up_to_date(app.clone())).detach();
    smol::spawn(fetch_blocklists(app.clone())).detach();
    smol::spawn(keep_maintenance_window(app.clone())).detach();
    smol::spawn(outbound::export_metrics(app.clone())).detach();
    smol::spawn(outbound::send_mail(app.clone())).detach();
    smol::spawn(outbound::watch_versions(app.clone())).detach();
    smol::spawn(outbound::publish_addresses(app.clone())).detach();
}

/// Looks every so often whether the weekly maintenance window has begun.
async fn keep_maintenance_window(app: Arc<App>) {
    const LOOK: Duration = Duration::from_secs(20);
    let mut clock = update::window::Clock::new(Timestamp::now());
    loop {
        async_io::Timer::after(LOOK).await;
        let config = app.store.snapshot().config.clone();
        let zone = apply::schedules::time_zone(&config);
        if clock.due(&config.updates, &zone, Timestamp::now()) {
            let updater = app.updater.clone();
            blocking::unblock(move || updater.run_window(&config.updates)).await;
        }
    }
}

async fn keep_access_log_small(app: Arc<App>) {
    loop {
        async_io::Timer::after(Duration::from_secs(600)).await;
        let path = app.store.snapshot().applied.proxy.access_log_path.clone();
        let path = app.services.runner(ServiceKind::Proxy).facts().path(&path);
        if let Err(error) = blocking::unblock(move || trafficcop::rotate(&path)).await {
            log::warn!("the reverse proxy's access log: {error}");
        }
    }
}

/// Watches the clock. Names of time sources are resolved again every six hours, and sooner when a source has fallen
/// silent or none has answered yet (DNS may not have been there at the start); the daemon is restarted only if that has
/// changed what it is given.
async fn follow_time_sources(app: Arc<App>) {
    const LOOK: Duration = Duration::from_secs(10);
    const EVERY: Duration = Duration::from_secs(6 * 3600);
    const ONE_SILENT: Duration = Duration::from_secs(600);
    const ALL_SILENT: Duration = Duration::from_secs(60);
    let mut last = std::time::Instant::now();
    let mut told = Vec::new();
    loop {
        async_io::Timer::after(LOOK).await;
        if !app.services.runner(ServiceKind::Time).is_running() {
            last = std::time::Instant::now();
            continue;
        }
        let (applied, services) = (app.store.snapshot().applied.clone(), app.services.clone());
        let state = blocking::unblock(move || services.time_state(&applied)).await;
        // Without minutes, which change, an alarm is told once.
        let alarms = app.services.time_alarms();
        let words: Vec<_> =
            alarms.iter().map(|alarm| alarm.split(" for ").next().map(str::to_owned)).collect();
        if words != told {
            alarms.iter().for_each(|alarm| log::warn!("time: {alarm}"));
            told = words;
        }
        let silent =
            state.map(|state| state.sources.iter().map(|source| !source.reachable).collect::<Vec<_>>());
        let wait = match silent {
            Some(silent) if silent.iter().all(|silent| *silent) => ALL_SILENT,
            Some(silent) if silent.contains(&true) => ONE_SILENT,
            _ => EVERY,
        };
        if last.elapsed() < wait {
            continue;
        }
        last = std::time::Instant::now();
        if let Err(error) = app.applier.refresh_service(ServiceKind::Time).await {
            log::warn!("time sources: {error}");
        }
    }
}

/// Names of DHCP clients go into the DNS, where that is asked for.
async fn follow_leases(app: Arc<App>) {
    loop {
        async_io::Timer::after(Duration::from_secs(10)).await;
        let applied = app.store.snapshot().applied.clone();
        let services = app.services.clone();
        blocking::unblock(move || services.follow_leases(&applied)).await;
    }
}

/// Alerts from the engine's log, blocked sources into pf, once a second.
async fn follow_intrusions(app: Arc<App>) {
    let places = app.services.runner(ServiceKind::Ids).places();
    let mut tailer = Tailer::new(&places.log, &places.data);
    let mut in_pf: Vec<String> = Vec::new();
    let mut tidied = std::time::Instant::now();
    loop {
        async_io::Timer::after(Duration::from_secs(1)).await;
        let known = app.clone();
        let mut reader = tailer;
        let mut held = in_pf;
        let tidy = tidied.elapsed() > Duration::from_secs(3600);
        (tailer, in_pf) = blocking::unblock(move || {
            pump(&known, &mut reader, &mut held);
            if tidy {
                known.services.ids().tidy(&known.store.snapshot().applied);
            }
            (reader, held)
        })
        .await;
        if tidy {
            tidied = std::time::Instant::now();
        }
    }
}

/// One look. Blocks.
fn pump(app: &App, tailer: &mut Tailer, in_pf: &mut Vec<String>) {
    let snapshot = app.store.snapshot();
    let ids = app.services.ids();
    let runner = app.services.runner(ServiceKind::Ids);
    let facts = runner.facts();
    let now = Timestamp::now();
    let sessions = snapshot.identity.refresh_tokens.iter();
    let spared =
        sessions.filter(|token| !token.revoked && token.expires_at > now).filter_map(|token| token.ip);
    let (stored, applied) = (&snapshot.config, &snapshot.applied);
    let found = ids.pump(tailer, stored, applied, &facts.interfaces, &spared.collect());
    let entries = ids.blocks.entries(std::time::Instant::now());
    if entries != *in_pf
        && let Ok(table) = TableName::new(BLOCK_TABLE)
    {
        match app.pf.replace_table(&table, &entries) {
            Ok(()) => *in_pf = entries,
            Err(error) => log::warn!("<{BLOCK_TABLE}>: {error}"),
        }
    }
    for source in found.blocked {
        if let Err(error) = app.pf.kill_states_from(source) {
            log::warn!("states of {source}: {error}");
        }
    }
    match tailer.rotate() {
        Ok(true) => {
            let path = facts.places.run.join("command.sock");
            let told = CommandSocket::connect(&path, Duration::from_secs(5))
                .and_then(|mut socket| socket.command("reopen-log-files", None));
            if let Err(error) = told {
                log::warn!("eve.json: {error}");
            }
        }
        Ok(false) => {}
        Err(error) => log::warn!("eve.json: {error}"),
    }
}

/// Rulesets that are due are fetched anew.
async fn update_rulesets(app: Arc<App>) {
    loop {
        async_io::Timer::after(Duration::from_secs(600)).await;
        let config = app.store.snapshot().config.clone();
        let now = Timestamp::now();
        for ruleset in config.ids_rulesets.iter() {
            let hours = i64::from(ruleset.update_interval_hours);
            let last = app.services.ids().rules.state(ruleset.id).last_updated;
            let due = last.is_none_or(|last| now.as_second() - last.as_second() >= hours * 3600);
            if ruleset.enabled && ruleset.auto_update && hours > 0 && ruleset.source_url.is_some() && due {
                crate::api::ids::rulesets::fetch(&app, &Author::system("rulesets"), ruleset).await;
            }
        }
    }
}

/// The appliance's own name servers are written again, since a DHCP client may have replaced them. Then names of
/// DHCP clients are looked at, and told to the resolver when they have changed; now and then it is seen to that its
/// first forwarder answers, and where aliases lead.
async fn keep_resolver_up_to_date(app: Arc<App>) {
    const EVERY: Duration = Duration::from_secs(20);
    app.applier.write_name_servers().await;
    let mut known = Vec::new();
    for turn in 1_u64.. {
        async_io::Timer::after(EVERY).await;
        let runner = app.services.runner(ServiceKind::Dns);
        let applied = app.store.snapshot().applied.clone();
        if !runner.is_running() {
            continue;
        }
        let leased = upkeep::leased(app.services.runner(ServiceKind::Dhcp), &applied).await;
        let mut done = Ok(false);
        // A DHCP server that says nothing now has not forgotten its clients.
        if let Ok(leased) = leased
            && leased != known
        {
            done = upkeep::refresh_leases(runner, &applied).await;
            known = leased;
        }
        if done.is_ok() && turn % 3 == 0 {
            done = upkeep::fail_over(runner, &applied).await;
        }
        if done.is_ok() && turn % 15 == 0 {
            done = upkeep::follow_aliases(runner, &applied).await;
        }
        match done {
            // A name has one record: lists leave out those that clients have now.
            Ok(true) => app.applier.follow_blocklists().await,
            Ok(false) => {}
            Err(error) => {
                // Looked at again.
                known.clear();
                log::warn!("resolver: {error}");
            }
        }
    }
}

/// Blocklists are fetched soon after the start and when their schedule says so, in the appliance's time zone; what an
/// import or a restored version has changed of them is put in force.
async fn fetch_blocklists(app: Arc<App>) {
    const AFTER_START: Duration = Duration::from_secs(15);
    const EVERY: Duration = Duration::from_secs(60);
    let mut last = jiff::Zoned::now();
    async_io::Timer::after(AFTER_START).await;
    let mut known = app.store.snapshot().applied.clone();
    if known.dns_blocking.enabled && known.dns_blocking.on_boot {
        app.applier.refresh_blocklists().await;
    } else {
        app.applier.follow_blocklists().await;
    }
    loop {
        let now = jiff::Zoned::now();
        let applied = app.store.snapshot().applied.clone();
        let due = applied.dns_blocking.enabled && applied.dns_blocking.cron.fired(&last, &now);
        last = now;
        if due {
            app.applier.refresh_blocklists().await;
        } else if !(applied.dns_blocklists.same(&known.dns_blocklists)
            && applied.dns_whitelist.same(&known.dns_whitelist)
            && applied.dns_custom_blocks.same(&known.dns_custom_blocks)
            && applied.dns_blocking == known.dns_blocking)
        {
            app.applier.follow_blocklists().await;
        }
        known = applied;
        async_io::Timer::after(EVERY).await;
    }
}
