"""A small Debian with systemd, and in it an environment, /opt/pip, that has all of the daemon but the daemon itself."""

from __future__ import annotations

import fcntl
import hashlib
import pathlib
import re
import shutil
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).parent.parent.parent
LOCK = ROOT / "tests" / "locks" / "dev.txt"
SUITE = "bookworm"
PYTHON_VERSION = "3.11"
"""That of the suite, for which the wheels are."""
_PACKAGES = (
    "dbus,dbus-user-session,libnuma1,libpam-systemd,procps,python3,python3-systemd,python3-venv,systemd,systemd-sysv,"
    "util-linux"
)
_FIRST = """\
set -e
python3 -m venv /opt/pip
/opt/pip/bin/pip install --quiet --no-index --find-links /wheels $1
/opt/pip/bin/pip install --quiet --no-index --find-links /wheels --target /opt/checks pytest pytest-timeout
passwd --quiet --delete root
useradd --create-home --uid 1000 someone
for timer in apt-daily apt-daily-upgrade dpkg-db-backup e2scrub_all fstrim; do
  systemctl mask --quiet $timer.timer
done
"""
_CHECKS = """\
[Unit]
Description=the checks
After=dbus.socket systemd-journald.service systemd-logind.service
SuccessAction=exit-force
FailureAction=exit-force
[Service]
Type=oneshot
ExecStart=/bin/sh /run/checks/in/run.sh
TimeoutStartSec=infinity
[Install]
WantedBy=multi-user.target
"""


def prepare(work: pathlib.Path) -> pathlib.Path:
    """Make the system if it is not there yet, or was made of something else; returns its directory.

    Raises:
        subprocess.CalledProcessError: something that it takes does not work here.
    """
    work.mkdir(parents=True, exist_ok=True)
    with (work / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made_of = "".join((SUITE, _PACKAGES, _FIRST, _CHECKS, LOCK.read_text(), *dependencies()))
        root = work / f"root-{hashlib.sha256(made_of.encode()).hexdigest()[:12]}"
        if not root.exists():
            for older in work.glob("root-*"):
                shutil.rmtree(older)
            unfinished = work / "unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            _make(unfinished)
            unfinished.rename(root)
        return root


def dependencies() -> list[str]:
    """What the daemon needs, as `pyproject.toml` says."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return list(project["dependencies"])


def pip(*arguments: str | pathlib.Path) -> None:
    """Run the pip of whatever Python this environment was made from; it may have none of its own."""
    base = getattr(sys, "_base_executable", sys.executable)
    subprocess.run([base, "-m", "pip", "--quiet", *arguments], check=True)


def wheel(directory: pathlib.Path) -> None:
    """Build this checkout into a directory."""
    pip("--python", sys.executable, "wheel", "--no-deps", "--no-build-isolation", "-w", directory, ROOT)


def mirror() -> str:
    """Find where this machine gets Debian's packages from."""
    sources = pathlib.Path("/etc/apt")
    files = [sources / "sources.list", *sorted((sources / "sources.list.d").glob("*"))]
    text = "\n".join(path.read_text() for path in files if path.is_file())
    found = re.findall(r"^(?:URIs:|deb(?: \[[^]]*\])?) +(\S+/debian)/?(?: |$)", text, re.MULTILINE)
    return found[0] if found else "http://deb.debian.org/debian"


def _make(root: pathlib.Path) -> None:
    options = ["--variant=minbase", "--mode=root", f"--include={_PACKAGES}", "--quiet"]
    subprocess.run(["mmdebstrap", *options, SUITE, root, mirror()], check=True)
    wheels = root / "wheels"
    binary = ("--only-binary=:all:", "--python-version", PYTHON_VERSION)
    pip("download", *binary, "-d", wheels, "-c", LOCK, *dependencies(), "pytest", "pytest-timeout")
    named = " ".join(f"'{one}'" for one in dependencies())
    within = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}  # pip's variables name this machine's paths
    subprocess.run(["chroot", root, "sh", "-c", _FIRST.replace("$1", named)], env=within, check=True)
    shutil.rmtree(wheels)
    (root / "etc/hostname").write_text("checks\n")
    (root / "etc/fstab").write_text("")
    (root / "etc/systemd/system/checks.service").write_text(_CHECKS)
    subprocess.run(["chroot", root, "systemctl", "--quiet", "enable", "checks.service"], check=True)
