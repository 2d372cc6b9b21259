//! Times of a schedule as cron writes them: second, minute, hour, day of month, month, day of week, and perhaps a
//! year. A day fits if both day fields fit. Pure; local time.

use std::fmt;
use std::str::FromStr;

use jiff::Zoned;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::names::as_text;
use crate::config::BadValue;

/// A field's name, first and last value, and words for its values.
type Field = (&'static str, u16, u16, &'static [&'static str]);

const MONTHS: &[&str] = &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const DAYS: &[&str] = &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
const FIELDS: [Field; 7] = [
    ("second", 0, 59, &[]),
    ("minute", 0, 59, &[]),
    ("hour", 0, 23, &[]),
    ("day of month", 1, 31, &[]),
    ("month", 1, 12, MONTHS),
    // 0 and 7 are both Sunday.
    ("day of week", 0, 7, DAYS),
    ("year", 1970, 2199, &[]),
];

/// A schedule, as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cron {
    text: String,
    /// The values of each field that fit; empty = all.
    fields: [Vec<u16>; 7],
}
as_text!(Cron, "Cron", "second minute hour day-of-month month day-of-week [year]");

impl FromStr for Cron {
    type Err = BadValue;
    fn from_str(text: &str) -> Result<Self, BadValue> {
        let words: Vec<&str> = text.split_whitespace().collect();
        if !(6..=7).contains(&words.len()) {
            return Err(BadValue::new(
                "expected 6 fields, or 7 with a year: second minute hour day-of-month month day-of-week",
            ));
        }
        let mut fields: [Vec<u16>; 7] = Default::default();
        for ((values, word), field) in fields.iter_mut().zip(&words).zip(FIELDS) {
            *values = read(word, field).ok_or_else(|| {
                let (name, first, last, _) = field;
                BadValue::new(format!(
                    "{name}: expected *, or values from {first} to {last} such as 1,5-9,*/2, not {word:?}"
                ))
            })?;
        }
        Ok(Self { text: words.join(" "), fields })
    }
}

/// The values of one field.
fn read(word: &str, (_, first, last, names): Field) -> Option<Vec<u16>> {
    if word == "*" || word == "?" {
        return Some(Vec::new());
    }
    let value = |text: &str| {
        let named = names.iter().position(|name| name.eq_ignore_ascii_case(text));
        let base = if names.len() == 12 { 1 } else { 0 };
        let number = named.and_then(|at| u16::try_from(at).ok()).map(|at| at + base);
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        number
            .or_else(|| digits.then(|| text.parse().ok()).flatten())
            .filter(|value| (first..=last).contains(value))
    };
    let mut values = Vec::new();
    for part in word.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, step.parse::<usize>().ok().filter(|step| *step > 0)?),
            None => (part, 1),
        };
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (first, last),
            Some((from, to)) => (value(from)?, value(to)?),
            None if part.contains('/') => (value(range)?, last),
            None => (value(range)?, value(range)?),
        };
        if from > to {
            return None;
        }
        values.extend((from..=to).step_by(step));
    }
    Some(values)
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Cron {
    /// At no time.
    pub fn never() -> Self {
        let mut fields: [Vec<u16>; 7] = Default::default();
        fields[6] = vec![1970];
        Self { text: "* * * * * * 1970".into(), fields }
    }

    /// Whether it names this second.
    pub fn fits(&self, at: &Zoned) -> bool {
        let number = |value: i8| u16::from(value.unsigned_abs());
        let weekday = number(at.weekday().to_sunday_zero_offset());
        let values = [
            number(at.second()),
            number(at.minute()),
            number(at.hour()),
            number(at.day()),
            number(at.month()),
            weekday,
            at.year().unsigned_abs(),
        ];
        self.fields.iter().zip(values).enumerate().all(|(index, (fitting, value))| {
            let sunday = index == 5 && value == 0 && fitting.contains(&7);
            fitting.is_empty() || fitting.contains(&value) || sunday
        })
    }

    /// Whether it names a second after `last` up to `now`; of a longer time, the last hour counts.
    pub fn fired(&self, last: &Zoned, now: &Zoned) -> bool {
        let passed = now.timestamp().as_second() - last.timestamp().as_second();
        (0..passed.clamp(0, 3600)).any(|back| {
            let moment = now.checked_sub(jiff::SignedDuration::from_secs(back));
            moment.is_ok_and(|moment| self.fits(&moment))
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn fits(cron: &str, at: &str) -> bool {
        cron.parse::<Cron>().unwrap().fits(&at.parse().unwrap())
    }

    #[test]
    fn moments_fit() {
        // A Tuesday.
        let at = "2026-11-24T03:00:00+00:00[UTC]";
        for cron in [
            "0 0 3 * * *",
            "0 */5 1-4 24 NOV TUE",
            "0 0 3 ? * 2",
            "0 0 3 * * * 2026",
            "0,30 0 3 * 11 mon-fri",
        ] {
            assert!(fits(cron, at), "{cron}");
        }
        for cron in ["1 0 3 * * *", "0 0 3 25 * *", "0 0 3 * * SUN", "0 0 3 * * * 2027"] {
            assert!(!fits(cron, at), "{cron}");
        }
        assert!(fits("0 0 3 * * 7", "2026-11-29T03:00:00+00:00[UTC]"));
    }

    #[test]
    fn what_is_none_is_refused() {
        for bad in [
            "bad",
            "* * * * *",
            "60 * * * * *",
            "* * 24 * * *",
            "* * * 0 * *",
            "* * * * * FOO",
            "5-1 * * * * *",
            "*/0 * * * * *",
            "* * * * * * * *",
            "",
        ] {
            assert!(bad.parse::<Cron>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_minute_is_looked_through() {
        let cron: Cron = "30 0 3 * * *".parse().unwrap();
        let at = |text: &str| text.parse::<Zoned>().unwrap();
        let (before, after) = (at("2026-11-24T03:00:29+00:00[UTC]"), at("2026-11-24T03:01:29+00:00[UTC]"));
        assert!(cron.fired(&before, &after));
        assert!(!cron.fired(&after, &at("2026-11-24T03:02:29+00:00[UTC]")));
    }
}
