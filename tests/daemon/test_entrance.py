from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vllmd.api.access import Role
from vllmd.api.port import Port
from vllmd.config import Settings
from vllmd.daemon.entrance import doors, let_in, port, problems

DATA = Path(__file__).parents[1] / "data" / "tls"


def settings(**given: Any) -> Settings:
    """Settings of a daemon in /r."""
    needed = {"socket": "/r/vllmd.sock", "runtime_dir": "/r", "state_dir": "/s", "cache_dir": "/c", "backend": "fake"}
    return Settings.model_validate({**needed, **given})


def test_ones_own_daemon_is_ones_own() -> None:
    """Without any setting, both sockets are open to the daemon's user and nobody else."""
    operators, users = doors(settings())

    assert (operators.path, operators.role, operators.mode) == (Path("/r/admin.sock"), Role.OPERATOR, 0o600)
    assert (users.path, users.role, users.mode) == (Path("/r/vllmd.sock"), Role.USER, 0o600)
    assert users.remedy == "Operators connect to /r/admin.sock, which is open to the daemon's own user."


def test_groups_share_it() -> None:
    """Each socket is open to the group that is named for it."""
    operators, users = doors(settings(socket_group="1", socket_mode=0o660, admin_group="2"))

    assert (operators.group, operators.mode) == ("2", 0o660)
    assert (users.group, users.mode) == ("1", 0o660)
    assert "and the group 2" in users.remedy


def test_groups_are_let_through_to_their_sockets(tmp_path: Path) -> None:
    """And nobody is where there are none: the directory stays as whoever made it wanted it."""
    tmp_path.chmod(0o700)
    let_in(settings(runtime_dir=tmp_path))
    before = tmp_path.stat().st_mode & 0o777
    let_in(settings(runtime_dir=tmp_path, admin_group="1"))

    assert (before, tmp_path.stat().st_mode & 0o777) == (0o700, 0o711)


@pytest.mark.parametrize("name", ["socket_group", "admin_group"])
def test_a_group_that_is_not_there(name: str) -> None:
    """It is told before anything is made."""
    ((setting, error),) = problems(settings(**{name: "no-such-group"}))

    assert setting == name
    assert error.reason == "NO_SUCH_GROUP"
    assert problems(settings(**{name: "1"})) == []


def test_the_operators_socket_is_not_for_all() -> None:
    """It can't be both."""
    ((setting, error),) = problems(settings(socket="/r/admin.sock"))

    assert setting == "socket"
    assert error.reason == "SOCKET_TAKEN"


TLS = {
    "tls_certificate": DATA / "server.crt",
    "tls_key": DATA / "server.key",
    "tls_client_ca": DATA / "clients.crt",
}


@pytest.mark.parametrize(
    ("given", "setting", "reason"),
    [
        ({"listen": "0.0.0.0:1"}, "listen", "LISTEN_REFUSED"),
        ({**TLS, "listen": "0.0.0.0:1", "tls_client_ca": None}, "listen", "LISTEN_REFUSED"),
        ({**TLS, "tls_key": None}, "tls_certificate", "TLS_INCOMPLETE"),
        ({**TLS, "tls_certificate": None}, "tls_key", "TLS_INCOMPLETE"),
        ({"tls_client_ca": "/x"}, "tls_client_ca", "TLS_INCOMPLETE"),
        ({"token_file": "/nowhere"}, "token_file", "TOKENS_UNUSABLE"),
        ({**TLS, "tls_key": DATA / "other.key"}, "tls_certificate", "TLS_UNUSABLE"),
    ],
)
def test_what_speaks_against_tcp(given: dict[str, Any], setting: str, reason: str) -> None:
    """Each is named with its setting, before anything is made."""
    ((name, error),) = problems(settings(**given))

    assert (name, error.reason) == (setting, reason)


def test_tokens_tell_who_connects(tmp_path: Path) -> None:
    """So TLS is enough with them."""
    file = tmp_path / "tokens"
    file.write_text("")
    given = settings(**{**TLS, "tls_client_ca": None, "listen": "0.0.0.0:1", "token_file": file})
    found = port(given)

    assert problems(given) == []
    assert found is not None
    assert found.tokens is not None


def test_tcp() -> None:
    """On loopback as it is; anywhere with certificates of both sides."""
    anywhere = settings(listen="0.0.0.0:1", **TLS)
    found = port(anywhere)

    assert port(settings()) is None
    assert port(settings(listen="127.0.0.1:1")) == Port("127.0.0.1:1")
    assert problems(settings(listen="127.0.0.1:1")) == problems(anywhere) == []
    assert found is not None
    assert found.credentials() is not None
