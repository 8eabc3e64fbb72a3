"""Builds the Debian package: `make deb`.

The daemon comes with a virtual environment of its own, in /opt/vllmd, for the Python of one release of Debian or
Ubuntu; engines run under whatever `engine_python` names. All packages in it are wheels at the versions of
tests/locks/dev.txt, so nothing is compiled, and this machine need not be of that release. The same checkout gives the
same package.
"""

from __future__ import annotations

import argparse
import email.utils
import gzip
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator

from vllmd.installation import units

ROOT = pathlib.Path(__file__).parents[2]
HERE = pathlib.Path(__file__).parent
LOCK = ROOT / "tests/locks/dev.txt"
PREFIX = pathlib.Path("opt/vllmd")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
SCRIPTS = ("preinst", "postinst", "prerm", "postrm")
COMPLETIONS = {
    "bash": "usr/share/bash-completion/completions/vllmd-cli",
    "zsh": "usr/share/zsh/vendor-completions/_vllmd-cli",
    "fish": "usr/share/fish/vendor_completions.d/vllmd-cli.fish",
}
_MAINTAINER = "vllmd maintainers <maintainers@vllmd.invalid>"
_SCRIPT = """\
#!/{prefix}/bin/python
import sys

from {module} import {function}

sys.exit({function}())
"""
# Where Debian's package has systemd-python, for the fields in the journal.
_SYSTEMD_PYTHON = "/usr/lib/python3/dist-packages/systemd"


def main() -> int:
    """Build it; prints where it is."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--python", default="3.11", metavar="X.Y", help="of the release it is for (default: 3.11)")
    arguments.add_argument("--version", help="of the package (default: that of the checkout)")
    arguments.add_argument("--compression", default="xz", choices=("xz", "gzip", "none"))
    arguments.add_argument("--wheel", type=pathlib.Path, help="the checkout's, if it is built already")
    arguments.add_argument("--output", type=pathlib.Path, default=ROOT / "dist", metavar="DIR")
    given = arguments.parse_args()
    version = given.version or debian_version(checkout_version())
    with tempfile.TemporaryDirectory() as directory:
        tree = pathlib.Path(directory) / "vllmd"
        tree.mkdir()
        fill(tree, version, given.python, given.wheel)
        control(tree, version, given.python)
        settle(tree, int(epoch()))
        given.output.mkdir(parents=True, exist_ok=True)
        package = given.output / f"vllmd_{version}_{architecture()}.deb"
        command = ["dpkg-deb", "--root-owner-group", f"-Z{given.compression}", "--build", tree, package]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | {"SOURCE_DATE_EPOCH": epoch()})
    sys.stdout.write(f"{package}\n")
    return 0


def fill(tree: pathlib.Path, version: str, python: str, wheel: pathlib.Path | None) -> None:
    """Put all files into the tree."""
    environment(tree / PREFIX, python, wheel)
    programs = pathlib.Path("/") / PREFIX / "bin"
    put(tree / "usr/lib/systemd/system/vllmd.service", units.unit(units.HOST, programs))
    put(tree / "usr/lib/systemd/user/vllmd.service", units.unit(units.USER, programs))
    put(tree / "usr/lib/sysusers.d/vllmd.conf", units.text(units.SYSUSERS))
    put(tree / "usr/lib/tmpfiles.d/vllmd.conf", units.text(units.TMPFILES))
    put(tree / "etc/vllmd/vllmd.toml", (HERE / "vllmd.toml").read_text())
    (tree / "usr/bin").mkdir()
    for program in ("vllmd", "vllmd-cli"):
        (tree / "usr/bin" / program).symlink_to(programs / program)
    for shell, path in COMPLETIONS.items():
        command = [sys.executable, "-m", "vllmd.cli", "completion", shell]
        put(tree / path, subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    documentation = tree / "usr/share/doc/vllmd"
    put(documentation / "copyright", (HERE / "copyright").read_text())
    put(documentation / "README.md", (ROOT / "README.md").read_text())
    for page in sorted((ROOT / "docs").glob("*.md")):
        put(documentation / "docs" / page.name, page.read_text())
    put(documentation / "CHANGELOG.md", (ROOT / "CHANGELOG.md").read_text())
    when = email.utils.formatdate(int(epoch()))
    changes = f"vllmd ({version}) stable; urgency=medium\n\n  * See CHANGELOG.md.\n\n -- {_MAINTAINER}  {when}\n"
    (documentation / "changelog.gz").write_bytes(gzip.compress(changes.encode(), 9, mtime=0))


def environment(prefix: pathlib.Path, python: str, wheel: pathlib.Path | None) -> None:
    """Make the virtual environment, without the help of the Python that it is for."""
    site = prefix / f"lib/python{python}/site-packages"
    site.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as wheels:
        if wheel is None:
            pip("wheel", "--no-deps", "--no-build-isolation", "-w", wheels, ROOT)
            (wheel,) = pathlib.Path(wheels).iterdir()
        foreign = ("--only-binary=:all:", "--implementation=cp", f"--python-version={python}", *platforms())
        pip("install", "--no-compile", "--target", site, *foreign, "-c", LOCK, wheel)
    shutil.rmtree(site / "bin", ignore_errors=True)
    for record in site.glob("*.dist-info/*"):  # of where it was installed from, and with what beside it
        if record.name in ("direct_url.json", "RECORD", "REQUESTED"):
            record.unlink()
    (site / "systemd").symlink_to(_SYSTEMD_PYTHON)
    (prefix / "bin").mkdir()
    (prefix / "bin/python").symlink_to(f"/usr/bin/python{python}")
    put(prefix / "pyvenv.cfg", f"home = /usr/bin\ninclude-system-site-packages = false\nversion = {python}\n")
    for name, target in project()["scripts"].items():
        module, _, function = target.partition(":")
        put(prefix / "bin" / name, _SCRIPT.format(prefix=PREFIX, module=module, function=function))


def platforms() -> list[str]:
    """List the kinds of wheels that run with the C library that the package asks for, as options of pip's."""
    machine, versions = os.uname().machine, (28, 27, 26, 24, 17, 12, 5)
    tags = [*(f"manylinux_2_{version}" for version in versions), "manylinux2014", "manylinux2010", "manylinux1"]
    return [f"--platform={tag}_{machine}" for tag in tags]


