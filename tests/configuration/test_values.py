from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllmd.config import Settings
from vllmd.configuration.values import Wrong, argument, check, of_text, of_toml, shown, text_argument


@pytest.mark.parametrize(
    ("name", "written", "value"),
    [
        ("idle_timeout", 600, 600.0),
        ("idle_timeout", 0.5, 0.5),
        ("restart_limit", 0, 0),
        ("socket_mode", "660", 0o660),
        ("socket_mode", "0660", 0o660),
        ("socket", "/run/x/s", Path("/run/x/s")),
        ("engine_python", "python3.12", Path("python3.12")),
        ("engine_memory_max", "64GiB", 64 << 30),
        ("log_limit_bytes", 1 << 20, 1 << 20),
        ("foreign_orphans", "report", "report"),
        ("allowed_engine_args", ["hf_overrides"], ("hf_overrides",)),
        ("simulate", "2xRTX3090", "2xRTX3090"),
        ("pass_environment", ["AWS_*", "PYTHONPATH", "*"], ("AWS_*", "PYTHONPATH", "*")),
        ("model_roots", ["/a", "/b c"], (Path("/a"), Path("/b c"))),
    ],
)
def test_what_a_file_says_is_taken_as_it_is_meant(name: str, written: object, value: object) -> None:
    """As `Settings` has it; tests/data/config/broken has what is refused."""
    assert of_toml(name, written) == value


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("idle_timeout", "600", 600.0),
        ("idle_timeout", "1e3", 1000.0),
        ("restart_limit", "5", 5),
        ("socket_mode", "660", 0o660),
        ("engine_memory_max", "1GiB", 1 << 30),
        ("engine_memory_max", "1024", 1024),
        ("allowed_engine_args", "a,b c", ("a", "b", "c")),
        ("allowed_engine_args", "", ()),
        ("pass_environment", "AWS_*, X", ("AWS_*", "X")),
        ("backend", "fake", "fake"),
        ("model_roots", "/a:/b c:", (Path("/a"), Path("/b c"))),
        ("cache_dir", "relative/to/here", Path("relative/to/here")),
    ],
)
def test_what_the_environment_says_is_a_text(name: str, text: str, value: object) -> None:
    """A path may be relative there, as on the command line."""
    assert of_text(name, text) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("idle_timeout", ""),
        ("idle_timeout", "nan"),
        ("idle_timeout", "ten"),
        ("restart_limit", "1.5"),
        ("socket_mode", "9"),
        ("model_roots", "/a:b"),
        ("backend", "Fake"),
        ("socket", ""),
        ("allowed_engine_args", "no-name"),
        ("pass_environment", "X=1"),
        ("listen", ""),
    ],
)
def test_a_text_that_makes_no_sense_is_refused_with_what_would(name: str, text: str) -> None:
    """In the same words as in a file."""
    with pytest.raises(Wrong, match="must be"):
        of_text(name, text)


def test_a_value_of_the_right_type_may_be_out_of_range() -> None:
    """As those of the command line are checked."""
    assert check("stop_grace", 3.0) == 3.0
    with pytest.raises(Wrong, match=r"must be a number of seconds of at least 0, and is -3\.0"):
        check("stop_grace", -3.0)


def test_an_engine_argument_may_be_whatever_json_has() -> None:
    """Clients are told of it; a text that is no JSON is one."""
    nested: dict[str, Any] = {"image": [2, 0.5, "x", True]}

    assert argument(nested) == nested
    assert text_argument('{"image": 2}') == {"image": 2}
    assert text_argument("half") == "half"
    assert text_argument("NaN") == "NaN"
    with pytest.raises(Wrong, match="is inf"):
        argument(float("inf"))


def test_values_are_shown_as_they_are_written() -> None:
    """In messages."""
    assert (shown("socket_mode", 0o660), shown("listen", "a"), shown("idle_timeout", True)) == ('"660"', '"a"', "true")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(10**400) | st.just(-(10**400)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


def tried(read: Callable[[], object]) -> object:
    """The value that was read, or why it is none."""
    try:
        return read()
    except Wrong as wrong:
        return wrong


def explained(name: str, wrong: Wrong) -> bool:
    """Whether it says what would be right; the words about GPUs are others'."""
    return "must be" in str(wrong) or name == "simulate"


@given(st.sampled_from(sorted(set(Settings.model_fields) - {"engine_args"})), JSON)
def test_any_value_is_taken_or_refused(name: str, value: object) -> None:
    """And nothing else happens; what is taken could be set."""
    taken = tried(lambda: of_toml(name, value))

    assert explained(name, taken) if isinstance(taken, Wrong) else check(name, taken) == taken


@given(st.sampled_from(sorted(set(Settings.model_fields) - {"engine_args"})), st.text() | st.integers().map(str))
def test_any_text_is_taken_or_refused(name: str, text: str) -> None:
    """Likewise of the environment."""
    taken = tried(lambda: of_text(name, text))

    assert explained(name, taken) if isinstance(taken, Wrong) else check(name, taken) == taken


@given(st.text())
def test_any_text_is_some_engine_argument(text: str) -> None:
    """JSON or not."""
    assert argument(text_argument(text)) == text_argument(text)
