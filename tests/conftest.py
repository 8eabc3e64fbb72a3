"""What tests of processes share: an engine's name, a short directory, and both ways to hold a tree together."""

from __future__ import annotations

import os
import pathlib
import secrets
import shutil
import signal
import tempfile
from collections.abc import Iterator

import hypothesis
import pytest

from tests.fakes.processes import eventually, opened_containment, processes_of
from vllmd.config import Kind
from vllmd.engines.containment import Containment
from vllmd.worker import leftovers
from vllmd.worker.cgroup import remove as remove_cgroup
from vllmd.worker.tree import Tree

# How long one example takes says more about the machine's other work than about our code.
hypothesis.settings.register_profile("vllmd", deadline=None)
hypothesis.settings.load_profile("vllmd")

# Tests are about the configuration that they make, whatever this host has in /etc and its user at home.
os.environ["CONFIGURATION_DIRECTORY"] = "/nonexistent/vllmd"

# A shell's background job ignores SIGINT, and so would every program that a test starts to interrupt it.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def engine_id() -> Iterator[str]:
    """A name that no other test has; whatever still carries it after the test is killed and removed."""
    name = f"t-{secrets.token_hex(6)}"
    yield name
    while processes_of(name):
        Tree(name, None, None).kill(5.0)
    leftovers.remove_shared_memory(name)


@pytest.fixture
def runtime() -> Iterator[pathlib.Path]:
    """A directory whose path is short enough for sockets in it."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="vd-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(params=["cgroup", "session"])
def containment(request: pytest.FixtureRequest) -> Iterator[Containment]:
    """Both ways: a test that asks for this runs twice, and is reported as skipped where there are no cgroups."""
    kind: Kind = request.param
    with opened_containment(kind) as opened:
        yield opened


@pytest.fixture
def cgroups() -> Iterator[Containment]:
    """Cgroups alone, for what only they can do."""
    with opened_containment("cgroup") as opened:
        yield opened


@pytest.fixture
def frozen() -> Iterator[pathlib.Path]:
    """A freezer (cgroup v1), which SIGKILL does not get through to, as to a process that is stuck in a driver."""
    path = pathlib.Path("/sys/fs/cgroup/freezer", f"vd-{secrets.token_hex(4)}")
    try:
        path.mkdir()
    except OSError as error:
        pytest.skip(f"nothing here keeps a process from being killed: {error}")
    yield path
    (path / "freezer.state").write_text("THAWED")
    assert eventually(lambda: remove_cgroup(path))
