"""Tests of the expect engine against programs on a pseudo-terminal. Run: python3 -m unittest discover -s qemu/tests"""

import contextlib
import io
import os
import pty
import sys
import textwrap
import tty
import unittest
from pathlib import Path
from typing import Iterator

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))

from console import Alarm, Console, HungUp, Question, Refused, Silence  # noqa: E402

# Long enough for a busy host; a test that passes does not wait for it.
SOON = 30.0


@contextlib.contextmanager
def program(source: str, **options) -> Iterator[Console]:
    """A console to a Python program on a terminal of its own."""
    child, near = pty.fork()
    if child == 0:
        os.execv(sys.executable, [sys.executable, "-u", "-c", textwrap.dedent(source)])
    try:
        yield Console(near, **options)
    finally:
        os.close(near)
        os.waitpid(child, 0)


class Conversation(unittest.TestCase):
    """What `expect`, `line` and `answer` do."""

    def test_what_comes_before_a_match_is_told_and_what_comes_after_is_kept(self):
        with program("print('one two three'); input()") as console:
            heard = console.expect("two", timeout=SOON)
            self.assertEqual(heard.before, "one ")
            self.assertEqual(console.expect(r"thr(\w+)", timeout=SOON).match.group(1), "ee")

    def test_the_text_that_begins_first_decides_not_the_order_of_the_patterns(self):
        with program("print('login: now'); input()") as console:
            self.assertEqual(console.expect("now", "login:", timeout=SOON).index, 1)

    def test_a_line_reaches_the_program(self):
        with program("print('you said ' + input('name: '))") as console:
            console.expect("name: ", timeout=SOON)
            console.line("hurz")
            console.expect("^you said hurz$", timeout=SOON)

    def test_a_text_in_pieces_is_found(self):
        source = """
            import os, sys
            os.write(1, b'pass'); sys.stdin.readline()
            os.write(1, b'word: '); sys.stdin.readline()
        """
        with program(source) as console:
            with self.assertRaises(Silence):
                console.expect("password: ", timeout=0.5)
            console.send("\x04")
            console.expect("password: ", timeout=SOON)

    def test_control_sequences_are_not_part_of_the_text(self):
        with program(r"import os; os.write(1, b'\x1b[1;32mlo\x1b[0mgin\x1b]0;title\x07: '); input()") as console:
            console.expect("^login: ", timeout=SOON)

    def test_questions_are_answered_in_whatever_order_they_come(self):
        source = """
            answers = [input('Hostname [aifw]: '), input('Password: '), input('Confirm: '), input('Password: ')]
            print('done', answers)
        """
        questions = [Question(r"^Password: ", ["a", "b"]), Question(r"^Confirm: ", ["a"]), Question(r"Hostname.*: ", [""])]
        with program(source) as console:
            heard = console.answer(questions, until=r"done (.*)\n", timeout=SOON)
            self.assertEqual(heard.match.group(1), "['', 'a', 'a', 'b']")

    def test_a_question_that_comes_again_is_an_error(self):
        with program("while True: input('port: ')") as console:
            with self.assertRaisesRegex(Refused, "asked 2 times: 'port: '"):
                console.answer([Question("port: ", ["0"])], until="done", timeout=SOON)

    def test_silence_tells_the_last_lines(self):
        with program("print('booting'); input('what now? ')") as console:
            console.expect("now", timeout=SOON)
            with self.assertRaisesRegex(Silence, r"(?s)no 'login:' within 0 s.*booting.*what now\?"):
                console.expect("login:", timeout=0.2)

    def test_the_end_of_the_program_is_told(self):
        with program("print('bye')") as console:
            with self.assertRaisesRegex(HungUp, "bye"):
                console.expect("login:", timeout=SOON)

    def test_a_text_printed_before_the_end_is_found(self):
        with program("print('halted')") as console:
            console.expect("halted", timeout=SOON)
            self.assertEqual(console.follow_to_end(SOON).strip(), "")

    def test_an_alarm_ends_whatever_is_waited_for(self):
        with program("import os; os.write(1, b'pan'); os.write(1, b'ic: page fault'); input()",
                     alarms=[r"^panic: "]) as console:
            with self.assertRaisesRegex(Alarm, "panic"):
                console.expect("login:", timeout=SOON)

    def test_an_alarm_is_raised_once_even_if_the_wait_goes_on(self):
        with program("print('panic: page fault'); input('db> ')", alarms=[r"^panic: "]) as console:
            with self.assertRaises(Alarm):
                console.expect("db> ", timeout=SOON)
            console.expect("db> ", timeout=SOON)

    def test_the_transcript_has_every_byte(self):
        transcript = io.BytesIO()
        with program("import os; os.write(1, b'\\x1b[1mbold\\x1b[0m end'); input()", transcript=transcript) as console:
            console.expect("end", timeout=SOON)
        self.assertEqual(transcript.getvalue(), b"\x1b[1mbold\x1b[0m end")


class Pieces(unittest.TestCase):
    """Control sequences and characters that arrive in two pieces."""

    def setUp(self):
        self.far, near = pty.openpty()
        tty.setraw(near)
        self.addCleanup(os.close, near)
        self.addCleanup(os.close, self.far)
        self.console = Console(near)

    def test_every_cut_of_a_text_gives_the_same_text(self):
        data = "\x1b[2J\x1b[1;31mGrün\x1b[0m\x1b]2;x\x1b\\.\r\n".encode()
        for cut in range(1, len(data)):
            os.write(self.far, data[:cut])
            seen = self.console.drain(quiet=0.01)
            os.write(self.far, data[cut:])
            seen += self.console.expect(r"\n", timeout=SOON).before
            self.assertEqual(seen, "Grün.", f"cut at {cut}")


if __name__ == "__main__":
    unittest.main()
