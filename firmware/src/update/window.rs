//! The weekly maintenance window: check, install, activate, reboot, each step with its own row of the history
//! (contract/updates.md §2). When it is due is `config::update`'s; who waits for it is the background.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::history::Action;
use super::updater::Updater;
use crate::config::update::UpdateSettings;
use crate::platform::Power;

/// A window that is this much over is not made up: the appliance was off.
const LATE: jiff::SignedDuration = jiff::SignedDuration::from_mins(10);
/// Before a reboot that nobody asked for at this moment.
const NOTICE: Duration = Duration::from_secs(60);
const USER: &str = "maintenance window";

/// Tells when a window is due.
#[derive(Debug)]
pub struct Clock {
    /// Windows up to here are over.
    looked: Timestamp,
}

impl Clock {
    pub fn new(now: Timestamp) -> Self {
        Self { looked: now }
    }

    /// Whether a window has begun since the last look. The clock may be set back: no window comes twice.
    pub fn due(&mut self, settings: &UpdateSettings, zone: &TimeZone, now: Timestamp) -> bool {
        let next = settings.next(self.looked, zone).map(|window| window.timestamp());
        self.looked = self.looked.max(now);
        next.is_some_and(|window| window <= now && now.duration_since(window) < LATE)
    }
}

impl Updater {
    /// What the settings say is to be done in a window. A step that fails does not keep the next from being tried.
    pub fn run_window(&self, settings: &UpdateSettings) {
        let url = self.release_url(settings);
        let failed = |what: &str, error: &dyn std::fmt::Display| log::warn!("maintenance: {what}: {error}");
        if settings.auto_check || settings.auto_install {
            self.check_os(&url, USER);
        }
        if settings.auto_install
            && let Err(error) = self.install_os(&url, USER)
        {
            failed("install", &error);
        }
        let mut activated = false;
        if settings.auto_update_aifw {
            match self.check(&url, USER).and_then(|_| self.install(&url, USER)) {
                Ok(_) if self.info().restart_pending => {
                    activated = true;
                    if let Err(error) = self.shut_down(Action::AifwReboot, Power::Reboot, NOTICE, USER) {
                        failed("activation", &error);
                    }
                }
                Ok(_) => {}
                Err(error) => failed("firmware", &error),
            }
        }
        let needed = self.info().restart_pending || self.options.reboot_marker.exists();
        if settings.auto_reboot
            && needed
            && !activated
            && let Err(error) = self.shut_down(Action::Reboot, Power::Reboot, NOTICE, USER)
        {
            failed("reboot", &error);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_window_comes_once_and_a_missed_one_not_at_all() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        // 2026-11-30 is a Monday.
        let settings = UpdateSettings {
            enabled: true,
            day_of_week: "Monday".into(),
            time: "04:30".into(),
            ..UpdateSettings::default()
        };
        let mut clock = Clock::new(at("2026-11-30T04:29:50Z"));
        let mut due = |text: &str| clock.due(&settings, &TimeZone::UTC, at(text));
        assert!(!due("2026-11-30T04:29:59Z"));
        assert!(due("2026-11-30T04:30:05Z"));
        assert!(!due("2026-11-30T04:30:20Z"));
        assert!(!due("2026-11-30T04:20:00Z"), "the clock was set back");
        assert!(!due("2026-11-30T04:31:00Z"));
        assert!(due("2026-12-07T04:30:00Z"));
        assert!(!due("2026-12-14T05:00:00Z"), "off at half past four");
        assert!(due("2026-12-21T04:30:59Z"));
        let off = UpdateSettings { enabled: false, ..settings.clone() };
        assert!(!Clock::new(at("2026-11-30T04:29:50Z")).due(
            &off,
            &TimeZone::UTC,
            at("2026-11-30T04:30:05Z")
        ));
    }
}
