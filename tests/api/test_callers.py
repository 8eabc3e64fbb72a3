from __future__ import annotations

import contextvars
import dataclasses
from pathlib import Path

import pytest

from vllmd.api.access import Role
from vllmd.api.callers import Caller, check_model, counted, current
from vllmd.api.tokens import Token, Tokens, line
from vllmd.errors import Denied, Exhausted


def caller(*models: str) -> Caller:
    """Somebody with a token for some models; without any of them, for all."""
    token = Token(name="ci", digest="", role=Role.OPERATOR, models=models or None)
    return Caller(role=token.role, way="127.0.0.1:1", token=token)


def test_a_caller_in_words() -> None:
    """As the audit says it: what is known, and no more."""
    assert str(Caller(role=Role.OPERATOR, way="admin.sock")) == "operator by admin.sock"
    assert str(caller()) == "operator by 127.0.0.1:1 with the token ci"


@pytest.mark.parametrize("who", [None, Caller(role=Role.USER, way="vllmd.sock"), caller()])
def test_who_is_not_limited_is_not_asked(who: Caller | None) -> None:
    """Not even for the model, which takes a look at the engines."""

    def check() -> None:
        current.set(who)
        check_model(lambda: pytest.fail("it was looked for"))

    contextvars.copy_context().run(check)


def test_requests_are_counted_where_there_is_a_limit(tmp_path: Path) -> None:
    """And of nobody else."""
    file = tmp_path / "tokens.toml"
    file.write_text(line("ci", "a", "user", 1))
    tokens = Tokens(file)
    limited = dataclasses.replace(caller(), token=tokens.find("a"), tokens=tokens)

    def check(who: Caller | None) -> None:
        current.set(who)
        with counted(), counted():
            pass

    contextvars.copy_context().run(check, None)
    contextvars.copy_context().run(check, Caller(role=Role.USER, way="vllmd.sock"))
    with pytest.raises(Exhausted):
        contextvars.copy_context().run(check, limited)


def test_who_is_limited_is() -> None:
    """By the token's models."""

    def check() -> None:
        current.set(caller("a"))
        check_model(lambda: "a")
        with pytest.raises(Denied):
            check_model(lambda: "b")

    contextvars.copy_context().run(check)
