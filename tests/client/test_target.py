from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from vllmd.client.target import default_target, is_private, may_connect, normalize

NOTHING = frozenset[str]()
OWN = "/run/user/1000/vllmd/vllmd.sock"
WITHOUT_XDG = f"/tmp/vllmd-{os.geteuid()}/vllmd.sock"
OWN_ADMIN = "/run/user/1000/vllmd/admin.sock"
SERVICE_ADMIN = "/run/vllmd/admin.sock"
SERVICE = "/run/vllmd/vllmd.sock"


def test_address_in_the_environment_wins() -> None:
    """VLLMD_ADDRESS decides, whatever sockets there are."""
    environ = {"VLLMD_ADDRESS": "localhost:7000", "XDG_RUNTIME_DIR": "/run/user/1000"}

    assert default_target(environ, {OWN}.__contains__) == "localhost:7000"


def test_own_daemon_comes_before_the_service() -> None:
    """A socket in the user's runtime directory is the user's own daemon."""
    assert default_target({"XDG_RUNTIME_DIR": "/run/user/1000"}, {OWN}.__contains__) == f"unix:{OWN}"


@pytest.mark.parametrize(
    ("open_to_us", "expected"),
    [
        ({OWN_ADMIN}, OWN_ADMIN),
        ({SERVICE_ADMIN}, OWN),
        (set(), OWN),
    ],
)
def test_operators_come_by_their_own_socket(open_to_us: set[str], expected: str) -> None:
    """Of the daemon that is meant, if it lets them; that of another daemon does not draw them there."""
    environ = {"XDG_RUNTIME_DIR": "/run/user/1000"}
    target = default_target(environ, {OWN, SERVICE}.__contains__, NOTHING.__contains__, open_to_us.__contains__)

    assert target == f"unix:{expected}"


def test_operators_of_the_service() -> None:
    """Without a daemon of their own they get the service's; who is none gets its other socket."""
    for open_to_us, expected in ((frozenset({SERVICE_ADMIN}), SERVICE_ADMIN), (NOTHING, SERVICE)):
        there = {SERVICE, SERVICE_ADMIN}
        target = default_target({}, there.__contains__, NOTHING.__contains__, open_to_us.__contains__)

        assert target == f"unix:{expected}"


def test_who_may_connect(tmp_path: Path) -> None:
    """The mode says so, for whoever it counts for."""
    path = tmp_path / "admin.sock"
    path.touch(mode=0o400)

    assert may_connect(str(path)) == (os.geteuid() == 0)
    path.chmod(0o600)
    assert may_connect(str(path))
    assert not may_connect(str(tmp_path / "missing"))


def test_service_without_own_daemon() -> None:
    """Without a daemon of one's own, the service's socket is meant."""
    environ = {"XDG_RUNTIME_DIR": "/run/user/1000"}

    assert default_target(environ, {SERVICE}.__contains__, NOTHING.__contains__) == f"unix:{SERVICE}"
    assert default_target({}, NOTHING.__contains__, NOTHING.__contains__) == f"unix:{SERVICE}"


def test_where_ones_own_daemon_would_be() -> None:
    """With no daemon at all, the socket that is named is the one that a daemon started now would have."""
    assert default_target({"XDG_RUNTIME_DIR": "/run/user/1000"}, NOTHING.__contains__) == f"unix:{OWN}"


@pytest.mark.parametrize("environ", [{}, {"XDG_RUNTIME_DIR": "/run/user/1000"}])
@pytest.mark.parametrize("others", [NOTHING, {SERVICE}])
def test_own_daemon_without_a_runtime_directory(environ: dict[str, str], others: frozenset[str]) -> None:
    """A daemon that was started without XDG_RUNTIME_DIR is found, as one's own, before the service."""
    private = {os.path.dirname(WITHOUT_XDG)}

    assert default_target(environ, (others | {WITHOUT_XDG}).__contains__, private.__contains__) == f"unix:{WITHOUT_XDG}"


def test_somebody_elses_socket_is_not_ones_own() -> None:
    """What lies under a name that anybody can make is not trusted, however much it looks like a daemon's."""
    assert default_target({}, {WITHOUT_XDG}.__contains__, NOTHING.__contains__) == f"unix:{SERVICE}"


def test_private_is_what_nobody_else_can_write_to(tmp_path: Path) -> None:
    """Modes, links, files, what is not there and what belongs to others, as the daemon checks its own directory."""
    directory, link, file = tmp_path / "d", tmp_path / "l", tmp_path / "f"
    directory.mkdir(mode=0o700)
    link.symlink_to(directory)
    file.touch(mode=0o600)

    assert is_private(str(directory))
    assert not any(is_private(str(path)) for path in (link, file, tmp_path / "missing"))
    for mode in (0o720, 0o702, 0o777):
        directory.chmod(mode)
        assert not is_private(str(directory))


def test_directory_of_somebody_else_is_not_private(tmp_path: Path) -> None:
    """Another user's directory is that user's, whatever its mode."""
    theirs = Path("/")
    if os.geteuid() == 0:
        theirs = tmp_path
        os.chown(theirs, 12345, -1)

    assert not theirs.stat().st_mode & 0o022
    assert not is_private(str(theirs))


def test_bare_path_is_a_socket() -> None:
    """A path is written without gRPC's scheme by people; other addresses stay as they are."""
    assert normalize("/tmp/a.sock") == "unix:/tmp/a.sock"
    assert normalize("unix:/tmp/a.sock") == "unix:/tmp/a.sock"
    assert normalize("127.0.0.1:50051") == "127.0.0.1:50051"


def test_path_may_be_a_path() -> None:
    """A relative one too, which gRPC would look up elsewhere."""
    assert normalize(Path("/tmp/a.sock")) == "unix:/tmp/a.sock"
    assert normalize(Path("a.sock")) == f"unix:{Path.cwd()}/a.sock"


def test_target_of_another_type_is_refused() -> None:
    """With what it may be."""
    wrong: Any = 8765
    with pytest.raises(TypeError, match="a target is an address or a socket's path, not 8765"):
        normalize(wrong)
