//! Labels: their counters, one line for every labelled rule of the main ruleset, and the labels of the rule that
//! a logged packet met.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::{LoggedPacket, Tool, ask, rules};

pub const SHOW: &[&str] = &["-s", "labels"];

/// Counters of one labelled rule, as `pfctl -sl` has them. A label on several rules occurs as often.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelCounters {
    pub label: String,
    pub evaluations: u64,
    pub packets: u64,
    pub bytes: u64,
    pub packets_in: u64,
    pub bytes_in: u64,
    pub packets_out: u64,
    pub bytes_out: u64,
    pub states: u64,
}

/// Eight numbers stand at the end of each line; the label, which may hold blanks, is what is in front of them.
pub fn read(text: &str) -> Vec<LabelCounters> {
    text.lines().filter_map(read_line).collect()
}

fn read_line(line: &str) -> Option<LabelCounters> {
    let mut label = line.trim_end();
    let mut numbers = [0u64; 8];
    for number in numbers.iter_mut().rev() {
        let (front, last) = label.rsplit_once(' ')?;
        *number = last.parse().ok()?;
        label = front;
    }
    let [evaluations, packets, bytes, packets_in, bytes_in, packets_out, bytes_out, states] = numbers;
    let label = label.to_owned();
    Some(LabelCounters {
        label,
        evaluations,
        packets,
        bytes,
        packets_in,
        bytes_in,
        packets_out,
        bytes_out,
        states,
    })
}

/// Labels by rule number, asked of pf once per ruleset and forgotten at every load.
#[derive(Debug)]
pub struct LabelCache {
    tool: Tool,
    /// By the anchor's name as pflog(4) has it, empty for the main ruleset; `None` where pf could not tell.
    rulesets: Mutex<HashMap<String, Option<Vec<Vec<String>>>>>,
}

impl LabelCache {
    pub fn new(tool: Tool) -> Self {
        Self { tool, rulesets: Mutex::default() }
    }

    /// Rule numbers have changed their meaning.
    pub fn forget(&self) {
        self.rulesets.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Labels of the rule that decided, as far as pf can tell now.
    pub fn of(&self, packet: &LoggedPacket) -> Vec<String> {
        let Some(number) = packet.rule_number.and_then(|number| usize::try_from(number).ok()) else {
            return Vec::new();
        };
        let mut rulesets = self.rulesets.lock().unwrap_or_else(PoisonError::into_inner);
        let ruleset =
            rulesets.entry(packet.anchor.clone()).or_insert_with(|| labels_of(&self.tool, &packet.anchor));
        ruleset.as_ref().and_then(|labels| labels.get(number)).cloned().unwrap_or_default()
    }
}

/// Labels of each filter rule of a ruleset. pflog(4) has the last part of an anchor's path only; where several
/// anchors end in it, none can be told.
fn labels_of(tool: &Tool, anchor: &str) -> Option<Vec<Vec<String>>> {
    let path = if anchor.is_empty() {
        None
    } else {
        let anchors = rules::read_anchors(&ask(tool, rules::SHOW_ANCHORS).ok()?);
        let mut ending = anchors.into_iter().filter(|path| path.rsplit('/').next() == Some(anchor));
        let path = ending.next()?;
        ending.next().is_none().then_some(())?;
        Some(path)
    };
    let arguments = [&rules::place(path.as_deref()), rules::SHOW_FILTER].concat();
    let rules = rules::read(&ask(tool, &arguments).ok()?);
    // Scrub rules are listed first and numbered apart.
    let filter = rules.into_iter().filter(|rule| !is_scrub(&rule.text));
    Some(filter.map(|rule| rule.labels).collect())
}

fn is_scrub(rule: &str) -> bool {
    rule.starts_with("scrub ") || rule.starts_with("no scrub")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_may_hold_blanks_and_numbers() {
        let text = "default-deny 9 0 0 0 0 0 0 0\nrule:11111111-2222-3333-4444-555555555555 0 0 0 0 0 0 0 0\n\
                    web 80 9 8 7 6 5 4 3 2\nnot a counter\n";
        let counters = read(text);
        assert_eq!(counters.len(), 3);
        let denied =
            LabelCounters { label: "default-deny".into(), evaluations: 9, ..LabelCounters::default() };
        assert_eq!(counters[0], denied);
        let web = LabelCounters {
            label: "web 80".into(),
            evaluations: 9,
            packets: 8,
            bytes: 7,
            packets_in: 6,
            bytes_in: 5,
            packets_out: 4,
            bytes_out: 3,
            states: 2,
        };
        assert_eq!(counters[2], web);
    }
}
