from __future__ import annotations

import pathlib

import pytest

from vllmd.engines.environment import engine_environment
from vllmd.worker.spec import LOG, SITE

CACHE = pathlib.Path("/var/cache/vllmd")
DIRECTORY = pathlib.Path("/run/vllmd/e/e-1")


def environment(
    inherited: dict[str, str], gpus: tuple[str, ...] = (), pass_environment: tuple[str, ...] = ()
) -> dict[str, str]:
    """The environment of an engine whose daemon has this one."""
    return engine_environment("e-1", DIRECTORY, CACHE, gpus, 600.5, inherited, pass_environment)


def test_engine_is_told_who_it_is_and_where_to_put_what() -> None:
    """Its marker, which vLLM must not overwrite, and directories: its own for what goes with it."""
    told = environment({})

    assert told["VLLMD_ENGINE_ID"] == "e-1"
    assert told["SPT_NOENV"] == "1"
    assert told["VLLMD_ENGINE_DIR"] == str(DIRECTORY)
    assert told["TMPDIR"] == told["VLLM_RPC_BASE_PATH"] == str(DIRECTORY / "tmp")
    assert told["VLLM_CACHE_ROOT"].startswith(str(CACHE))
    assert told["VLLM_ENGINE_READY_TIMEOUT_S"] == "600"
    assert LOG not in told


def test_what_lasts_stays_where_the_operator_put_it() -> None:
    """A cache that is set already is used; what is the engine's own is not up to the environment."""
    told = environment({"VLLM_CACHE_ROOT": "/big/disk", "TMPDIR": "/tmp", "HF_TOKEN": "x", "PATH": "/bin"})

    assert told["VLLM_CACHE_ROOT"] == "/big/disk"
    assert told["TMPDIR"] == str(DIRECTORY / "tmp")
    assert (told["HF_TOKEN"], told["PATH"]) == ("x", "/bin")


def test_engine_does_not_speak_in_the_daemons_name() -> None:
    """What systemd tells the daemon, and what configures it, is not for its children."""
    of_systemd = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "LISTEN_FDS", "INVOCATION_ID", "CREDENTIALS_DIRECTORY")
    told = environment(dict.fromkeys((*of_systemd, "STATE_DIRECTORY", "VLLMD_LISTEN"), "x"))

    assert not {*of_systemd, "STATE_DIRECTORY", "VLLMD_LISTEN"} & set(told)


@pytest.mark.parametrize(
    ("gpus", "inherited", "visible"),
    [
        (("GPU-a", "GPU-b"), {"CUDA_VISIBLE_DEVICES": "3"}, "GPU-a,GPU-b"),
        ((), {}, None),
    ],
)
def test_engine_sees_its_gpus_alone(gpus: tuple[str, ...], inherited: dict[str, str], visible: str | None) -> None:
    """By UUID, in the order of the bus; one on the CPU is told nothing of any."""
    told = environment(inherited, gpus)

    assert told.get("CUDA_VISIBLE_DEVICES") == visible
    assert told["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"


@pytest.mark.parametrize(
    ("inherited", "passed", "path"),
    [({}, (), ""), ({"PYTHONPATH": "/a:/b"}, (), ""), ({"PYTHONPATH": "/a:/b"}, ("PYTHONPATH",), ":/a:/b")],
)
def test_workers_package_comes_first(inherited: dict[str, str], passed: tuple[str, ...], path: str) -> None:
    """An empty part would mean the working directory; the daemon's path is for another interpreter."""
    assert environment(inherited, pass_environment=passed)["PYTHONPATH"] == f"{DIRECTORY / SITE}{path}"


@pytest.mark.parametrize(("inherited", "plugins"), [({}, None), ({"VLLM_PLUGINS": "mine"}, "mine,vllmd")])
def test_our_plugin_is_among_those_that_are_allowed(inherited: dict[str, str], plugins: str | None) -> None:
    """A list without it would take away EngineCore's death with its worker."""
    assert environment(inherited).get("VLLM_PLUGINS") == plugins
