//! The line that somebody sits at: a serial or video terminal, an SSH session, or a script. Lines are read byte by
//! byte, so that it is the same everywhere: CR, LF or both end a line; backspace and DEL rub out; Ctrl-U takes the
//! line back; Ctrl-C and Ctrl-D are answers, not signals; arrow keys do nothing. Nothing is written but text, CR, LF
//! and backspace. A line that is hung up reads as its end.

use std::io::Write;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{
    InputFlags, LocalFlags, OutputFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr,
};
use zeroize::{Zeroize, Zeroizing};

/// Nobody types more; what is longer is cut. An RSA key of 16,384 bits has 2,800 characters.
const LONGEST: usize = 8192;

/// Why a question has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// Ctrl-C.
    Interrupted,
    /// Ctrl-D, the end of the input, or the line was hung up.
    Ended,
}

/// Standard input and output, and how they were found.
pub struct Terminal {
    /// How the terminal was before; `None`: no terminal.
    before: Option<Termios>,
    /// A line ended in CR: an LF that follows belongs to it.
    after_cr: bool,
    /// Bytes that were read and not used yet.
    typed: std::collections::VecDeque<u8>,
    ended: bool,
}

fn input() -> BorrowedFd<'static> {
    // SAFETY: descriptor 0 is open for as long as the process runs; nothing here closes it.
    unsafe { BorrowedFd::borrow_raw(0) }
}

impl Terminal {
    pub fn open() -> Self {
        let mut terminal = Self {
            before: tcgetattr(input()).ok(),
            after_cr: false,
            typed: std::collections::VecDeque::new(),
            ended: false,
        };
        terminal.take();
        terminal
    }

    /// Whether somebody sits there.
    pub fn is_terminal(&self) -> bool {
        self.before.is_some()
    }

