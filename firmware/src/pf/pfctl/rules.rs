//! Rulesets and anchors: handing one over as a whole, and reading what is loaded, with its counters.

use crate::pf::{AnchorName, LoadedRule};

/// Parses the text on standard input and changes nothing.
pub const CHECK: &[&str] = &["-n", "-f", "-"];
/// Replaces the ruleset in one transaction, or leaves it as it was.
pub const LOAD: &[&str] = &["-f", "-"];
/// Options alone, beside those that are set. Without `-O` a file that holds only options would load an empty ruleset,
/// and without `-m` every other limit and time-out would go back to pf's own.
pub const MERGE_OPTIONS: &[&str] = &["-O", "-m", "-f", "-"];
pub const SHOW_FILTER: &[&str] = &["-v", "-s", "rules"];
pub const SHOW_TRANSLATION: &[&str] = &["-v", "-s", "nat"];
/// With `-v`, anchors within anchors are listed too.
pub const SHOW_ANCHORS: &[&str] = &["-v", "-s", "Anchors"];

/// The arguments that choose a ruleset.
pub fn place<'a>(anchor: AnchorName<'a>) -> Vec<&'a str> {
    anchor.map(|name| vec!["-a", name]).unwrap_or_default()
}

/// Rules with their counters. A rule is a line, and its counters follow on lines in brackets; what belongs to an
/// unnamed anchor is listed within braces and indented.
pub fn read(text: &str) -> Vec<LoadedRule> {
    let mut rules: Vec<LoadedRule> = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(counters) = line.strip_prefix('[') {
            if let Some(rule) = rules.last_mut() {
                read_counters(counters, rule);
            }
        } else if !line.is_empty() && line != "}" {
            let text = line.strip_suffix(" {").unwrap_or(line).to_owned();
            rules.push(LoadedRule { labels: read_labels(&text), text, ..LoadedRule::default() });
        }
    }
    rules
}

/// `Evaluations: 9  Packets: 32  Bytes: 2468  States: 7 ]`; other counters are passed over.
fn read_counters(text: &str, rule: &mut LoadedRule) {
    let mut words = text.split_whitespace();
    while let Some(word) = words.next() {
        let field = match word {
            "Evaluations:" => &mut rule.evaluations,
            "Packets:" => &mut rule.packets,
            "Bytes:" => &mut rule.bytes,
            "States:" => &mut rule.states,
            _ => continue,
        };
        *field = words.next().and_then(|number| number.parse().ok()).unwrap_or(0);
    }
}

/// All labels of a rule: the quoted words that follow `label`. A label holds no quote (pf.conf(5)), so every
/// other piece between quotes is quoted text.
fn read_labels(rule: &str) -> Vec<String> {
    let pieces: Vec<&str> = rule.split('"').collect();
    let pairs = pieces.chunks_exact(2);
    pairs
        .filter(|pair| pair[0].trim_end().rsplit([' ', ',']).next() == Some("label"))
        .map(|pair| pair[1].to_owned())
        .collect()
}

/// Anchor names, sorted; the list is indented.
pub fn read_anchors(text: &str) -> Vec<String> {
    let mut names: Vec<String> =
        text.lines().map(str::trim).filter(|line| !line.is_empty()).map(Into::into).collect();
    names.sort();
    names
}

