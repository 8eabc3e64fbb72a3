"""The configuration as a commented TOML file, which `vllmd config show` prints, and the daemon can read. Pure."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from vllmd.config import Settings
from vllmd.configuration.catalog import BY_RESTART, BY_UPGRADE, COMPUTED, SECTIONS
from vllmd.configuration.layer import ARGUMENTS
from vllmd.configuration.reading import DEFAULT, Reading
from vllmd.configuration.shapes import Shape, allowed, shape
from vllmd.planner.secrecy import visible

_WIDTH = 110


def file(reading: Reading, *, defaults: bool, origin: bool) -> str:
    """Write a configuration down.

    Args:
        reading: what was read.
        defaults: also what nobody has set, commented out.
        origin: say of each where it comes from.
    """
    parts = []
    for section, names in SECTIONS.items():
        shown = [name for name in names if defaults or _is_set(name, reading)]
        if shown:
            parts.append(f"# ---- {section}")
            parts += ["\n".join(_entry(name, reading, origin)) for name in shown]
    return "\n\n".join(parts or ["# Nothing is set: everything is as it is by default."]) + "\n"


def summary(name: str) -> str:
    """Say in a sentence what a setting is for."""
    return _description(name)[0]


def reason(name: str) -> str:
    """Say why it is by default what it is."""
    return _description(name)[1]


def default(name: str) -> str:
    """Write the default of a setting as TOML, or in words where it depends or is none."""
    if name in COMPUTED:
        return COMPUTED[name]
    value = Settings.model_fields[name].get_default(call_default_factory=True)
    return "not set" if value is None or value == {} else setting(name, value)


def change(name: str) -> str:
    """Say what it takes to change it."""
    if name in BY_RESTART:
        return "a restart"
    return "an upgrade (SIGUSR2), which keeps the engines" if name in BY_UPGRADE else "a reload"


def setting(name: str, value: Any) -> str:
    """Write a setting's value as TOML."""
    if shape(name) is Shape.MODE:
        return f'"{value:o}"'
    return toml(visible(value) if name == ARGUMENTS else value)


def toml(value: Any) -> str:
    """Write a value as TOML."""
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(int(value))
        case float():
            return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
        case None:
            return '"null"'  # which TOML does not have; only a flag can give it
        case tuple() | list():
            return "[" + ", ".join(map(toml, value)) + "]"
        case dict():
            return "{ " + ", ".join(f"{_key(name)} = {toml(one)}" for name, one in value.items()) + " }"
        case _:
            return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else toml(name)


def _description(name: str) -> tuple[str, str]:
    about, _, why = (Settings.model_fields[name].description or "").partition("\n\n")
    return " ".join(about.split()), " ".join(why.split())


def _is_set(name: str, reading: Reading) -> bool:
    return reading.origins[name] != DEFAULT or (name == ARGUMENTS and bool(reading.settings.engine_args))


def _entry(name: str, reading: Reading, origin: bool) -> Iterator[str]:
    for paragraph in (summary(name), reason(name), f"{_may_be(name)} Default: {default(name)}. {_changed(name)}"):
        yield from textwrap.wrap(paragraph, _WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)
    value = getattr(reading.settings, name)
    if name == ARGUMENTS:
        yield from _arguments(value, reading, origin)
        return
    from_where = f"  # {reading.origins[name]}" if origin else ""
    if _is_set(name, reading):
        yield f"{name} = {setting(name, value)}{from_where}"
    else:
        yield f"#{name} = {setting(name, value if value is not None else example(name))}{from_where}"


def _arguments(value: Mapping[str, Any], reading: Reading, origin: bool) -> Iterator[str]:
    if not value:
        yield f"#[{ARGUMENTS}]" + (f"  # {DEFAULT}" if origin else "")
        yield from (f"#{name} = {toml(one)}" for name, one in example(ARGUMENTS).items())
        return
    yield f"[{ARGUMENTS}]"
    for name, one in visible(value).items():
        line = f"{name} = {toml(one)}" + (f"  # {reading.origins[f'{ARGUMENTS}.{name}']}" if origin else "")
        yield f"# {line}, null, which TOML does not have" if one is None else line


def example(name: str) -> Any:
    """Give a value that somebody might set."""
    return (Settings.model_fields[name].examples or [None])[0]


def _may_be(name: str) -> str:
    words = allowed(name)
    return f"{words[:1].upper()}{words[1:]}."


def _changed(name: str) -> str:
    return f"To change it takes {change(name)}."
