from __future__ import annotations

import pytest

from vllmd.config import Settings
from vllmd.configuration.shapes import Shape, allowed, choices, shape


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_has_a_shape_and_words_for_it(name: str) -> None:
    """A setting of another type than those there are needs one here."""
    assert isinstance(shape(name), Shape)
    assert len(allowed(name)) > 5


@pytest.mark.parametrize(
    ("name", "written", "words"),
    [
        ("idle_timeout", Shape.SECONDS, "a number of seconds of at least 0"),
        ("lease_ttl", Shape.SECONDS, "a number of seconds greater than 0 and at most 86400"),
        ("restart_limit", Shape.COUNT, "a whole number of at least 0"),
        ("engine_memory_max", Shape.BYTES, 'a number of bytes, or a text such as "64GiB"'),
        ("log_limit_bytes", Shape.BYTES, 'a number of bytes, or a text such as "64GiB", of at least 65536'),
        ("socket_mode", Shape.MODE, 'an octal mode as text, such as "660", from 000 to 777'),
        ("socket", Shape.PATH, "an absolute path"),
        ("engine_python", Shape.PATH, "an absolute path, or the name of a program"),
        ("backend", Shape.CHOICE, "one of vllm, fake"),
        ("listen", Shape.TEXT, 'a text, such as "127.0.0.1:8765"'),
        ("allowed_engine_args", Shape.NAMES, "a list of names of engine arguments"),
        ("pass_environment", Shape.VARIABLES, 'a list of names of variables, or patterns such as "AWS_*"'),
        ("model_roots", Shape.PATHS, "a list of absolute paths"),
        ("tls_key", Shape.PATH, "an absolute path"),
        ("engine_args", Shape.ARGUMENTS, "a table of engine arguments"),
    ],
)
def test_what_a_setting_may_be_follows_from_its_type_unit_and_range(name: str, written: Shape, words: str) -> None:
    """So that nobody has to say it twice."""
    assert (shape(name), allowed(name)) == (written, words)


def test_the_choices_are_those_of_the_type() -> None:
    """Also where there may be none."""
    assert choices("foreign_orphans") == ("kill", "report", "ignore")
    assert "debate" in choices("use_case")