def pip(*arguments: str | pathlib.Path) -> None:
    """Run the pip of whatever Python this environment was made from, for this environment; it may have none itself."""
    base = getattr(sys, "_base_executable", sys.executable)
    subprocess.run([base, "-m", "pip", "--python", sys.executable, "--quiet", *arguments], check=True)


def control(tree: pathlib.Path, version: str, python: str) -> None:
    """Write what dpkg is to know."""
    size = sum(path.lstat().st_size for path in tree.rglob("*") if not path.is_dir())
    values = {
        "version": version,
        "architecture": architecture(),
        "python": python,
        "size": str(-(-size // 1024)),
        "maintainer": _MAINTAINER,
    }
    meta = tree / "DEBIAN"
    put(meta / "control", (HERE / "control").read_text().format_map(values))
    put(meta / "conffiles", "/etc/vllmd/vllmd.toml\n")
    for script in SCRIPTS:
        put(meta / script, (HERE / script).read_text())
    put(meta / "md5sums", "".join(sums(tree)))


def sums(tree: pathlib.Path) -> Iterator[str]:
    """List the checksums of all files, by which `dpkg --verify` goes."""
    for path in sorted(tree.rglob("*")):
        name = path.relative_to(tree)
        if path.is_file() and not path.is_symlink() and name.parts[0] not in ("DEBIAN", "etc"):
            yield f"{hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()}  {name}\n"


def settle(tree: pathlib.Path, seconds: int) -> None:
    """Give all files the same owner, modes and time, whoever builds it and when."""
    for path in (tree, *tree.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path in programs(tree) else 0o644)
    for path in (tree, *tree.rglob("*")):
        os.utime(path, (seconds, seconds), follow_symlinks=False)


def programs(tree: pathlib.Path) -> set[pathlib.Path]:
    """List what is to be run: all else in the environment is read."""
    return {*(tree / PREFIX / "bin").iterdir(), *(tree / "DEBIAN" / name for name in SCRIPTS)}


def put(path: pathlib.Path, text: str) -> None:
    """Write a file, with the directories that lead to it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def architecture() -> str:
    """Tell what Debian calls this machine's kind."""
    return _ARCHITECTURES[os.uname().machine]


def checkout_version() -> str:
    """Read the version of the checkout."""
    found = re.search(r'^__version__ = "(.+)"', (ROOT / "vllmd/__init__.py").read_text(), re.MULTILINE)
    assert found is not None
    return found[1]


def debian_version(version: str) -> str:
    """Write a version of Python's as Debian sorts it: what comes before a release has a tilde."""
    return re.sub(r"\.?(dev|a|b|rc)(?=\d)", r"~\1", version)


def project() -> dict[str, dict[str, str]]:
    """Read what pyproject.toml says of the project."""
    result: dict[str, dict[str, str]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return result


def epoch() -> str:
    """Tell of when the checkout is, in seconds."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    command = ["git", "-C", str(ROOT), "log", "-1", "--format=%ct"]
    return given or subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
