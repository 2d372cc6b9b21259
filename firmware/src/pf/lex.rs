//! Cuts pf.conf(5) text into words, numbers and signs as pfctl(8) does: comments, line continuation, quoted
//! strings, and macros, whose value is read again where `$name` stands. Called by [`super::parse`] only.

use std::collections::HashMap;

/// 1 = first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    pub line: u32,
    /// In characters.
    pub column: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    /// A reserved word of the grammar, not quoted.
    Keyword(&'static str),
    /// Any other word, or a quoted string.
    Word(String),
    Number(i64),
    /// `{ } ( ) , ! != < <= > >= <> >< = / - ->`
    Sign(&'static str),
    Newline,
    End,
}

impl Token {
    /// For messages.
    pub fn describe(&self) -> String {
        match self {
            Self::Keyword(word) | Self::Sign(word) => format!("{word:?}"),
            Self::Word(word) => format!("{word:?}"),
            Self::Number(number) => number.to_string(),
            Self::Newline => "end of line".into(),
            Self::End => "end of text".into(),
        }
    }
}

/// Text that is no sequence of words: where, and what was expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LexError {
    pub at: Position,
    pub expected: String,
    pub found: String,
}

/// A macro's value may not grow beyond this by naming other macros.
const MAX_MACRO: usize = 64 * 1024;
/// pfctl's own limit of a word.
const MAX_WORD: usize = 8095;

/// Reserved words, sorted.
const KEYWORDS: &[&str] = &[
    "af-to",
    "all",
    "allow-opts",
    "allow-related",
    "altq",
    "anchor",
    "antispoof",
    "any",
    "bandwidth",
    "binat",
    "binat-anchor",
    "binat-to",
    "bitmask",
    "block",
    "block-policy",
    "bridge-to",
    "buckets",
    "cbq",
    "code",
    "codelq",
    "debug",
    "divert-reply",
    "divert-to",
    "dnpipe",
    "dnqueue",
    "drop",
    "dup-to",
    "endpoint-independent",
    "ether",
    "fail-policy",
    "fairq",
    "fastroute",
    "file",
    "fingerprints",
    "flags",
    "floating",
    "flush",
    "for",
    "fragment",
    "from",
    "global",
    "group",
    "hfsc",
    "hogs",
    "hostid",
    "icmp-type",
    "icmp6-type",
    "if-bound",
    "in",
    "include",
    "inet",
    "inet6",
    "interval",
    "keep",
    "keepcounters",
    "l3",
    "label",
    "limit",
    "linkshare",
    "load",
    "log",
    "loginterface",
    "map-e-portset",
    "match",
    "matches",
    "max",
    "max-mss",
    "max-pkt-rate",
    "max-pkt-size",
    "max-src-conn",
    "max-src-conn-rate",
    "max-src-nodes",
    "max-src-states",
    "min-ttl",
    "modulate",
    "nat",
    "nat-anchor",
    "nat-to",
    "no",
    "no-df",
    "no-route",
    "no-sync",
    "on",
    "optimization",
    "os",
    "out",
    "overload",
    "pass",
    "pflow",
    "port",
    "prefer-ipv6-nexthop",
    "prio",
    "priority",
    "priq",
    "probability",
    "proto",
    "qlimit",
    "queue",
    "quick",
    "random",
    "random-id",
    "rdr",
    "rdr-anchor",
    "rdr-to",
    "realtime",
    "reassemble",
    "received-on",
    "reply-to",
    "require-order",
    "return",
    "return-icmp",
    "return-icmp6",
    "return-rst",
    "ridentifier",
    "round-robin",
    "route",
    "route-to",
    "rtable",
    "rule",
    "ruleset-optimization",
    "scrub",
    "set",
    "set-tos",
    "skip",
    "sloppy",
    "source-hash",
    "source-track",
    "state",
    "state-defaults",
    "state-policy",
    "static-port",
    "sticky-address",
    "syncookies",
    "synproxy",
    "table",
    "tag",
    "tagged",
    "target",
    "tbrsize",
    "timeout",
    "to",
    "tos",
    "ttl",
    "upperlimit",
    "urpf-failed",
    "user",
];

/// Whether pf.conf(5) reserves the word, so that it cannot name a table, an interface or a macro unquoted.
pub fn keyword(word: &str) -> Option<&'static str> {
    KEYWORDS.binary_search(&word).ok().map(|index| KEYWORDS[index])
}

pub struct Lexer<'a> {
    text: &'a [u8],
    next: usize,
    at: Position,
    macros: HashMap<String, String>,
    /// The macro value being read, and where its name stood.
    expansion: Option<(Vec<u8>, usize, Position)>,
}

impl<'a> Lexer<'a> {
    pub fn new(text: &'a str) -> Self {
        Self {
            text: text.as_bytes(),
            next: 0,
            at: Position { line: 1, column: 1 },
            macros: HashMap::new(),
            expansion: None,
        }
    }

