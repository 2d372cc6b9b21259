//! A managed block in a file that is not ours alone: our lines between two markers, the rest byte for byte as it was
//! (contract/system.md §1.3).

/// The file with its block replaced, or added at the end. Markers count only at the start of a line, blanks may follow.
/// A block whose end comes before its beginning, or is missing, counts as none.
pub fn with_block(text: &str, name: &str, lines: &[String]) -> String {
    let (begin, end) = (format!("# BEGIN {name}"), format!("# END {name}"));
    let mut block = format!("{begin}\n");
    for line in lines {
        block.push_str(line);
        block.push('\n');
    }
    block.push_str(&end);
    block.push('\n');
    let Some((from, to)) = find(text, &begin, &end) else {
        let gap = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
        return format!("{text}{gap}{block}");
    };
    format!("{}{block}{}", &text[..from], &text[to..])
}

/// The lines of a block, if there is one.
pub fn block<'a>(text: &'a str, name: &str) -> Option<Vec<&'a str>> {
    let (from, to) = find(text, &format!("# BEGIN {name}"), &format!("# END {name}"))?;
    let lines: Vec<&str> = text[from..to].lines().collect();
    Some(lines[1..lines.len() - 1].to_vec())
}

/// From the first marker's line to behind the line of the first end that follows it.
fn find(text: &str, begin: &str, end: &str) -> Option<(usize, usize)> {
    let mut from = None;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let bare = line.trim_end();
        match from {
            // Of two beginnings the later one: what lies between them is not known to be ours.
            _ if bare == begin => from = Some(at),
            Some(from) if bare == end => return Some((from, at + line.len())),
            _ => {}
        }
        at += line.len();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(lines: &[&str]) -> Vec<String> {
        lines.iter().map(|line| (*line).to_owned()).collect()
    }

    #[test]
    fn the_block_is_replaced_and_nothing_else() {
        let text =
            "a=\"1\"\n# BEGIN AiFw console  \nold=\"1\"\n# END AiFw console\n  # BEGIN AiFw console\nb=\"2\"";
        let new = with_block(text, "AiFw console", &lines(&["x=\"1\"", "y=\"2\""]));
        let expected = "a=\"1\"\n# BEGIN AiFw console\nx=\"1\"\ny=\"2\"\n# END AiFw console\n  # BEGIN AiFw console\nb=\"2\"";
        assert_eq!(new, expected);
        assert_eq!(with_block(&new, "AiFw console", &lines(&["x=\"1\"", "y=\"2\""])), expected);
        assert_eq!(block(&new, "AiFw console"), Some(vec!["x=\"1\"", "y=\"2\""]));
    }

    #[test]
    fn without_a_whole_block_one_is_added() {
        let block = "# BEGIN AiFw\nx\n# END AiFw\n";
        for (before, gap) in [
            ("", ""),
            ("a", "\n"),
            ("a\n", ""),
            ("# BEGIN AiFw\nx\n", ""),
            ("# END AiFw\nb\n# BEGIN AiFw\n", ""),
            ("# BEGIN AiFwX\nx\n# END AiFwX\n", ""),
        ] {
            let after = with_block(before, "AiFw", &lines(&["x"]));
            assert_eq!(after, format!("{before}{gap}{block}"));
            assert_eq!(with_block(&after, "AiFw", &lines(&["x"])), after);
        }
    }
}
