//! The language of routing rules, as the proxy daemon reads it: matchers with values in backticks, `&&`, `||`, `!`
//! and parentheses. Rules that the daemon would drop (an unknown matcher, a bad regular expression) are refused.

use crate::config::BadValue;

/// What a matcher takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Takes {
    Text,
    Regex,
    NameAndText,
    NameAndRegex,
}

const MATCHERS: [(&str, Takes); 10] = [
    ("Host", Takes::Text),
    ("HostRegexp", Takes::Regex),
    ("Path", Takes::Text),
    ("PathPrefix", Takes::Text),
    ("PathRegexp", Takes::Regex),
    ("Method", Takes::Text),
    ("Header", Takes::NameAndText),
    ("Headers", Takes::NameAndText),
    ("HeaderRegexp", Takes::NameAndRegex),
    ("Query", Takes::NameAndText),
];

/// A parsed rule for HTTP requests. `Display` gives the daemon's own spelling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HttpRule {
    Matcher {
        name: &'static str,
        values: Vec<String>,
    },
    Not(Box<HttpRule>),
    /// Two or more.
    And(Vec<HttpRule>),
    /// Two or more.
    Or(Vec<HttpRule>),
}

impl HttpRule {
    /// The names that a request may be for, as far as the rule says: values of `Host` that are not negated.
    pub fn hosts(&self) -> Vec<&str> {
        match self {
            Self::Matcher { name: "Host", values } => values.iter().map(String::as_str).collect(),
            Self::Matcher { .. } | Self::Not(_) => Vec::new(),
            Self::And(parts) | Self::Or(parts) => parts.iter().flat_map(Self::hosts).collect(),
        }
    }
}

impl std::fmt::Display for HttpRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        /// Operators of lower precedence stand in parentheses.
        fn operand(rule: &HttpRule, f: &mut std::fmt::Formatter<'_>, bare: bool) -> std::fmt::Result {
            if bare { write!(f, "{rule}") } else { write!(f, "({rule})") }
        }
        let between = |at: usize, operator: &'static str| if at == 0 { "" } else { operator };
        match self {
            Self::Matcher { name, values } => {
                write!(f, "{name}(")?;
                for (at, value) in values.iter().enumerate() {
                    write!(f, "{}`{value}`", between(at, ", "))?;
                }
                f.write_str(")")
            }
            Self::Not(inner) => {
                f.write_str("!")?;
                operand(inner, f, matches!(**inner, Self::Matcher { .. } | Self::Not(_)))
            }
            Self::And(parts) => parts.iter().enumerate().try_for_each(|(at, part)| {
                f.write_str(between(at, " && "))?;
                operand(part, f, !matches!(part, Self::Or(_)))
            }),
            Self::Or(parts) => parts.iter().enumerate().try_for_each(|(at, part)| {
                f.write_str(between(at, " || "))?;
                operand(part, f, true)
            }),
        }
    }
}

/// Characters of a rule. The daemon parses rules by recursion, once an operator.
const LONGEST: usize = 8192;

/// Reads a rule for HTTP requests; a refusal names the matcher at fault.
pub fn parse_http(text: &str) -> Result<HttpRule, BadValue> {
    if text.len() > LONGEST {
        return Err(BadValue::new(format!("at most {LONGEST} characters")));
    }
    if !text.is_ascii() {
        // The daemon counts characters where it should count bytes.
        return Err(BadValue::new("a rule of ASCII characters (write names in punycode)"));
    }
    let mut parser = Parser { text, at: 0, depth: 0 };
    let rule = parser.or()?;
    match parser.peek() {
        None => Ok(rule),
        Some(_) => Err(parser.expected("the end, && or ||")),
    }
}

