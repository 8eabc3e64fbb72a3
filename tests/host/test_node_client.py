"""A client in another language, which has our protos and nothing else of ours."""

from __future__ import annotations

import json
import pathlib
import shutil
import subprocess

import pytest

from tests.host.running import home

NODE = pathlib.Path(__file__).parents[1] / "node"
PROTOS = pathlib.Path(__file__).parents[2] / "proto"
INVALID_ARGUMENT, CANCELLED, NOT_FOUND = 3, 1, 5


@pytest.fixture(scope="module")
def packages() -> None:
    """What it takes from the registry, which `make` puts there."""
    if shutil.which("node") is None:
        pytest.fail("node is needed: it runs a client in another language")
    if not (NODE / "node_modules/@grpc/grpc-js").is_dir():
        pytest.fail("its packages are not there: `make node` gets them")


@pytest.mark.usefixtures("packages")
def test_a_client_that_knows_only_the_protos_loads_generates_cancels_and_releases() -> None:
    """With gRPC's own codes and details; health and reflection answer whoever asks."""
    with home("--backend", "fake") as place:
        daemon = place.start()
        program = ["node", str(NODE / "client.mjs"), f"unix:{daemon.socket}", str(PROTOS)]
        done = subprocess.run(program, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        seen = json.loads(done.stdout)
        running = [engine.running_count for engine in daemon.status().engines]

    assert seen["progress"]
    assert seen["updates"] > 1
    assert seen["model"] == "a/model"
    assert (seen["tokens"], seen["usage"]["completion_tokens"], seen["usage"]["prompt_tokens"]) == (20, 20, 4)
    assert seen["finish"] == "FINISH_REASON_LENGTH"
    assert seen["text"].startswith("w0 w1 ")
    assert (seen["cancelled"], seen["refused"]) == (CANCELLED, INVALID_ARGUMENT)
    assert (seen["released"], seen["verified"]) == ("STATE_STOPPED", True)
    assert seen["again"] == {"code": NOT_FOUND, "detailed": 1}
    assert seen["serving"]
    assert seen["reflected"]
    assert running == []
