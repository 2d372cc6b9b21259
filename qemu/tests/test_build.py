"""Tests of when an image is built."""

import os
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))

import build  # noqa: E402


class WhenToBuild(unittest.TestCase):
    """With a repository of two files, and the tool's calls recorded."""

    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix="aifw-")
        self.addCleanup(directory.cleanup)
        self.root = Path(directory.name)
        (self.root / "firmware" / "src").mkdir(parents=True)
        self.source = self.root / "firmware" / "src" / "main.rs"
        self.source.write_text("")
        (self.root / "README.md").write_text("")
        self.product = self.root / "target" / "aifw.img"
        self.calls = []
        for target, value in (("ROOT", self.root), ("tool", self.tool)):
            patch = mock.patch.object(build, target, value)
            patch.start()
            self.addCleanup(patch.stop)

    def tool(self, *arguments: str, answer: bool = False) -> str:
        self.calls.append(arguments)
        if arguments[0] == "build":
            Path(arguments[2]).write_bytes(b"image")
        if arguments[0] == "keygen":
            Path(arguments[1]).write_text("private")
        return "public\n" if answer else ""

    def test_an_image_is_built_once(self):
        build.image(Path("/sets"), self.product, "0.1.0", Path("/keys"))
        build.image(Path("/sets"), self.product, "0.1.0", Path("/keys"))
        self.assertEqual(self.calls, [("build", "--output", str(self.product), "--sets", "/sets", "--version", "0.1.0",
                                       "--release-keys", "/keys")])

    def test_it_is_built_again_when_a_source_is_newer_and_not_for_another_file(self):
        build.image(None, self.product)
        made = self.product.stat().st_mtime
        os.utime(self.root / "README.md", (made + 5, made + 5))
        build.image(None, self.product)
        self.assertEqual(len(self.calls), 1)
        os.utime(self.source, (made + 5, made + 5))
        build.image(None, self.product)
        self.assertEqual(len(self.calls), 2)

    def test_a_signing_key_is_made_once_and_its_public_half_kept(self):
        for _ in range(2):
            self.assertEqual(build.signing_key(self.root / "k" / "release.pem").read_text(), "public\n")
        self.assertEqual(len(self.calls), 1)

    def test_sets_that_are_not_there_are_an_error(self):
        with mock.patch.dict(os.environ, {"FREEBSD_SETS": str(self.root)}):
            with self.assertRaisesRegex(build.BuildError, "has no base.txz"):
                build.sets_from_environment()
        with mock.patch.dict(os.environ):
            os.environ.pop("FREEBSD_SETS", None)
            self.assertIsNone(build.sets_from_environment())


class Default(unittest.TestCase):
    """The image of this repository."""

    def test_its_name_has_the_version(self):
        self.assertRegex(build.default_image().name, r"^aifw-\d+\.\d+\.\d+\S*-amd64\.img$")


if __name__ == "__main__":
    unittest.main()
