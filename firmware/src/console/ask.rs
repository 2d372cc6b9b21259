//! The forms that a question has (contract/console.md §1, "Input conventions"). Every one waits for ever, and is put
//! again until the answer is good; Ctrl-C and the end of the input end the whole dialogue.

use zeroize::Zeroizing;

use super::terminal::{Left, Terminal};
use crate::config::Invalid;

impl Terminal {
    /// `label [default]: `; Enter takes the default.
    pub fn ask(&mut self, label: &str, default: &str) -> Result<String, Left> {
        let prompt = match default {
            "" => format!("{label}: "),
            default => format!("{label} [{default}]: "),
        };
        let typed = self.read(&prompt)?;
        Ok(match typed.trim() {
            "" => default.to_owned(),
            text => text.to_owned(),
        })
    }

    /// Asks until `judge` takes the answer, and says why it does not.
    pub fn ask_until<T>(
        &mut self,
        label: &str,
        default: &str,
        mut judge: impl FnMut(&str) -> Result<T, Invalid>,
    ) -> Result<T, Left> {
        loop {
            let text = self.ask(label, default)?;
            match judge(&text) {
                Ok(value) => return Ok(value),
                Err(bad) => self.error(bad.reason),
            }
        }
    }

    /// `label [Y/n]: `; only `y` and `yes` mean yes, Enter takes the default.
    pub fn yes_no(&mut self, label: &str, default: bool) -> Result<bool, Left> {
        let typed = self.read(&format!("{label} [{}]: ", if default { "Y/n" } else { "y/N" }))?;
        Ok(match typed.trim().to_ascii_lowercase().as_str() {
            "" => default,
            text => text == "y" || text == "yes",
        })
    }

    /// A numbered list; gives the place of the chosen one, from 0.
    pub fn choose(&mut self, options: &[String], default: usize) -> Result<usize, Left> {
        for (place, option) in options.iter().enumerate() {
            let mark = if place == default { " *" } else { "" };
            self.line(format_args!("  {}) {option}{mark}", place + 1));
        }
        loop {
            let text = self.ask("Choice", &(default + 1).to_string())?;
            match text.parse::<usize>() {
                Ok(number) if (1..=options.len()).contains(&number) => return Ok(number - 1),
                _ => self.error(format_args!("expected a number from 1 to {}", options.len())),
            }
        }
    }

    /// A password, twice. `None` after so many attempts that were refused; 0 = never.
    pub fn new_password(
        &mut self,
        label: &str,
        attempts: usize,
        judge: impl Fn(&str) -> Result<(), Invalid>,
    ) -> Result<Option<Zeroizing<String>>, Left> {
        let mut made = 0;
        loop {
            let first = self.read_secret(&format!("{label}: "))?;
            match judge(&first) {
                Err(bad) => self.error(bad.reason),
                Ok(()) => {
                    let second = self.read_secret("The same once more: ")?;
                    if *first == *second {
                        return Ok(Some(first));
                    }
                    self.error("the two differ");
                }
            }
            made += 1;
            if made == attempts {
                return Ok(None);
            }
        }
    }
}
