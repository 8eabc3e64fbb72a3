"""Boots the system with systemd-nspawn, as often as there are programs for it, and tells how they ended."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator

from tests import tiny_model
from tests.systemd.rootfs import ROOT, wheel

TOOLS = {"mmdebstrap": "mmdebstrap", "systemd-nspawn": "systemd-container"}
"""Programs that are needed, and the packages that have them."""
UPGRADED = "+upgraded"
"""What the version of the package ends with that is an upgrade."""
LIMIT_SECONDS = 400
"""For one boot; it takes a fraction of that."""
_INSTALL = """\
exec >/run/checks/out/install.log 2>&1
set -ex
cd /run/checks/in
/opt/pip/bin/python -m pip install --quiet --no-index --no-deps *.whl
{commands}
systemctl is-enabled vllmd
! systemctl is-active vllmd
sed -i s,/opt/vllm/bin/python,/opt/pip/bin/python, /etc/vllmd/vllmd.toml
systemctl start vllmd
systemctl is-active vllmd
systemctl stop vllmd
"""
_RUN = """\
cd /run/checks/in
export PYTHONPATH=/opt/checks:/run/checks/in PYTHONDONTWRITEBYTECODE=1
/opt/pip/bin/python -m pytest -c /dev/null --rootdir . --import-mode=importlib -p no:cacheprovider -v -rP --tb=short \
  --timeout=90 --durations=8 {arguments} >/run/checks/out/{name}.log 2>&1 && status=0 || status=$?
journalctl --no-pager -b -o short-precise >/run/checks/out/{name}.journal 2>&1
exit $status
"""


def readme(number: int) -> str:
    """Read a block of the commands in the README's section on systemd, but for the first: that takes a network."""
    section = (ROOT / "README.md").read_text().partition("\n## Run it under systemd\n")[2].partition("\n## ")[0]
    block = section.split("```sh\n")[number].partition("```")[0]
    return block.partition("\n")[2]