    /// The dash of headings: a long one where the terminal is known to show it.
    pub fn dash(&self) -> &'static str {
        let set = |name| std::env::var(name).ok().filter(|text| !text.is_empty());
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set).unwrap_or_default();
        let shows = ["xterm", "screen", "tmux", "rxvt"];
        let terminal = set("TERM").unwrap_or_default();
        let utf8 = locale.to_ascii_uppercase().replace('-', "").contains("UTF8");
        if utf8 && shows.iter().any(|kind| terminal.starts_with(kind)) { "\u{2014}" } else { "-" }
    }

    /// Bytes as they are typed, no signals; line feeds still go out as CR LF.
    fn take(&mut self) {
        let Some(before) = &self.before else { return };
        let mut raw = before.clone();
        raw.input_flags.remove(
            InputFlags::ICRNL
                | InputFlags::INLCR
                | InputFlags::IGNCR
                | InputFlags::BRKINT
                | InputFlags::PARMRK,
        );
        raw.input_flags.insert(InputFlags::IGNBRK);
        raw.output_flags.insert(OutputFlags::OPOST | OutputFlags::ONLCR);
        raw.local_flags.remove(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG | LocalFlags::IEXTEN);
        raw.control_chars[SpecialCharacterIndices::VMIN as usize] = 1;
        raw.control_chars[SpecialCharacterIndices::VTIME as usize] = 0;
        // A line that was hung up refuses this; reading tells.
        let _ = tcsetattr(input(), SetArg::TCSADRAIN, &raw);
    }

    /// As it was found.
    fn give_back(&mut self) {
        if let Some(before) = &self.before {
            let _ = tcsetattr(input(), SetArg::TCSADRAIN, before);
        }
    }

    /// Runs something that uses the terminal itself.
    pub fn lend<T>(&mut self, work: impl FnOnce() -> T) -> T {
        self.flush();
        self.give_back();
        let done = work();
        self.take();
        self.after_cr = false;
        done
    }

    /// Text as it is. What cannot be written any more is dropped: reading tells that the line is hung up.
    pub fn write(&mut self, text: &str) {
        let _ = std::io::stdout().lock().write_all(text.as_bytes());
    }

    fn flush(&mut self) {
        let _ = std::io::stdout().lock().flush();
    }

    pub fn line(&mut self, text: impl std::fmt::Display) {
        self.write(&format!("{text}\n"));
    }

    pub fn ok(&mut self, text: impl std::fmt::Display) {
        self.line(format_args!("[OK] {text}"));
    }

    pub fn warn(&mut self, text: impl std::fmt::Display) {
        self.line(format_args!("[!] {text}"));
    }

    pub fn error(&mut self, text: impl std::fmt::Display) {
        self.line(format_args!("[ERROR] {text}"));
    }

    /// Reads a line after a prompt.
    pub fn read(&mut self, prompt: &str) -> Result<String, Left> {
        let mut line = self.read_bytes(prompt, true)?;
        let text = String::from_utf8_lossy(&line).into_owned();
        line.zeroize();
        Ok(text)
    }

    /// Reads a line that nobody sees. On anything but a terminal the same as [`Terminal::read`].
    pub fn read_secret(&mut self, prompt: &str) -> Result<Zeroizing<String>, Left> {
        let mut line = self.read_bytes(prompt, false)?;
        let text = String::from_utf8_lossy(&line).into_owned();
        line.zeroize();
        Ok(Zeroizing::new(text))
    }

    fn read_bytes(&mut self, prompt: &str, shown: bool) -> Result<Vec<u8>, Left> {
        self.write(prompt);
        self.flush();
        let echo = shown && self.is_terminal();
        let mut line: Vec<u8> = Vec::new();
        let mut escape = Escape::None;
        loop {
            let Some(byte) = self.byte() else {
                // A last line without its end still counts.
                if !line.is_empty() && !self.is_terminal() {
                    return Ok(line);
                }
                line.zeroize();
                self.write("\n");
                return Err(Left::Ended);
            };
            if escape.swallows(byte) {
                continue;
            }
            let after_cr = std::mem::replace(&mut self.after_cr, byte == b'\r');
            match byte {
                b'\n' if after_cr => {}
                b'\r' | b'\n' => {
                    if self.is_terminal() {
                        self.write("\n");
                    }
                    return Ok(line);
                }
                0x03 if self.is_terminal() => {
                    line.zeroize();
                    self.write("^C\n");
                    return Err(Left::Interrupted);
                }
                0x04 if self.is_terminal() => {
                    if line.is_empty() {
                        self.write("\n");
                        return Err(Left::Ended);
                    }
                }
                0x08 | 0x7f => self.rub_out(&mut line, echo),
                0x15 => {
                    while !line.is_empty() {
                        self.rub_out(&mut line, echo);
                    }
                }
                0x1b => escape = Escape::Begun,
                b'\t' => self.put(b' ', &mut line, echo),
                0..0x20 => {}
                _ => self.put(byte, &mut line, echo),
            }
            self.flush();
        }
    }

    fn put(&mut self, byte: u8, line: &mut Vec<u8>, echo: bool) {
        if line.len() < LONGEST {
            line.push(byte);
            if echo {
                let _ = std::io::stdout().lock().write_all(&[byte]);
            }
        }
    }

    /// Takes the last character back, however many bytes it has (UTF-8).
    fn rub_out(&mut self, line: &mut Vec<u8>, echo: bool) {
        while line.last().is_some_and(|byte| (0x80..0xc0).contains(byte)) {
            line.pop();
        }
        if line.pop().is_some() && echo {
            self.write("\x08 \x08");
        }
    }

    /// The next byte; `None` at the end, and for ever after.
    fn byte(&mut self) -> Option<u8> {
        while self.typed.is_empty() && !self.ended {
            let mut bytes = [0; 256];
            match nix::unistd::read(input(), &mut bytes) {
                Err(Errno::EINTR) => {}
                Err(_) | Ok(0) => self.ended = true,
                Ok(count) => self.typed.extend(&bytes[..count]),
            }
            bytes.zeroize();
        }
        self.typed.pop_front()
    }

    /// Waits so long, or until Enter, `q`, Ctrl-C or Ctrl-D is typed; whether it was.
    pub fn wait(&mut self, time: Duration) -> Result<(), Left> {
        self.flush();
        let until = Instant::now() + time;
        loop {
            if self.typed.is_empty() && !self.ended {
                let left = until.saturating_duration_since(Instant::now());
                let mut watched = [PollFd::new(input(), PollFlags::POLLIN)];
                let limit = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
                match poll(&mut watched, limit) {
                    Ok(0) => return Ok(()),
                    Ok(_) | Err(Errno::EINTR) => {}
                    Err(_) => self.ended = true,
                }
                if until <= Instant::now() {
                    return Ok(());
                }
            }
            match self.byte() {
                None => return Err(Left::Ended),
                Some(byte) => {
                    self.after_cr = byte == b'\r';
                    if matches!(byte, b'\r' | b'q' | b'Q' | 0x03 | 0x04) || (byte == b'\n') {
                        return Err(Left::Interrupted);
                    }
                }
            }
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.flush();
        self.give_back();
    }
}

/// Keys that send a sequence (ECMA-48 §5.4): ESC, perhaps `[` or `O`, parameters, one final byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Escape {
    None,
    Begun,
    Parameters,
}

impl Escape {
    fn swallows(&mut self, byte: u8) -> bool {
        // A line end is never part of a key.
        if byte < 0x20 {
            *self = Self::None;
            return false;
        }
        let (next, swallowed) = match (*self, byte) {
            (Self::None, _) => (Self::None, false),
            (Self::Begun, b'[' | b'O') => (Self::Parameters, true),
            (Self::Begun, _) | (Self::Parameters, 0x40..=0x7e) => (Self::None, true),
            (Self::Parameters, _) => (Self::Parameters, true),
        };
        *self = next;
        swallowed
    }
}
