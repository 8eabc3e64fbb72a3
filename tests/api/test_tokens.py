from __future__ import annotations

import gc
import os
import re
import stat
import time
from pathlib import Path

import pytest

from vllmd.api.access import Role
from vllmd.api.tokens import Token, Tokens, digest, is_name, line, new, parse, presented, read
from vllmd.errors import Denied, Exhausted, NotPossible

HASH = digest("a")


def test_a_token_can_not_be_guessed() -> None:
    """32 random bytes, after a beginning by which programs find it where it should not be."""
    made = {new() for _ in range(100)}

    assert len(made) == 100
    assert all(re.fullmatch(r"vllmd_[A-Za-z0-9_-]{43}", token) for token in made)


def test_the_line_that_is_made_is_read_again() -> None:
    """With all that was said of it, and without the token."""
    token = new()
    text = "\n".join(
        [line("alice", token, "user"), line("ci", "b", "operator", 4, ('a"\\', "Qwen/*")), "# a comment", ""]
    )
    alice, ci = parse(text)

    assert token not in text
    assert alice == Token(name="alice", digest=digest(token), role=Role.USER)
    assert ci == Token(name="ci", digest=digest("b"), role=Role.OPERATOR, max_requests=4, models=('a"\\', "Qwen/*"))
    assert digest("b") not in repr(ci)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a = 1", "a: "),
        ("a = {}", "a.hash: Field required"),
        (f'a = {{ hash = "{HASH}", rule = "user" }}', "a.rule: Extra inputs"),
        (f'a = {{ hash = "{HASH}", role = "god" }}', "a.role: "),
        (f'a = {{ hash = "{HASH}", max_requests = 0 }}', "a.max_requests: "),
        (f'a = {{ hash = "{HASH}", models = "m" }}', "a.models: "),
        (f'"a b" = {{ hash = "{HASH}" }}', "'a b' is no name"),
        ("a = ", "Invalid value"),
        ('a = { hash = "vllmd_secret" }', "a.hash: String should match"),
    ],
)
def test_what_is_wrong_is_told_and_no_secret(tmp_path: Path, text: str, told: str) -> None:
    """Somebody may have put a token where its hash belongs."""
    path = tmp_path / "tokens.toml"
    path.write_text(text)
    with pytest.raises(NotPossible) as refused:
        read(path)

    assert refused.value.reason == "TOKENS_UNUSABLE"
    assert told in refused.value.message
    assert "secret" not in refused.value.message


def test_a_file_that_others_write_is_refused(tmp_path: Path) -> None:
    """They could add a token of their own; that they read it does no harm."""
    path = tmp_path / "tokens.toml"
    path.write_text("")
    path.chmod(0o644)
    assert read(path) == ()
    path.chmod(0o664)
    with pytest.raises(NotPossible, match="can write to it"):
        read(path)


def test_a_file_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose it is may write to it at any time."""
    path = tmp_path / "tokens.toml"
    path.write_text("")
    true = os.fstat

    def of_another(descriptor: int) -> os.stat_result:
        values = list(true(descriptor))
        values[stat.ST_UID] = 4711 if os.geteuid() != 4711 else 4712
        return os.stat_result(values)

    monkeypatch.setattr(os, "fstat", of_another)  # only root can give a file away
    with pytest.raises(NotPossible, match="it belongs to uid 471"):
        read(path)


def test_a_file_that_is_too_long_is_not_read_in_part(tmp_path: Path) -> None:
    """What is cut off may be a token's limit."""
    path = tmp_path / "tokens.toml"
    head = f'[ci]\nhash = "{HASH}"\n'
    path.write_text(head + "#" * ((1 << 20) - len(head)) + "\nmax_requests = 1\n")
    with pytest.raises(NotPossible, match="more than 1048576 bytes"):
        read(path)


def test_a_pipe_or_brackets_without_end_are_refused(tmp_path: Path) -> None:
    """Neither stops the daemon, which reads while it serves."""
    pipe, deep = tmp_path / "pipe", tmp_path / "deep"
    os.mkfifo(pipe, 0o600)
    deep.write_text("a = " + "[" * 100_000)
    with pytest.raises(NotPossible, match="it is no file"):
        read(pipe)
    gc.collect()  # a finalizer that other tests left fails if it comes to run at the bottom of the recursion
    with pytest.raises(NotPossible, match="can't be used"):
        read(deep)