    /// From now on `$name` reads as `value`.
    pub fn define(&mut self, at: Position, name: &str, value: &str) -> Result<(), LexError> {
        if value.len() > MAX_MACRO {
            let expected = format!("a macro value of at most {MAX_MACRO} bytes");
            return Err(LexError { at, expected, found: format!("{} bytes", value.len()) });
        }
        self.macros.insert(name.into(), value.into());
        Ok(())
    }

    /// Where the next byte stands.
    fn position(&self) -> Position {
        match &self.expansion {
            Some((text, next, at)) if *next < text.len() => *at,
            _ => self.at,
        }
    }

    fn peek_raw(&self) -> Option<u8> {
        match &self.expansion {
            Some((text, next, _)) if *next < text.len() => Some(text[*next]),
            _ => self.text.get(self.next).copied(),
        }
    }

    fn bump(&mut self) -> Option<u8> {
        if let Some((text, next, _)) = &mut self.expansion {
            if *next < text.len() {
                *next += 1;
                return Some(text[*next - 1]);
            }
            self.expansion = None;
        }
        let byte = *self.text.get(self.next)?;
        self.next += 1;
        if byte == b'\n' {
            self.at = Position { line: self.at.line + 1, column: 1 };
        } else if byte & 0xc0 != 0x80 {
            self.at.column += 1;
        }
        Some(byte)
    }

    /// The next byte outside quotes: a backslash joins lines, or drops out before anything else.
    fn peek(&mut self) -> Option<u8> {
        while self.peek_raw() == Some(b'\\') {
            self.bump();
            if self.peek_raw() != Some(b'\n') {
                break;
            }
            self.bump();
        }
        self.peek_raw()
    }

    fn error(&self, at: Position, expected: &str, found: impl Into<String>) -> LexError {
        LexError { at, expected: expected.into(), found: found.into() }
    }

    /// The next token and where it begins.
    pub fn token(&mut self) -> Result<(Token, Position), LexError> {
        loop {
            while matches!(self.peek(), Some(b' ' | b'\t' | b'\x0c')) {
                self.bump();
            }
            let at = self.position();
            match self.peek() {
                Some(b'#') => {
                    while self.peek().is_some_and(|byte| byte != b'\n') {
                        self.bump();
                    }
                }
                Some(b'$') if !self.expanding() => self.expand_macro(at)?,
                _ => return Ok((self.read(at)?, at)),
            }
        }
    }

    fn expanding(&self) -> bool {
        self.expansion.as_ref().is_some_and(|(text, next, _)| *next < text.len())
    }

    fn expand_macro(&mut self, at: Position) -> Result<(), LexError> {
        self.bump();
        let mut name = String::new();
        while let Some(byte) = self.peek().filter(|byte| byte.is_ascii_alphanumeric() || *byte == b'_') {
            name.push(char::from(byte));
            self.bump();
        }
        let Some(value) = self.macros.get(&name) else {
            return Err(self.error(at, "the name of a macro defined above", format!("${name}")));
        };
        self.expansion = Some((value.clone().into_bytes(), 0, at));
        Ok(())
    }

    fn read(&mut self, at: Position) -> Result<Token, LexError> {
        let Some(first) = self.peek() else {
            return Ok(Token::End);
        };
        if matches!(first, b'"' | b'\'') {
            return self.quoted(at, first);
        }
        if first == b'-' || first.is_ascii_digit() {
            return self.number_or_word(at, first);
        }
        if is_word_start(first) {
            return self.word(at, Vec::new());
        }
        self.bump();
        let follows = self.peek();
        let pair = match (first, follows) {
            (b'!', Some(b'=')) => Some("!="),
            (b'<', Some(b'>')) => Some("<>"),
            (b'<', Some(b'=')) => Some("<="),
            (b'>', Some(b'<')) => Some("><"),
            (b'>', Some(b'=')) => Some(">="),
            _ => None,
        };
        if let Some(pair) = pair {
            self.bump();
            return Ok(Token::Sign(pair));
        }
        Ok(match first {
            b'\n' => Token::Newline,
            b'{' => Token::Sign("{"),
            b'}' => Token::Sign("}"),
            b'(' => Token::Sign("("),
            b')' => Token::Sign(")"),
            b',' => Token::Sign(","),
            b'!' => Token::Sign("!"),
            b'<' => Token::Sign("<"),
            b'>' => Token::Sign(">"),
            b'=' => Token::Sign("="),
            b'/' => Token::Sign("/"),
            other => {
                let found = format!("{:?}", char::from(other));
                return Err(self.error(at, "a word, a number or a sign of the grammar", found));
            }
        })
    }

