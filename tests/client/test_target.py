from __future__ import annotations

from vllmd.client.target import default_target, normalize

NOTHING = frozenset[str]()
OWN = "/run/user/1000/vllmd/vllmd.sock"


def test_address_in_the_environment_wins() -> None:
    """VLLMD_ADDRESS decides, whatever sockets there are."""
    environ = {"VLLMD_ADDRESS": "localhost:7000", "XDG_RUNTIME_DIR": "/run/user/1000"}

    assert default_target(environ, {OWN}.__contains__) == "localhost:7000"


def test_own_daemon_comes_before_the_service() -> None:
    """A socket in the user's runtime directory is the user's own daemon."""
    assert default_target({"XDG_RUNTIME_DIR": "/run/user/1000"}, {OWN}.__contains__) == f"unix:{OWN}"


def test_service_without_own_daemon() -> None:
    """Without a daemon of one's own, the service's socket is meant."""
    service = "/run/vllmd/vllmd.sock"

    assert default_target({"XDG_RUNTIME_DIR": "/run/user/1000"}, {service}.__contains__) == f"unix:{service}"
    assert default_target({}, NOTHING.__contains__) == f"unix:{service}"


def test_where_ones_own_daemon_would_be() -> None:
    """With no daemon at all, the socket that is named is the one that a daemon started now would have."""
    assert default_target({"XDG_RUNTIME_DIR": "/run/user/1000"}, NOTHING.__contains__) == f"unix:{OWN}"


def test_bare_path_is_a_socket() -> None:
    """A path is written without gRPC's scheme by people; other addresses stay as they are."""
    assert normalize("/tmp/a.sock") == "unix:/tmp/a.sock"
    assert normalize("unix:/tmp/a.sock") == "unix:/tmp/a.sock"
    assert normalize("127.0.0.1:50051") == "127.0.0.1:50051"
