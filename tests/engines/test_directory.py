from __future__ import annotations

import fcntl
import json
import os
import pathlib
import socket
import stat
import subprocess
import sys
import threading

import pytest

from vllmd.engines import directory
from vllmd.worker.lifeline import Ownership
from vllmd.worker.spec import OWNER_LOCK, SITE, TMP, Spec, read_spec

ALONE = "import json, sys, vllmd_worker.server; print(json.dumps([m for m in sys.modules if m.startswith('vllmd')]))"


def spec(engine_id: str = "e-1") -> Spec:
    """A spec to be written down."""
    return Spec(engine_id, "fake", "org/model", {"a": 1}, None, 60.0, "0", "b")


def test_worker_finds_all_that_it_needs(tmp_path: pathlib.Path) -> None:
    """Its spec, its log and a place for temporary files, which are nobody else's business."""
    owned = directory.create(tmp_path, spec())

    assert read_spec(owned.path) == spec()
    assert owned.log.read_bytes() == b""
    assert (owned.path / TMP).is_dir()
    assert stat.S_IMODE(owned.path.stat().st_mode) == 0o700
    assert stat.S_IMODE(owned.log.stat().st_mode) == 0o600
    owned.disown()


def test_worker_runs_from_a_copy_that_stands_alone(tmp_path: pathlib.Path) -> None:
    """vLLM's environment sees the worker's package and nothing else of vllmd, whatever is installed there."""
    owned = directory.create(tmp_path, spec())
    owned.disown()
    site = owned.path / SITE
    loaded = json.loads(subprocess.check_output([sys.executable, "-c", ALONE], cwd=site))

    assert "vllmd_worker.server" in loaded
    assert [name for name in loaded if name.split(".")[0] != "vllmd_worker"] == []
    assert sorted(path.name for path in site.iterdir()) == ["vllmd_worker", "vllmd_worker-0.dist-info"]


def test_new_directory_is_owned(tmp_path: pathlib.Path) -> None:
    """The worker's lifeline sees an owner from its first look on, and none once the daemon lets go."""
    owned = directory.create(tmp_path, spec())
    ownership = Ownership(owned.path / OWNER_LOCK)
    before = ownership.unowned_seconds(1.0), ownership.unowned_seconds(2.0)
    owned.disown()

    assert before == (0.0, 0.0)
    assert (ownership.unowned_seconds(3.0), ownership.unowned_seconds(4.0)) == (0.0, 1.0)


def test_directory_that_is_there_already_is_not_touched(tmp_path: pathlib.Path) -> None:
    """An id is used once; what somebody else has under it stays."""
    (tmp_path / "e-1").mkdir()
    (tmp_path / "e-1" / "file").touch()

    with pytest.raises(FileExistsError):
        directory.create(tmp_path, spec())
    assert [path.name for path in (tmp_path / "e-1").iterdir()] == ["file"]


def test_directory_that_can_not_be_filled_is_removed(tmp_path: pathlib.Path) -> None:
    """A full disk leaves nothing half made behind; here no file may grow beyond a byte."""
    program = (
        "import pathlib, resource, signal, sys; from tests.engines.test_directory import spec\n"
        "from vllmd.engines import directory\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (1, 1))\n"
        "try: directory.create(pathlib.Path(sys.argv[1]), spec())\n"
        "except OSError as error: print(type(error).__name__)"
    )
    output = subprocess.check_output([sys.executable, "-c", program, str(tmp_path)], text=True)

    assert output in ("OSError\n", "Error\n")
    assert list(tmp_path.iterdir()) == []


def test_owner_in_another_daemon_is_respected(tmp_path: pathlib.Path) -> None:
    """Who holds the lock answers for the engine, and nobody else gets it."""
    owned = directory.create(tmp_path, spec())
    open_before = len(os.listdir("/proc/self/fd"))

    with pytest.raises(BlockingIOError):
        directory.own(owned.path)
    assert len(os.listdir("/proc/self/fd")) == open_before
    owned.disown()
    directory.own(owned.path).disown()


def test_who_lets_go_twice_does_no_harm(tmp_path: pathlib.Path) -> None:
    """The number of its lock may be another file's by then."""
    owned = directory.create(tmp_path, spec())
    owned.disown()
    with (tmp_path / "another").open("w") as another:
        owned.disown()
        another.write("still open")
        another.flush()

    assert (tmp_path / "another").read_text() == "still open"


def test_look_of_a_lifeline_is_no_owner(tmp_path: pathlib.Path) -> None:
    """It holds the lock for some microseconds, shared, and is waited for."""
    directory.create(tmp_path, spec()).disown()
    with (tmp_path / "e-1" / OWNER_LOCK).open() as lifeline:
        fcntl.flock(lifeline, fcntl.LOCK_SH)
        look = threading.Timer(0.01, fcntl.flock, (lifeline, fcntl.LOCK_UN))
        look.start()
        owned = directory.own(tmp_path / "e-1")
        look.join()

    assert Ownership(tmp_path / "e-1" / OWNER_LOCK).unowned_seconds(1.0) == 0.0
    owned.disown()


def test_directory_that_is_gone_has_no_owner_to_be(tmp_path: pathlib.Path) -> None:
    """A tree that ended itself meanwhile took it along."""
    with pytest.raises(FileNotFoundError):
        directory.own(tmp_path / "e-1")


@pytest.mark.parametrize("excess", [0, 1])
def test_root_is_refused_exactly_when_a_socket_would_not_fit(runtime: pathlib.Path, excess: int) -> None:
    """The kernel decides: a socket with the longest name that vLLM makes is bound in the longest root."""
    longest = 107 - len("/") - directory.ID_LENGTH - len(f"/{TMP}/") - 36
    root = runtime / ("r" * (longest - len(str(runtime)) - 1 + excess))
    path = root / ("i" * directory.ID_LENGTH) / TMP / ("u" * 36)
    path.parent.mkdir(parents=True)
    reason = directory.longest_root(root)
    with socket.socket(socket.AF_UNIX) as bound:
        if excess:
            assert reason is not None
            assert "1 bytes too long" in reason
            with pytest.raises(OSError, match="AF_UNIX path too long"):
                bound.bind(str(path))
        else:
            assert reason is None
            bound.bind(str(path))