const DEEPEST: usize = 32;

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }
    fn peek(&mut self) -> Option<char> {
        let blanks = self.rest().len() - self.rest().trim_start().len();
        self.at += blanks;
        self.rest().chars().next()
    }
    fn take(&mut self, token: &str) -> bool {
        self.peek();
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }
    fn expected(&self, what: &str) -> BadValue {
        let found = self.rest().chars().take(20).collect::<String>();
        match found.is_empty() {
            true => BadValue::new(format!("{what} at the end of the rule")),
            false => BadValue::new(format!("{what} before {found:?}")),
        }
    }
    fn or(&mut self) -> Result<HttpRule, BadValue> {
        self.joined("||", Self::and, HttpRule::Or)
    }
    fn and(&mut self) -> Result<HttpRule, BadValue> {
        self.joined("&&", Self::unary, HttpRule::And)
    }
    /// Parts with an operator between them; one part stays what it is.
    fn joined(
        &mut self,
        operator: &str,
        part: fn(&mut Self) -> Result<HttpRule, BadValue>,
        join: fn(Vec<HttpRule>) -> HttpRule,
    ) -> Result<HttpRule, BadValue> {
        let first = part(self)?;
        if !self.take(operator) {
            return Ok(first);
        }
        let mut parts = vec![first, part(self)?];
        while self.take(operator) {
            parts.push(part(self)?);
        }
        Ok(join(parts))
    }
    fn unary(&mut self) -> Result<HttpRule, BadValue> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(BadValue::new(format!("at most {DEEPEST} levels of parentheses and !")));
        }
        let rule = if self.take("!") {
            HttpRule::Not(self.unary()?.into())
        } else if self.take("(") {
            let inner = self.or()?;
            if !self.take(")") {
                return Err(self.expected("a closing parenthesis"));
            }
            inner
        } else {
            self.matcher()?
        };
        self.depth -= 1;
        Ok(rule)
    }
    fn matcher(&mut self) -> Result<HttpRule, BadValue> {
        self.peek();
        let word: String = self.rest().chars().take_while(char::is_ascii_alphanumeric).collect();
        if word.is_empty() {
            return Err(self.expected("a matcher such as Host(`name`)"));
        }
        let known = MATCHERS.iter().find(|(name, _)| *name == word);
        let Some((name, takes)) = known else {
            let names: Vec<&str> = MATCHERS.iter().map(|(name, _)| *name).collect();
            return Err(BadValue::new(format!("a matcher of {}; {word} is none", names.join(", "))));
        };
        self.at += word.len();
        if !self.take("(") {
            return Err(self.expected(&format!("({name} with) an opening parenthesis")));
        }
        let mut values = vec![self.value(name)?];
        while self.take(",") {
            values.push(self.value(name)?);
        }
        if !self.take(")") {
            return Err(self.expected("a closing parenthesis"));
        }
        let wanted = if matches!(takes, Takes::NameAndText | Takes::NameAndRegex) { 2 } else { 1 };
        if values.len() != wanted {
            // Of several hosts or paths the daemon would take the first and forget the others.
            return Err(BadValue::new(format!("{name} with {wanted} value(s); combine matchers with ||")));
        }
        if matches!(takes, Takes::Regex | Takes::NameAndRegex)
            && let Some(pattern) = values.last()
            && let Err(error) = regex::Regex::new(pattern)
        {
            let reason = error.to_string();
            let last = reason.lines().last().unwrap_or_default().trim().to_owned();
            return Err(BadValue::new(format!(
                "{name} with a regular expression; `{pattern}` is none: {last}"
            )));
        }
        let name = if *name == "Headers" { "Header" } else { name };
        Ok(HttpRule::Matcher { name, values })
    }
    fn value(&mut self, name: &str) -> Result<String, BadValue> {
        if !self.take("`") {
            return Err(self.expected(&format!("(of {name}) a value in backticks")));
        }
        let Some(end) = self.rest().find('`') else {
            return Err(self.expected("a closing backtick"));
        };
        let value = self.rest()[..end].to_owned();
        self.at += end + 1;
        match value.chars().any(char::is_control) {
            true => Err(BadValue::new(format!("{name} without control characters"))),
            false => Ok(value),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn again(text: &str) -> String {
        parse_http(text).unwrap().to_string()
    }
    fn refused(text: &str) -> String {
        parse_http(text).unwrap_err().to_string()
    }

    #[test]
    fn rules_are_read_and_printed_as_the_daemon_spells_them() {
        assert_eq!(again("Host(`a`)&&PathPrefix(`/x`)"), "Host(`a`) && PathPrefix(`/x`)");
        assert_eq!(again("Headers(`X-A`,`b`) || !Method(`GET`)"), "Header(`X-A`, `b`) || !Method(`GET`)");
        assert_eq!(
            again("(Host(`a`) || Host(`b`)) && !(Path(`/`) && Query(`k`,`v`))"),
            "(Host(`a`) || Host(`b`)) && !(Path(`/`) && Query(`k`, `v`))"
        );
        assert_eq!(again("HostRegexp(`^.+\\.lan$`)"), "HostRegexp(`^.+\\.lan$`)");
    }

    #[test]
    fn what_the_daemon_would_drop_is_refused() {
        assert!(refused("ClientIP(`10.0.0.0/8`)").ends_with("ClientIP is none"));
        assert!(refused("Host(`a`,`b`)").contains("combine matchers"));
        assert!(refused("HostRegexp(`(`)").contains("regular expression"));
        assert!(refused("Host(a)").contains("backticks"));
        assert!(refused("Host(`a`) PathPrefix(`/`)").contains("&&"));
        assert!(refused("").contains("a matcher"));
        assert!(refused("Host(`é`)").contains("ASCII"));
        assert!(refused(&"!".repeat(100)).contains("levels"));
        assert!(refused("(Host(`a`)").contains("closing parenthesis"));
    }

    #[test]
    fn a_long_rule_is_refused_and_one_of_many_parts_is_read_without_recursion() {
        let many = |count: usize, operator: &str| vec!["Path(`/`)"; count].join(operator);
        // What was posted to take the whole process down.
        assert_eq!(refused(&many(20_000, "||")), "at most 8192 characters");
        assert_eq!(refused(&many(20_000, "&&")), "at most 8192 characters");
        let HttpRule::Or(parts) = parse_http(&many(700, "||")).unwrap() else { unreachable!() };
        assert_eq!(parts.len(), 700);
        assert_eq!(again(&many(700, "&&")), many(700, " && "));
        assert!(refused(&"(".repeat(8000)).contains("levels"));
    }

    #[test]
    fn the_names_that_a_rule_asks_for() {
        let rule = parse_http("(Host(`a.test`) || Host(`b.test`) && !Host(`c.test`)) && Path(`/`)").unwrap();
        assert_eq!(rule.hosts(), ["a.test", "b.test"]);
        assert!(parse_http("HostRegexp(`.*`)").unwrap().hosts().is_empty());
    }
}
