from __future__ import annotations

import pytest

from vllmd.api.access import Role
from vllmd.api.tokens import digest, parse
from vllmd.daemon.main import main
from vllmd.daemon.token_command import main as token_command


def test_a_token_is_shown_once(capsys: pytest.CaptureFixture[str]) -> None:
    """With the line for the file, which does not have it."""
    status = main(["token", "new", "alice"])
    shown = capsys.readouterr()
    token, line = shown.out.splitlines()
    (entry,) = parse(line)

    assert status == 0
    assert (entry.name, entry.digest, entry.role) == ("alice", digest(token), Role.USER)
    assert token not in line + shown.err


def test_limits(capsys: pytest.CaptureFixture[str]) -> None:
    """They stand in the line."""
    token_command(["new", "ci", "--role", "operator", "--max-requests", "4", "--model", "a", "--model", "b/*"])
    (entry,) = parse(capsys.readouterr().out.splitlines()[1])

    assert (entry.role, entry.max_requests, entry.models) == (Role.OPERATOR, 4, ("a", "b/*"))


@pytest.mark.parametrize(
    "wrong", [[], ["new"], ["new", "a b"], ["new", "a", "--role", "god"], ["new", "a", "--max-requests", "0"]]
)
def test_misuse(wrong: list[str]) -> None:
    """Ends with status 2."""
    with pytest.raises(SystemExit) as ended:
        token_command(wrong)

    assert ended.value.code == 2