def test_a_change_is_seen_by_more_than_its_time(tmp_path: Path) -> None:
    """A copy may keep the time, and a token that is withdrawn the length."""
    path = tmp_path / "tokens.toml"
    path.write_text(line("alice", "a", "user"))
    tokens = Tokens(path)
    before = path.stat()
    time.sleep(0.02)  # the clock of the file system goes by some milliseconds
    path.write_text(line("carol", "c", "user"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    assert tokens.find("a") is None


def test_a_new_file_counts_for_the_next_call(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One that can't be used changes nothing, and is told once."""
    path = tmp_path / "tokens.toml"
    path.write_text(line("alice", "a", "user"))
    tokens = Tokens(path)
    before = [tokens.find("a"), tokens.find("b")]
    path.write_text(line("bob", "b", "operator") + "\n")
    after = [tokens.find("a"), tokens.find("b")]
    path.write_text("nonsense, and longer than what was there before")
    still = [tokens.find("b") for _ in range(3)]
    path.unlink()
    gone = tokens.find("b")

    assert [token and token.name for token in (*before, *after)] == ["alice", None, None, "bob"]
    assert {token and token.name for token in (*still, gone)} == {"bob"}
    assert sum("stay so" in record.message for record in caplog.records) == 2


def test_so_many_requests_at_once(tmp_path: Path) -> None:
    """Each token by itself, and one that is not limited without end."""
    path = tmp_path / "tokens.toml"
    path.write_text("\n".join([line("two", "a", "user", 2), line("other", "b", "user", 1), line("any", "c", "user")]))
    tokens = Tokens(path)
    two, other, free = (tokens.find(name) for name in "abc")
    assert two is not None
    assert other is not None
    assert free is not None
    with tokens.running(two), tokens.running(two), tokens.running(other), tokens.running(free), tokens.running(free):
        with pytest.raises(Exhausted, match="2 requests running") as refused, tokens.running(two):
            pass
    with tokens.running(two):
        pass

    assert refused.value.reason == "TOO_MANY_REQUESTS"
    assert refused.value.metadata == {"token": "two", "running": "2", "limit": "2"}


@pytest.mark.parametrize(
    ("models", "model", "allowed"),
    [
        (None, "anything/../at all", True),
        (("Qwen/*",), "Qwen/Qwen3-8B", True),
        (("Qwen/*",), "qwen/Qwen3-8B", False),
        (("Qwen/*",), "Other/Qwen3-8B", False),
        (("a", "b"), "b", True),
        (("/models/*",), "/models/a/b", True),
        (("/models/*",), "/models/../etc", False),
        ((), "a", False),
    ],
)
def test_the_models_of_a_token(models: tuple[str, ...] | None, model: str, allowed: bool) -> None:
    """By patterns, which no path climbs out of."""
    token = Token(name="t", digest=HASH, role=Role.USER, models=models)
    if allowed:
        token.check_model(model)
        return
    with pytest.raises(Denied, match=f"not for {model}") as denied:
        token.check_model(model)

    assert denied.value.reason == "MODEL_NOT_ALLOWED"


@pytest.mark.parametrize(
    ("metadata", "token"),
    [
        ((), None),
        ((("authorization", "Bearer x"),), "x"),
        ((("user-agent", "Bearer y"), ("authorization", "bearer  x ")), "x"),
        ((("authorization", "Basic x"),), None),
        ((("authorization", "Bearer"),), None),
        ((("authorization", b"Bearer x"),), None),
    ],
)
def test_where_a_token_stands(metadata: tuple[tuple[str, str | bytes], ...], token: str | None) -> None:
    """As on the web."""
    assert presented(metadata) == token


def test_names_are_plain() -> None:
    """They stand in logs."""
    assert is_name("alice-2_b")
    assert not any(map(is_name, ("", "a b", "a\n", "é", "a" * 65)))
