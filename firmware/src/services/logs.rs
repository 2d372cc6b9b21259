//! Looking through what a daemon has said.

use crate::supervisor::LogLine;

/// Of these lines, which are oldest first, the newest `most` that hold `needle` (any case), newest first,
/// without colours.
pub fn select(lines: &[LogLine], needle: Option<&str>, most: usize) -> Vec<String> {
    let needle = needle.unwrap_or_default().to_lowercase();
    let plain = lines.iter().rev().map(|line| without_colours(&line.line));
    plain.filter(|line| needle.is_empty() || line.to_lowercase().contains(&needle)).take(most).collect()
}

/// As [`without_colours`], for several lines: those that say something, joined.
pub fn without_colours_all(text: &str) -> String {
    let lines = text.lines().map(|line| without_colours(line).trim().to_owned());
    lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
}

/// Leaves out escape sequences (ECMA-48 §5.4) and other control characters.
pub fn without_colours(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut rest = line.chars().peekable();
    while let Some(c) = rest.next() {
        if c == '\u{1b}' && rest.peek() == Some(&'[') {
            rest.next();
            for c in rest.by_ref() {
                if ('\u{40}'..='\u{7e}').contains(&c) {
                    break;
                }
            }
        } else if c == '\t' || !c.is_control() {
            plain.push(c);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Timestamp;

    #[test]
    fn the_newest_that_match_come_first_and_plain() {
        let line = |text: &str| LogLine { at: Timestamp::now(), line: text.into() };
        let lines = [line("\u{1b}[2mone\u{1b}[0m ERROR"), line("two"), line("three error\u{7}")];
        assert_eq!(select(&lines, Some("Error"), 5), ["three error", "one ERROR"]);
        assert_eq!(select(&lines, None, 2), ["three error", "two"]);
    }
}
