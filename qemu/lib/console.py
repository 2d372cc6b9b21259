"""The serial console as a conversation: wait for what the machine prints, answer, keep a transcript.

qemu/test speaks to the appliance through it. It knows nothing of QEMU, FreeBSD or the appliance: it is given a
file descriptor (a socket or the near end of a pseudo-terminal) and patterns. It never sleeps; it waits for bytes.
"""

import codecs
import os
import re
import select
import time
from dataclasses import dataclass, field
from typing import BinaryIO, Sequence

# Control sequences of ECMA-48 (colours, cursor movement, titles). A terminal acts on them, a pattern must not meet
# them. The second expression is the beginning of one that has not arrived whole.
_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-OQ-WYZ\\^-~])|[\x00\x07\x0e\x0f]")
_UNFINISHED = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|\][^\x07\x1b]*\x1b?|[ -/]*)?$")

# How much of the transcript an error shows.
_SHOWN_LINES = 40


class ConsoleError(Exception):
    """The conversation did not go as written; the message ends in the last lines that the machine printed."""


class Silence(ConsoleError):
    """None of the expected texts came in time."""


class HungUp(ConsoleError):
    """The other end is gone: the machine is off, or the program has ended."""


class Alarm(ConsoleError):
    """The machine printed a text that is never right, such as a kernel's panic."""


class Refused(ConsoleError):
    """A question was asked more often than there are answers: an answer was not taken."""


@dataclass(frozen=True)
class Heard:
    """What `expect` found: which of the patterns, the match, and the text that came before it."""

    index: int
    match: re.Match
    before: str


@dataclass
class Question:
    """A question of a dialogue: how it is recognised, and the answers in the order in which it is asked."""

    pattern: str
    answers: Sequence[str]
    asked: int = field(default=0)


class Console:
    """A conversation over `descriptor`, which stays the caller's to close."""

    def __init__(self, descriptor: int, transcript: BinaryIO | None = None, alarms: Sequence[str] = (),
                 send_to: int | None = None):
        """`send_to`: where answers go, if not the same way. `transcript` gets every byte as it came; `alarms` are patterns of texts that end the conversation."""
        self._descriptor = descriptor
        self._send_to = descriptor if send_to is None else send_to
        self._transcript = transcript
        self._alarms = [re.compile(pattern, re.MULTILINE) for pattern in alarms]
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._raw = ""  # the beginning of a control sequence
        self._unread = ""  # what no `expect` has passed yet
        self._history = ""
        self._checked = 0  # how far in `_history` alarms have been looked for

    def send(self, text: str) -> None:
        """Sends the text as it is."""
        data = text.encode()
        while data:
            try:
                data = data[os.write(self._send_to, data):]
            except BlockingIOError:
                select.select([], [self._send_to], [])
            except OSError as error:
                raise HungUp(self._tell(f"cannot send {text!r}: {error}")) from error

    def line(self, text: str = "") -> None:
        """Sends the text and Enter, which is a carriage return as on a keyboard."""
        self.send(text + "\r")

    def expect(self, *patterns: str, timeout: float) -> Heard:
        """Waits for the first text that matches one of the patterns, and passes it.

        Of several that match, the one that begins first counts. Patterns match within lines (`^` and `$` are a
        line's ends; what has arrived may end within a line, so a text of unknown length is to be closed by `\\n`).
        Fails after `timeout` seconds, at the end of the conversation, and on an alarm.
        """
        wanted = [re.compile(pattern, re.MULTILINE) for pattern in patterns]
        deadline = time.monotonic() + timeout
        while True:
            found = [(match.start(), index, match) for index, pattern in enumerate(wanted)
                     if (match := pattern.search(self._unread))]
            if found:
                _, index, match = min(found, key=lambda entry: entry[:2])
                before = self._unread[:match.start()]
                self._unread = self._unread[match.end():]
                return Heard(index, match, before)
            remaining = deadline - time.monotonic()
            texts = " or ".join(repr(pattern) for pattern in patterns)
            if remaining <= 0:
                raise Silence(self._tell(f"no {texts} within {timeout:.0f} s"))
            if self._listen(remaining) is None:
                raise HungUp(self._tell(f"the line went dead while waiting for {texts}"))

    def answer(self, questions: Sequence[Question], until: str, timeout: float) -> Heard:
        """Answers the questions as they come, in whatever order, until a text matches `until`; returns that.

        `timeout` is for each next question. A question that comes once more than it has answers is an error: the
        appliance asks again when it refuses an answer.
        """
        patterns = [until, *(question.pattern for question in questions)]
        while True:
            heard = self.expect(*patterns, timeout=timeout)
            if heard.index == 0:
                return heard
            question = questions[heard.index - 1]
            if question.asked == len(question.answers):
                raise Refused(self._tell(f"asked {question.asked + 1} times: {heard.match.group()!r}"))
            question.asked += 1
            self.line(question.answers[question.asked - 1])

    def drain(self, quiet: float = 0.2) -> str:
        """Passes everything printed so far, until nothing comes for `quiet` seconds; returns it."""
        while self._listen(quiet):
            pass
        text, self._unread = self._unread, ""
        return text

    def follow_to_end(self, timeout: float) -> str:
        """Reads until the line is dead (a machine that powers off); returns what was printed."""
        deadline = time.monotonic() + timeout
        while (remaining := deadline - time.monotonic()) > 0:
            if self._listen(remaining) is None:
                text, self._unread = self._unread, ""
                return text
        raise Silence(self._tell(f"the line is not dead after {timeout:.0f} s"))

    def recent(self, lines: int = _SHOWN_LINES) -> str:
        """The last lines printed."""
        return "\n".join(self._history.split("\n")[-lines:])

    def _listen(self, timeout: float) -> bool | None:
        """Takes what has come, waiting for it up to `timeout`: whether anything came; None at the line's end."""
        ready, _, _ = select.select([self._descriptor], [], [], timeout)
        if not ready:
            return False
        try:
            data = os.read(self._descriptor, 65536)
        except BlockingIOError:
            return True
        except OSError:  # Linux: the far end of a pseudo-terminal is closed; a socket was reset
            data = b""
        if not data:
            return None
        if self._transcript:
            self._transcript.write(data)
            self._transcript.flush()
        self._take(self._raw + self._decoder.decode(data))
        return True

    def _take(self, text: str) -> None:
        unfinished = _UNFINISHED.search(text)
        self._raw = unfinished.group() if unfinished else ""
        if self._raw:
            text = text[:-len(self._raw)]
        plain = _SEQUENCE.sub("", text).replace("\r", "")
        self._unread += plain
        self._history += plain
        checked, self._checked = self._checked, len(self._history)
        # From the beginning of the last line seen: an alarm may have arrived in two pieces.
        begin = self._history.rfind("\n", 0, checked) + 1
        for alarm in self._alarms:
            for match in alarm.finditer(self._history, begin):
                if match.end() > checked:
                    raise Alarm(self._tell(f"the machine says {match.group()!r}"))

    def _tell(self, what: str) -> str:
        return f"{what}\n--- the last lines of the console:\n{self.recent()}\n---"
