"""Building the image and the update tarballs with the project's own tool, when what is there is older than the sources.

qemu/boot and qemu/test call it. How an image is made is the tool's business (image/): this only says when.
"""

import os
import subprocess
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# What qemu/boot and qemu/test keep: the disk of the last run, transcripts.
KEPT = ROOT / "target" / "qemu"

# What an image is made of.
_SOURCES = ("Cargo.toml", "Cargo.lock", "firmware", "image", "overlay", "boot", "templates")


class BuildError(Exception):
    """The image tool has failed; it has said why."""


def sets_from_environment() -> Path | None:
    """The directory of FreeBSD's distribution sets that `FREEBSD_SETS` names."""
    value = os.environ.get("FREEBSD_SETS")
    if not value:
        return None
    sets = Path(value)
    for name in ("base.txz", "kernel.txz"):
        if not (sets / name).exists():
            raise BuildError(f"FREEBSD_SETS is {sets}, which has no {name}")
    return sets.resolve()


def default_image() -> Path:
    """Where `cargo image build` puts the image of the sources' own version."""
    with (ROOT / "image" / "Cargo.toml").open("rb") as file:
        version = tomllib.load(file)["package"]["version"]
    if isinstance(version, dict):  # the workspace's
        with (ROOT / "Cargo.toml").open("rb") as file:
            version = tomllib.load(file)["workspace"]["package"]["version"]
    return ROOT / "target" / "image" / f"aifw-{version}-amd64.img"


def image(sets: Path | None, output: Path | None = None, version: str | None = None,
          release_keys: Path | None = None) -> Path:
    """The disk image, built if there is none or a source is newer than it."""
    output = output or default_image()
    if not current(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        arguments = ["build", "--output", str(output)]
        if sets:
            arguments += ["--sets", str(sets)]
        if version:
            arguments += ["--version", version]
        if release_keys:
            arguments += ["--release-keys", str(release_keys)]
        tool(*arguments)
        output.touch()
    return output


def signing_key(file: Path) -> Path:
    """A key to sign updates with, made if there is none; gives the file of public keys for an image."""
    keys = file.with_suffix(".keys")
    if not (file.exists() and keys.exists()):
        file.unlink(missing_ok=True)
        file.parent.mkdir(parents=True, exist_ok=True)
        keys.write_text(tool("keygen", str(file), answer=True))
    return keys


def update(image_file: Path, version: str, key: Path, updates_from: str) -> Path:
    """The signed update package of an image, made if there is none or the image is newer."""
    package = image_file.parent / f"aifw-update-{version}-amd64.tar.xz"
    if not package.exists() or package.stat().st_mtime < image_file.stat().st_mtime:
        tool("tarball", "--image", str(image_file), "--key", str(key), "--updates-from", updates_from,
             "--output", str(package.parent))
    return package


def tool(*arguments: str, answer: bool = False) -> str:
    """Runs the image tool (`cargo image …`), its output in the terminal, or as the `answer`."""
    done = subprocess.run(["cargo", "image", *arguments], cwd=ROOT, stdin=subprocess.DEVNULL, check=False, text=True,
                          stdout=subprocess.PIPE if answer else None)
    if done.returncode != 0:
        raise BuildError(f"cargo image {arguments[0]} failed")
    return done.stdout or ""


def current(product: Path) -> bool:
    """Whether the product is there and no source is newer."""
    try:
        made = product.stat().st_mtime
    except FileNotFoundError:
        return False
    return all(changed <= made for changed in _times(ROOT, _SOURCES))


def _times(root: Path, names: tuple[str, ...]) -> list[float]:
    """The times of change of the files below these names."""
    times = []
    for name in names:
        path = root / name
        if path.is_file():
            times.append(path.stat().st_mtime)
        for directory, _, files in os.walk(path):
            times.extend(os.lstat(os.path.join(directory, file)).st_mtime for file in files)
    return times