def packages(directory: pathlib.Path) -> None:
    """Build this checkout's package, as `make deb` does, of the wheel that is there, and one that is an upgrade."""
    (built,) = directory.glob("*.whl")
    build = (sys.executable, str(ROOT / "systemd/deb/build_deb.py"), "--compression", "gzip", "--wheel", str(built))
    subprocess.run([*build, "--output", str(directory / "dist")], check=True, stdout=subprocess.DEVNULL)
    (package,) = (directory / "dist").iterdir()
    tree = directory / "tree"
    subprocess.run(["dpkg-deb", "--raw-extract", package, tree], check=True)
    for path, pattern in ((tree / "DEBIAN/control", "^(Version: .*)$"), (_module(tree), '^(__version__ = ".*)"$')):
        end = '"' if path.suffix else ""
        path.write_text(re.sub(pattern, rf"\g<1>{UPGRADED}{end}", path.read_text(), flags=re.MULTILINE))
    again = ["dpkg-deb", "-Znone", "--build", str(tree), str(directory / "upgrade.deb")]
    subprocess.run(again, check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(tree)


def _module(tree: pathlib.Path) -> pathlib.Path:
    (found,) = tree.glob("opt/vllmd/lib/*/site-packages/vllmd/__init__.py")
    return found


def missing() -> str:
    """Say why no system can be booted here; empty if one can."""
    if os.geteuid() != 0:
        return "it takes root to make and to boot a system"
    if packages := [package for tool, package in TOOLS.items() if shutil.which(tool) is None]:
        return f"apt-get install {' '.join(packages)}"
    if cgroup2() is None:
        return "no cgroup v2 is mounted"
    return ""


def cgroup2() -> pathlib.Path | None:
    """Find where cgroup v2 is mounted."""
    mounts = pathlib.Path("/proc/self/mountinfo").read_text()
    match = re.search(r"^\S+ \S+ \S+ \S+ (\S+) .* - cgroup2 ", mounts, re.MULTILINE)
    return pathlib.Path(match[1]) if match else None


class Machine:
    """A system that is booted more than once, and keeps what was written to its disk.

    Args:
        root: what it begins as.
        directory: where all of it is kept; `out` in there has the logs.
    """

    def __init__(self, root: pathlib.Path, directory: pathlib.Path) -> None:
        self.out = directory / "out"
        self._in = directory / "in"
        self._root = directory / "root"
        self._brought: list[str] = []
        self._entered: set[str] = set()
        for made in (self.out, self._in, self._root, directory / "upper", directory / "layer"):
            made.mkdir()
        layers = f"lowerdir={root},upperdir={directory / 'upper'},workdir={directory / 'layer'}"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", layers, self._root], check=True)
        wheel(self._in)
        packages(self._in)
        (self._in / "user.sh").write_text(f"set -e\n{readme(4)}")
        (self._in / "pip.sh").write_text(f"set -e\n{readme(2)}")
        shutil.copytree(
            ROOT / "tests", self._in / "tests", ignore=shutil.ignore_patterns("__pycache__", "data", "conftest.py")
        )

    def close(self) -> None:
        """Take its disk away."""
        subprocess.run(["umount", self._root], check=True)

    def bring(self, engine_python: str) -> None:
        """Bring along an interpreter that has vLLM, at the paths that it has here, and a model for it."""
        ask = "import sys; print(sys.prefix, sys.base_prefix)"
        told = subprocess.run([engine_python, "-c", ask], check=True, capture_output=True, text=True).stdout
        for path in dict.fromkeys(map(pathlib.Path, told.split())):
            if path != pathlib.Path("/usr"):
                self._brought.append(f"--bind-ro={path}")
                self._entered |= {str(parent) for parent in list(path.parents)[:-1]}
        (self._in / "real.json").write_text(json.dumps({"engine_python": os.path.abspath(engine_python)}))
        tiny_model.make_with(engine_python, self._in / "tiny")
        for file in (self._in / "tiny").iterdir():
            file.chmod(0o644)

    def boot(self, name: str, arguments: str, install: bool = False) -> int:
        """Boot it, run pytest in it, and switch it off; returns the exit status, 124 if it took too long."""
        program = _INSTALL.format(commands=readme(1)) if install else ""
        enter = f"chmod a+x {' '.join(sorted(self._entered))}\n" if self._entered else ""
        (self._in / "run.sh").write_text(enter + program + _RUN.format(arguments=arguments, name=name))
        with own_cgroups() as (enter, keep):
            command = [
                *("timeout", "--kill-after=15", str(LIMIT_SECONDS), "systemd-nspawn"),
                *("--quiet", "--boot", "--register=no", *keep, f"--machine=checks-{os.getpid()}"),
                *(f"--directory={self._root}", "--private-network", "--resolv-conf=off", "--timezone=off"),
                *("--link-journal=no", "--console=pipe"),
                *(f"--bind-ro={self._in}:/run/checks/in", f"--bind={self.out}:/run/checks/out"),
                *self._brought,
            ]
            with (self.out / f"{name}.console").open("wb") as console:
                # A cgroup of version 2 alone in there, whatever this machine has.
                environment = os.environ | {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"}
                done = subprocess.run(
                    ["sh", "-c", f'{enter} exec "$@"', "sh", *command],
                    stdin=subprocess.DEVNULL,
                    stdout=console,
                    stderr=console,
                    env=environment,
                    check=False,
                )
        return done.returncode


@contextlib.contextmanager
def own_cgroups() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Make the cgroups that nspawn is to be in; gives a shell's way into them, and nspawn's options.

    Where systemd runs it makes them. Elsewhere nspawn would put its own beside everybody else's.
    """
    if pathlib.Path("/run/systemd/system").is_dir():
        yield "", ()
        return
    mounts = [cgroup2(), pathlib.Path("/sys/fs/cgroup/systemd")]
    made = [mount / f"vllmd-checks-{os.getpid()}" for mount in mounts if mount is not None and mount.is_dir()]
    for cgroup in made:
        cgroup.mkdir()
    try:
        yield "".join(f"echo $$ >{cgroup}/cgroup.procs; " for cgroup in made), ("--keep-unit",)
    finally:
        for cgroup in made:
            for below in sorted(cgroup.rglob("*/"), reverse=True):
                below.rmdir()
            cgroup.rmdir()


@contextlib.contextmanager
def machine(root: pathlib.Path, work: pathlib.Path) -> Iterator[Machine]:
    """Make a machine; its logs stay in the directory `out` of the last one, the rest goes."""
    directory = pathlib.Path(tempfile.mkdtemp(prefix="run-", dir=work))
    made = Machine(root, directory)
    try:
        yield made
    finally:
        made.close()
        kept = work / "out"
        shutil.rmtree(kept, ignore_errors=True)
        made.out.rename(kept)
        shutil.rmtree(directory)