    fn quoted(&mut self, at: Position, quote: u8) -> Result<Token, LexError> {
        self.bump();
        let mut bytes = Vec::new();
        loop {
            match self.bump() {
                None => return Err(self.error(at, "a closing quote", "end of text")),
                Some(b'\n') => {}
                Some(0) => return Err(self.error(at, "text without NUL", "NUL")),
                Some(b'\\') => match self.peek_raw() {
                    Some(byte) if byte == quote || byte == b' ' || byte == b'\t' => {
                        self.bump();
                        bytes.push(byte);
                    }
                    Some(b'\n') => {
                        self.bump();
                    }
                    _ => bytes.push(b'\\'),
                },
                Some(byte) if byte == quote => break,
                Some(byte) => bytes.push(byte),
            }
            if bytes.len() > MAX_WORD {
                return Err(self.error(at, "a shorter string", "more than 8095 bytes"));
            }
        }
        // Quotes and the bytes pushed are cut at ASCII characters of valid UTF-8 text.
        Ok(Token::Word(String::from_utf8_lossy(&bytes).into_owned()))
    }

    fn number_or_word(&mut self, at: Position, first: u8) -> Result<Token, LexError> {
        self.bump();
        if first == b'-' && self.peek() == Some(b'>') {
            self.bump();
            return Ok(Token::Sign("->"));
        }
        let mut bytes = vec![first];
        while let Some(byte) = self.peek().filter(u8::is_ascii_digit) {
            self.bump();
            bytes.push(byte);
        }
        if bytes == b"-" {
            return Ok(Token::Sign("-"));
        }
        let ends = |byte: u8| {
            byte.is_ascii_whitespace() || byte == 0x0b || matches!(byte, b')' | b',' | b'/' | b'}' | b'=')
        };
        if self.peek().is_none_or(ends) {
            let digits = String::from_utf8_lossy(&bytes).into_owned();
            return match digits.parse() {
                Ok(number) => Ok(Token::Number(number)),
                Err(_) => Err(self.error(at, "a number below 2^63", digits)),
            };
        }
        if first == b'-' {
            return Err(self.error(at, "a number", String::from_utf8_lossy(&bytes)));
        }
        self.word(at, bytes)
    }

    fn word(&mut self, at: Position, mut bytes: Vec<u8>) -> Result<Token, LexError> {
        while let Some(byte) = self.peek().filter(|byte| is_word(*byte)) {
            self.bump();
            bytes.push(byte);
            if bytes.len() > MAX_WORD {
                return Err(self.error(at, "a shorter word", "more than 8095 bytes"));
            }
        }
        let word = String::from_utf8_lossy(&bytes).into_owned();
        Ok(keyword(&word).map_or(Token::Word(word), Token::Keyword))
    }
}

fn is_word_start(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'_')
}

fn is_word(byte: u8) -> bool {
    let sign = matches!(byte, b'(' | b')' | b'{' | b'}' | b'<' | b'>' | b'!' | b'=' | b'/' | b'#' | b',');
    byte.is_ascii_alphanumeric() || (byte.is_ascii_punctuation() && !sign)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn tokens(text: &str) -> Vec<Token> {
        let mut lexer = Lexer::new(text);
        let mut tokens = Vec::new();
        loop {
            match lexer.token().unwrap().0 {
                Token::End => return tokens,
                token => tokens.push(token),
            }
        }
    }
    fn word(text: &str) -> Token {
        Token::Word(text.into())
    }

    #[test]
    fn keywords_are_sorted() {
        assert!(KEYWORDS.is_sorted());
        assert_eq!(keyword("pass"), Some("pass"));
        assert_eq!(keyword("web"), None);
    }

    #[test]
    fn words_numbers_and_signs() {
        assert_eq!(
            tokens("pass from 10/8 port 80:* <>1"),
            [
                Token::Keyword("pass"),
                Token::Keyword("from"),
                Token::Number(10),
                Token::Sign("/"),
                Token::Number(8),
                Token::Keyword("port"),
                word("80:*"),
                Token::Sign("<>"),
                Token::Number(1),
            ]
        );
        assert_eq!(
            tokens("10.0.0.1 - ::1 ->"),
            [word("10.0.0.1"), Token::Sign("-"), word("::1"), Token::Sign("->")]
        );
        assert_eq!(tokens("\"a # b\" # c\n'd\\'e'"), [word("a # b"), Token::Newline, word("d'e")]);
        assert_eq!(tokens("pa\\\nss \\\n all"), [Token::Keyword("pass"), Token::Keyword("all")]);
        assert_eq!(tokens("'pass'"), [word("pass")]);
    }

    #[test]
    fn macros_are_read_again_but_not_inside_themselves() {
        let mut lexer = Lexer::new("$a,\nx");
        let start = Position { line: 1, column: 1 };
        lexer.define(start, "a", "{ 1 }").unwrap();
        let mut seen = Vec::new();
        loop {
            let (token, at) = lexer.token().unwrap();
            if token == Token::End {
                break;
            }
            seen.push((token, at.line, at.column));
        }
        assert_eq!(
            seen,
            [
                (Token::Sign("{"), 1, 1),
                (Token::Number(1), 1, 1),
                (Token::Sign("}"), 1, 1),
                (Token::Sign(","), 1, 3),
                (Token::Newline, 1, 4),
                (word("x"), 2, 1),
            ]
        );
        assert_eq!(Lexer::new(" $b").token().unwrap_err().at, Position { line: 1, column: 2 });
    }
}