/// Why a ruleset was refused: pfctl names the place as `stdin:LINE: reason` and says more on further lines; the
/// first place is what matters. Without a place it is what the kernel said of the ruleset. `None` when pf itself
/// cannot be reached, so that it was not the text that was refused.
pub fn read_refusal(stderr: &str) -> Option<String> {
    let place = stderr.lines().find_map(|line| {
        let (number, reason) = line.strip_prefix("stdin:")?.split_once(": ")?;
        number.parse::<u32>().ok().map(|number| format!("line {number}: {reason}"))
    });
    place.or_else(|| {
        let line = stderr.lines().next()?;
        (!stderr.contains("/dev/pf")).then(|| line.strip_prefix("pfctl: ").unwrap_or(line).to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filter_rules_with_counters_and_labels() {
        let text = "\
scrub in all fragment reassemble
  [ Evaluations: 36        Packets: 9         Bytes: 80          States: 0     ]
  [ Source Nodes: 0      Limit: 0      NAT/RDR: 0      Route: 0      ]
  [ Inserted: uid 0 pid 0 State Creations: 0     ]
anchor \"aifw\" all
  [ Evaluations: 9         Packets: 0         Bytes: 0           States: 0     ]
  [ Source Nodes: 0      Limit: 0      NAT/RDR: 0      Route: 0      ]
  [ Inserted: uid 0 pid 0 State Creations: 0     ]
pass in on vtnet1 from <lan> to any flags S/SA keep state label \"rule:11111111-2222-3333-4444-555555555555\"
  [ Evaluations: 0         Packets: 0         Bytes: 0           States: 0     ]
  [ Source Nodes: 0      Limit: 0      NAT/RDR: 0      Route: 0      ]
  [ Inserted: uid 0 pid 0 State Creations: 0     ]
pass out all flags S/SA keep state
  [ Evaluations: 9         Packets: 32        Bytes: 2468        States: 7     ]
  [ Source Nodes: 0      Limit: 0      NAT/RDR: 0      Route: 0      ]
  [ Inserted: uid 0 pid 0 State Creations: 9     ]
";
        let rules = read(text);
        assert_eq!(rules.len(), 4);
        let scrub = LoadedRule {
            text: "scrub in all fragment reassemble".into(),
            evaluations: 36,
            packets: 9,
            bytes: 80,
            ..LoadedRule::default()
        };
        assert_eq!(rules[0], scrub);
        assert_eq!((rules[1].text.as_str(), rules[1].labels.len()), ("anchor \"aifw\" all", 0));
        assert_eq!(rules[2].labels, ["rule:11111111-2222-3333-4444-555555555555"]);
        let last = &rules[3];
        assert_eq!((last.evaluations, last.packets, last.bytes, last.states), (9, 32, 2468, 7));
    }

    #[test]
    fn translation_rules() {
        let text = "\
nat on vtnet0 inet from 192.168.1.0/24 to any -> (vtnet0) round-robin
  [ Evaluations: 9         Packets: 0         Bytes: 0           States: 0     ]
  [ Inserted: uid 0 pid 0 State Creations: 0     ]
nat-anchor \"aifw-nat\" all
  [ Evaluations: 9         Packets: 32        Bytes: 2468        States: 7     ]
  [ Last Active Time: Mon Nov 23 21:42:40 2026 ]
";
        let rules = read(text);
        assert_eq!(rules[0].text, "nat on vtnet0 inet from 192.168.1.0/24 to any -> (vtnet0) round-robin");
        assert_eq!((rules.len(), rules[1].packets, rules[1].states), (2, 32, 7));
    }

    #[test]
    fn rules_of_an_unnamed_anchor_are_listed_too() {
        let text = "anchor all {\n  pass in quick on vtnet1 proto udp from any to any port = domain keep state label \"a\"\n}\n";
        let texts: Vec<_> = read(text).into_iter().map(|rule| rule.text).collect();
        assert_eq!(
            texts,
            [
                "anchor all",
                "pass in quick on vtnet1 proto udp from any to any port = domain keep state label \"a\""
            ]
        );
        assert!(read("").is_empty());
    }

    #[test]
    fn several_labels_and_quoted_text_that_is_none() {
        assert_eq!(read_labels(r#"pass all label "a b, c" label "d: label""#), ["a b, c", "d: label"]);
        assert!(read_labels(r#"anchor "label" all"#).is_empty());
        assert!(read_labels(r#"anchor "label "x"#).is_empty());
    }

    #[test]
    fn anchors_are_sorted() {
        let text = "  aifw\n  aifw-pbr\n  aifw-nat\n  aifw-nat/web\n";
        assert_eq!(read_anchors(text), ["aifw", "aifw-nat", "aifw-nat/web", "aifw-pbr"]);
    }

    #[test]
    fn a_refusal_names_the_line() {
        assert_eq!(read_refusal("stdin:1: syntax error\n"), Some("line 1: syntax error".into()));
        let several = "stdin:12: macro 'x' not defined\nstdin:12: syntax error\npfctl: Syntax error in config file: pf rules not loaded\n";
        assert_eq!(read_refusal(several), Some("line 12: macro 'x' not defined".into()));
        assert_eq!(
            read_refusal("pfctl: DIOCADDRULE: Invalid argument\n"),
            Some("DIOCADDRULE: Invalid argument".into())
        );
        assert_eq!(read_refusal("pfctl: /dev/pf: No such file or directory\n"), None);
        assert_eq!(read_refusal(""), None);
    }
}
