from __future__ import annotations

import fnmatch
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import IO, Any

import pytest

from vllmd.worker import leftovers, plugin
from vllmd.worker.spec import ENGINE_ID_VARIABLE

PROGRAM = pathlib.Path(__file__).with_name("plugin_program.py")


class Host:
    """A running `plugin_program`."""

    def __init__(self, child: str, when: str, engine_id: str = "e-1") -> None:
        self.process = subprocess.Popen(
            [sys.executable, PROGRAM, child, when],
            env=os.environ | {ENGINE_ID_VARIABLE: engine_id},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._files: list[str] = []

    @property
    def stdout(self) -> IO[str]:
        assert self.process.stdout is not None
        return self.process.stdout

    def told(self) -> dict[str, Any]:
        """Wait for the next process to speak."""
        told: dict[str, Any] = json.loads(self.stdout.readline())
        self._files += told.get("files", ())
        return told

    def kill(self) -> None:
        """SIGKILL the host alone."""
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        """SIGKILL whatever is left, and remove what the resource tracker then can't."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.communicate()
        for name in self._files:
            pathlib.Path("/dev/shm", name).unlink(missing_ok=True)


@pytest.fixture
def hosts() -> Iterator[list[Host]]:
    started: list[Host] = []
    yield started
    for host in started:
        host.end()


def test_engine_core_dies_with_the_worker_even_while_stopped(hosts: list[Host]) -> None:
    host = Host("EngineCore_DP0", "now")
    hosts.append(host)
    host.told()
    core = host.told()
    os.kill(core["pid"], signal.SIGSTOP)
    host.kill()

    assert core["pdeathsig"] == signal.SIGKILL
    assert host.stdout.read() == ""  # reached only when every process that could write is gone
    assert not pathlib.Path(f"/proc/{core['pid']}/exe").exists()


def test_a_core_whose_worker_died_before_it_could_arm_ends_itself(hosts: list[Host]) -> None:
    host = Host("EngineCore", "late")
    hosts.append(host)
    host.told()
    host.told()
    host.kill()

    assert host.stdout.read() == ""


def test_only_engine_core_gets_pdeathsig(hosts: list[Host]) -> None:
    """A tensor-parallel worker is started by a thread that ends, and would be killed right then."""
    host = Host("VllmWorker-0", "now")
    hosts.append(host)

    assert [host.told()["pdeathsig"], host.told()["pdeathsig"]] == [0, 0]


def test_names_in_shared_memory_are_those_that_leftovers_removes(hosts: list[Host]) -> None:
    host = Host("VllmWorker-0", "now", engine_id="abcdefghijkl-0123456789x")
    hosts.append(host)
    of_host, of_child = host.told()["files"], host.told()["files"]

    patterns = leftovers.patterns("abcdefghijkl-0123456789x")
    for files in (of_host, of_child):
        assert [fnmatch.fnmatch(name, pattern) for name, pattern in zip(files, patterns, strict=True)] == [True, True]


def test_a_failure_is_told_and_does_not_stop_the_engine(hosts: list[Host]) -> None:
    host = Host("EngineCore", "now", engine_id="No/Good")
    hosts.append(host)
    host.told()
    core = host.told()
    host.kill()
    assert host.process.stderr is not None

    assert core["pdeathsig"] == signal.SIGKILL
    assert "shared memory keeps its default names" in host.process.stderr.read()


@pytest.mark.parametrize("engine_id", ["", "A", "a/b", "a_b", "a" * 25])
def test_an_engine_id_that_fits_no_name_is_refused(engine_id: str) -> None:
    with pytest.raises(ValueError, match="engine id"):
        plugin.name_shared_memory(engine_id)


def test_vllm_finds_the_entry_point_beside_the_copied_package(tmp_path: pathlib.Path) -> None:
    shutil.copytree(pathlib.Path(plugin.__file__).parent, tmp_path / "vllmd_worker")
    info = tmp_path / "vllmd_worker-0.dist-info"
    info.mkdir()
    for name, content in plugin.DIST_INFO.items():
        (info / name).write_text(content)

    program = (
        "from importlib.metadata import entry_points\n"
        "for point in entry_points(group='vllm.general_plugins'):\n"
        "    print(point.name, point.load().__module__, point.load().__name__)"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    found = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)

    assert found.stdout == "vllmd vllmd_worker.plugin arm\n"
