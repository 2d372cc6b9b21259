//! Reads pf.conf(5) text, and what `pfctl -sr`, `-sn` and `-vn` print, into [`super::ast`]. Macros are replaced,
//! lists are kept ([`super::expand`] takes them apart). What pf would refuse is refused with line, column and
//! what was expected; parts of pf that the product does without are refused by name. Used by the simulator and
//! by tests; it reads no files: `file "…"` stays a name.

mod options;
mod packets;
mod pools;
mod statements;

use std::collections::VecDeque;

use super::ast::{BadText, Ruleset, Text};
use super::lex::{LexError, Lexer, Position, Token};
use crate::config::InterfaceName;

/// Text that pf would not load.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: expected {expected}, found {found}")]
pub struct ParseError {
    pub line: u32,
    pub column: u32,
    pub expected: String,
    pub found: String,
}

impl From<LexError> for ParseError {
    fn from(error: LexError) -> Self {
        Self { line: error.at.line, column: error.at.column, expected: error.expected, found: error.found }
    }
}

/// Reads a whole ruleset.
pub fn parse(text: &str) -> Result<Ruleset, ParseError> {
    let mut parser = Parser { lexer: Lexer::new(text), ahead: VecDeque::new(), depth: 0 };
    parser.ruleset()
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    ahead: VecDeque<(Token, Position)>,
    /// Of inline anchors.
    depth: usize,
}

impl Parser<'_> {
    fn fill(&mut self, count: usize) -> Result<(), ParseError> {
        while self.ahead.len() < count {
            let token = self.lexer.token()?;
            self.ahead.push_back(token);
        }
        Ok(())
    }

    fn peek(&mut self) -> Result<&Token, ParseError> {
        self.fill(1)?;
        Ok(&self.ahead[0].0)
    }

    fn peek_second(&mut self) -> Result<&Token, ParseError> {
        self.fill(2)?;
        Ok(&self.ahead[1].0)
    }

    fn position(&mut self) -> Result<Position, ParseError> {
        self.fill(1)?;
        Ok(self.ahead[0].1)
    }

    fn next(&mut self) -> Result<Token, ParseError> {
        self.fill(1)?;
        Ok(self.ahead.pop_front().map_or(Token::End, |(token, _)| token))
    }

    /// The next token is not what the grammar asks for.
    fn unexpected<T>(&mut self, expected: impl Into<String>) -> Result<T, ParseError> {
        let at = self.position()?;
        let found = self.peek()?.describe();
        Err(ParseError { line: at.line, column: at.column, expected: expected.into(), found })
    }

    /// Something already read has a value that pf refuses.
    fn refused<T>(
        &self,
        at: Position,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Result<T, ParseError> {
        Err(ParseError { line: at.line, column: at.column, expected: expected.into(), found: found.into() })
    }

    fn is_keyword(&mut self, word: &str) -> Result<bool, ParseError> {
        Ok(matches!(self.peek()?, Token::Keyword(keyword) if *keyword == word))
    }
    fn is_sign(&mut self, sign: &str) -> Result<bool, ParseError> {
        Ok(matches!(self.peek()?, Token::Sign(found) if *found == sign))
    }
    /// Takes the reserved word if it comes next.
    fn accept(&mut self, word: &str) -> Result<bool, ParseError> {
        let found = self.is_keyword(word)?;
        if found {
            self.next()?;
        }
        Ok(found)
    }
    fn accept_sign(&mut self, sign: &str) -> Result<bool, ParseError> {
        let found = self.is_sign(sign)?;
        if found {
            self.next()?;
        }
        Ok(found)
    }
    fn expect(&mut self, word: &str) -> Result<(), ParseError> {
        if self.accept(word)? { Ok(()) } else { self.unexpected(format!("{word:?}")) }
    }
    fn expect_sign(&mut self, sign: &str) -> Result<(), ParseError> {
        if self.accept_sign(sign)? { Ok(()) } else { self.unexpected(format!("{sign:?}")) }
    }

    fn skip_newlines(&mut self) -> Result<(), ParseError> {
        while *self.peek()? == Token::Newline {
            self.next()?;
        }
        Ok(())
    }

    /// A word that is no reserved one, or a quoted string.
    fn word(&mut self, expected: &str) -> Result<String, ParseError> {
        match self.peek()? {
            Token::Word(_) => match self.next()? {
                Token::Word(word) => Ok(word),
                other => Ok(other.describe()),
            },
            _ => self.unexpected(expected),
        }
    }

    /// One or more words, joined by a blank each.
    fn words(&mut self, expected: &str) -> Result<String, ParseError> {
        let mut text = self.word(expected)?;
        while matches!(self.peek()?, Token::Word(_)) {
            text.push(' ');
            text.push_str(&self.word(expected)?);
        }
        Ok(text)
    }

    fn text(
        &mut self,
        expected: &str,
        read: impl FnOnce(&mut Self, &str) -> Result<String, ParseError>,
    ) -> Result<Text, ParseError> {
        let at = self.position()?;
        let text = read(self, expected)?;
        Text::new(&text).or_else(|BadText { expected, got }| self.refused(at, expected, format!("{got:?}")))
    }

    fn number(&mut self, least: i64, most: i64, expected: &str) -> Result<i64, ParseError> {
        match *self.peek()? {
            Token::Number(number) if (least..=most).contains(&number) => {
                self.next()?;
                Ok(number)
            }
            _ => self.unexpected(expected),
        }
    }

    fn number_u32(&mut self, expected: &str) -> Result<u32, ParseError> {
        let number = self.number(0, i64::from(u32::MAX), expected)?;
        Ok(u32::try_from(number).unwrap_or(u32::MAX))
    }

    /// `least` to 255 or below.
    fn number_u8(&mut self, most: u8, expected: &str) -> Result<u8, ParseError> {
        let number = self.number(0, i64::from(most), expected)?;
        Ok(u8::try_from(number).unwrap_or(u8::MAX))
    }

    fn number_u16(&mut self, expected: &str) -> Result<u16, ParseError> {
        let number = self.number(0, i64::from(u16::MAX), expected)?;
        Ok(u16::try_from(number).unwrap_or(u16::MAX))
    }

    fn interface_name(&mut self) -> Result<InterfaceName, ParseError> {
        const EXPECTED: &str = "an interface name: 1 to 15 of A-Z a-z 0-9 _ . -";
        let at = self.position()?;
        let word = self.word(EXPECTED)?;
        InterfaceName::new(&word).or_else(|_| self.refused(at, EXPECTED, format!("{word:?}")))
    }

    /// `item`, or `{ item, item … }` with commas and line ends left free.
    fn list<T>(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<T, ParseError>,
    ) -> Result<Vec<T>, ParseError> {
        if !self.accept_sign("{")? {
            return Ok(vec![item(self)?]);
        }
        self.skip_newlines()?;
        let mut items = vec![item(self)?];
        loop {
            self.skip_newlines()?;
            if self.accept_sign("}")? {
                return Ok(items);
            }
            self.accept_sign(",")?;
            items.push(item(self)?);
        }
    }

    /// `( item, item … )`
    fn parenthesised(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<(), ParseError>,
    ) -> Result<(), ParseError> {
        self.expect_sign("(")?;
        loop {
            item(self)?;
            if self.accept_sign(")")? {
                return Ok(());
            }
            self.accept_sign(",")?;
        }
    }
}
