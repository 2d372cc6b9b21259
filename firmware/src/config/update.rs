//! When and from where the firmware is updated (contract/updates.md §2, `/updates/schedule`).

use jiff::civil::{Time, Weekday};
use jiff::{Timestamp, Zoned, tz::TimeZone};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Invalid;

/// The weekly maintenance window, and where releases are looked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct UpdateSettings {
    /// Disabled, nothing runs by itself.
    pub enabled: bool,
    /// As it was written: `Monday` or `mon`, any case.
    pub day_of_week: String,
    /// `HH:MM`, 24 h, local time of the appliance.
    pub time: String,
    pub auto_check: bool,
    pub auto_install: bool,
    pub auto_reboot: bool,
    pub auto_update_aifw: bool,
    /// Release document of another server (a mirror, say): JSON as GitHub's `releases/latest`. `None` = the one this
    /// firmware was built for.
    pub release_url: Option<String>,
}

impl Default for UpdateSettings {
    fn default() -> Self {
        Self {
            enabled: false,
            day_of_week: "Sunday".into(),
            time: "03:00".into(),
            auto_check: true,
            auto_install: false,
            auto_reboot: false,
            auto_update_aifw: false,
            release_url: None,
        }
    }
}

/// A maintenance window as it is sent.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct UpdateSettingsRequest {
    enabled: bool,
    day_of_week: String,
    time: String,
    auto_check: bool,
    auto_install: bool,
    auto_reboot: bool,
    #[serde(default)]
    auto_update_aifw: bool,
    /// Absent, it stays; null or empty, the firmware's own again.
    #[serde(default, deserialize_with = "present")]
    release_url: Option<Option<String>>,
}

/// Tells null from absent.
fn present<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Option<String>>, D::Error> {
    Deserialize::deserialize(from).map(Some)
}

impl UpdateSettingsRequest {
    /// The settings that this makes of those before.
    pub fn settings(self, before: &UpdateSettings) -> Result<UpdateSettings, Invalid> {
        if weekday(&self.day_of_week).is_none() {
            return Err(Invalid::new("day_of_week", "expected a day: Monday to Sunday, or mon to sun"));
        }
        if clock(&self.time).is_none() {
            return Err(Invalid::new("time", "expected HH:MM, 00:00 to 23:59"));
        }
        let release_url = match self.release_url {
            None => before.release_url.clone(),
            Some(url) => url.filter(|url| !url.is_empty()),
        };
        if let Some(url) = &release_url {
            let parsed = url::Url::parse(url).ok();
            let good = parsed.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
            if good.is_none() || url.len() > 2048 {
                return Err(Invalid::new("release_url", "expected an http or https URL"));
            }
        }
        Ok(UpdateSettings {
            enabled: self.enabled,
            day_of_week: self.day_of_week,
            time: self.time,
            auto_check: self.auto_check,
            auto_install: self.auto_install,
            auto_reboot: self.auto_reboot,
            auto_update_aifw: self.auto_update_aifw,
            release_url,
        })
    }
}

impl UpdateSettings {
    /// The first window after `after`, in the time zone; `None` while disabled. In a night when the clock leaps over
    /// it, it is as much later as the clock leaps.
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Zoned> {
        if !self.enabled {
            return None;
        }
        let (day, at) = (weekday(&self.day_of_week)?, clock(&self.time)?);
        let local = after.to_zoned(zone.clone());
        let mut date = local.date();
        // The window of today may be over.
        for _ in 0..=7 {
            if date.weekday() == day {
                let window = date.to_datetime(at).to_zoned(zone.clone()).ok()?;
                if window.timestamp() > after {
                    return Some(window);
                }
            }
            date = date.tomorrow().ok()?;
        }
        None
    }
}

const DAYS: [(&str, Weekday); 7] = [
    ("monday", Weekday::Monday),
    ("tuesday", Weekday::Tuesday),
    ("wednesday", Weekday::Wednesday),
    ("thursday", Weekday::Thursday),
    ("friday", Weekday::Friday),
    ("saturday", Weekday::Saturday),
    ("sunday", Weekday::Sunday),
];

fn weekday(text: &str) -> Option<Weekday> {
    let text = text.to_ascii_lowercase();
    DAYS.iter().find(|(name, _)| *name == text || name[..3] == text).map(|(_, day)| *day)
}

fn clock(text: &str) -> Option<Time> {
    let digits = |text: &str| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    let (hour, minute) = text.split_once(':').filter(|(hour, minute)| digits(hour) && digits(minute))?;
    Time::new(hour.parse().ok()?, minute.parse().ok()?, 0, 0).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn settings(day: &str, time: &str) -> UpdateSettings {
        UpdateSettings {
            enabled: true,
            day_of_week: day.into(),
            time: time.into(),
            ..UpdateSettings::default()
        }
    }

    #[test]
    fn the_next_window_in_local_time() {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let next = |settings: &UpdateSettings, after: &str| {
            settings.next(after.parse().unwrap(), &zone).unwrap().to_string()
        };
        let monday = settings("Monday", "04:30");
        // 2026-11-24 is a Tuesday.
        assert_eq!(next(&monday, "2026-11-24T12:00:00Z"), "2026-11-30T04:30:00+01:00[Europe/Berlin]");
        assert_eq!(next(&monday, "2026-11-30T03:29:59Z"), "2026-11-30T04:30:00+01:00[Europe/Berlin]");
        assert_eq!(next(&monday, "2026-11-30T03:30:00Z"), "2026-12-07T04:30:00+01:00[Europe/Berlin]");
        assert_eq!(
            next(&settings("mon", "04:30"), "2026-11-24T12:00:00Z"),
            next(&monday, "2026-11-24T12:00:00Z")
        );
        // The clock leaps from 02:00 to 03:00 on 2026-03-29.
        assert_eq!(
            next(&settings("SUN", "02:30"), "2026-03-28T12:00:00Z"),
            "2026-03-29T03:30:00+02:00[Europe/Berlin]"
        );
        let off = UpdateSettings { enabled: false, ..monday };
        assert_eq!(off.next(Timestamp::UNIX_EPOCH, &zone), None);
    }
}
