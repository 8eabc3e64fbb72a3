from __future__ import annotations

import json

from tests.cli.conftest import Run
from tests.fakes.fake_daemon import FakeDaemon, Refusal
from tests.fakes.host_samples import profile
from vllmd.v1.host_service_pb2 import ForgetProfilesRequest, ForgetProfilesResponse, ListProfilesResponse


def test_profiles_are_listed(daemon: FakeDaemon, run: Run) -> None:
    """Of all models, or of one."""
    daemon.profiles = ListProfilesResponse(profiles=[profile()])

    assert "Qwen/Qwen3-8B" in run("profiles").stdout
    assert run("profiles", "a/b").exit_code == 0
    assert [request.model for request in daemon.requests] == ["", "a/b"]


def test_without_any_that_is_said(run: Run) -> None:
    """With what would be one."""
    assert run("profiles").stdout == "No load on a GPU was recorded yet.\n"
    assert run("profiles", "a/b").stdout == "No load of a/b on a GPU was recorded yet.\n"


def test_they_are_forgotten_without_a_question(daemon: FakeDaemon, run: Run) -> None:
    """How many there were is said."""
    daemon.forget = ForgetProfilesResponse(forgotten_count=1)

    assert run("profiles", "--forget", "a/b").stdout == "Forgot 1 profile.\n"
    assert json.loads(run("profiles", "--forget", "-o", "json").stdout) == {"forgotten_count": 1}
    assert daemon.requests == [ForgetProfilesRequest(model="a/b"), ForgetProfilesRequest()]


def test_what_the_daemon_can_not_forget_is_a_failure(daemon: FakeDaemon, run: Run) -> None:
    """Its file can't be written."""
    daemon.forget = Refusal("PROFILES_NOT_WRITTEN", "Forgotten until the daemon starts again.")
    result = run("profiles", "--forget")

    assert result.exit_code == 1
    assert "Forgotten until the daemon starts again." in result.stderr


def test_json_has_the_names_of_the_proto(daemon: FakeDaemon, run: Run) -> None:
    """Programs get the message as it is."""
    daemon.profiles = ListProfilesResponse(profiles=[profile()])
    (found,) = json.loads(run("profiles", "-o", "json").stdout)["profiles"]

    assert (found["memory"]["weights_bytes"], found["load_count"]) == (str(15 << 30), 2)
