"""One source of settings: what it gives, where each value stands there, and what is wrong with it. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from vllmd.config import Settings
from vllmd.configuration import values
from vllmd.configuration.problems import Problem, nearest
from vllmd.configuration.shapes import allowed

ARGUMENTS = "engine_args"
"""The one setting with names of its own: their keys are `engine_args.NAME`."""
_LIKE = 0.85
"""How like a setting's a variable must be to be taken for a slip of the pen."""
_HINT = "`vllmd config show --defaults` lists all settings"


@dataclasses.dataclass(frozen=True, slots=True)
class Given:
    """A value, and where it stands: `FILE:LINE`, `$VARIABLE` or `--flag`."""

    value: Any
    where: str


class Layer:
    """What one source gives, by key, and its problems; filled value by value."""

    def __init__(self) -> None:
        self.given: dict[str, Given] = {}
        self.problems: list[Problem] = []

    def take(self, key: str, where: str, read: Callable[[], Any], written: str | None = None) -> None:
        """Take one value, or write down why it can't be one.

        Args:
            key: a setting, or an engine argument as `engine_args.NAME`.
            where: where it stands.
            read: makes the value; raises `Wrong`.
            written: the key as it is written there, if differently.
        """
        try:
            self.given[key] = Given(read(), where)
        except values.Wrong as wrong:
            self.problems.append(Problem(where, written or key, str(wrong)))

    def refuse(self, where: str, key: str, text: str) -> None:
        """Write down what is wrong."""
        self.problems.append(Problem(where, key, text))


def of_table(table: Mapping[str, Any], where: Callable[[tuple[str, ...]], str]) -> Layer:
    """Take what a file says.

    Args:
        table: what `tomllib` read.
        where: tells where a key stands.
    """
    layer = Layer()
    for name, value in table.items():
        at = where((name,))
        if name == ARGUMENTS and isinstance(value, dict):
            _take_arguments(layer, value, where)
        elif name in Settings.model_fields and isinstance(value, dict | list) and _is_table(value):
            layer.refuse(at, name, f"is no table: it must be {allowed(name)}")
        elif name in Settings.model_fields and name != ARGUMENTS:
            layer.take(name, at, lambda name=name, value=value: values.of_toml(name, value))  # type: ignore[misc]
        elif name == ARGUMENTS:
            layer.refuse(at, name, f"must be a table of engine arguments, such as [{ARGUMENTS}] max_num_seqs = 64")
        elif _is_table(value):
            layer.refuse(at, name, f"there is no such table: settings stand outside of any, but for [{ARGUMENTS}]")
        else:
            layer.refuse(at, name, f"there is no such setting; {_nearest(name)}")
    return layer


def of_environment(environment: Mapping[str, str], prefix: str = "VLLMD_") -> Layer:
    """Take what variables say: `VLLMD_IDLE_TIMEOUT`, and `VLLMD_ENGINE_ARGS__MAX_NUM_SEQS` for an engine argument.

    One that is like a setting's is refused. Others are not ours to judge: Kubernetes sets `VLLMD_PORT` and more in
    every pod beside a service of that name.
    """
    layer = Layer()
    arguments = f"{ARGUMENTS}__"
    for variable in sorted(name for name in environment if name.startswith(prefix)):
        name, text, where = variable.removeprefix(prefix).lower(), environment[variable], f"${variable}"
        if name.startswith(arguments):
            argument = name.removeprefix(arguments)
            layer.take(f"{ARGUMENTS}.{argument}", where, lambda text=text: values.text_argument(text))  # type: ignore[misc]
        elif name == ARGUMENTS:
            layer.refuse(where, name, f"is set one by one, such as {prefix}{arguments.upper()}MAX_NUM_SEQS=64")
        elif name in Settings.model_fields:
            layer.take(name, where, lambda name=name, text=text: values.of_text(name, text))  # type: ignore[misc]
        elif near := nearest(name, Settings.model_fields, least=_LIKE):
            layer.refuse(where, name, f"there is no such setting; the nearest is {prefix}{near.upper()}")
    return layer


def of_flags(flags: Mapping[str, Any], name_of: Callable[[str], str]) -> Layer:
    """Take what the command line says.

    Args:
        flags: by the settings' names, of the right types, without those that were not given.
        name_of: tells the flag of a setting.
    """
    layer = Layer()
    for name, value in flags.items():
        where = name_of(name)
        if name == ARGUMENTS:
            for argument, of_it in value.items():
                layer.given[f"{ARGUMENTS}.{argument}"] = Given(of_it, where)
        else:
            layer.take(name, where, lambda name=name, value=value: values.check(name, value))  # type: ignore[misc]
    return layer


def _take_arguments(layer: Layer, table: Mapping[str, Any], where: Callable[[tuple[str, ...]], str]) -> None:
    for name, value in table.items():
        at, written = where((ARGUMENTS, name)), f"{ARGUMENTS}.{name}"
        if name in Settings.model_fields:
            layer.refuse(at, written, f"is a setting and no engine argument: it belongs above [{ARGUMENTS}]")
        elif not name.isidentifier():
            meant = name.strip().lstrip("-").replace("-", "_").replace(" ", "_")
            layer.refuse(at, written, f"is no name of an engine argument; the nearest is {meant}")
        else:
            layer.take(written, at, lambda value=value: values.argument(value))  # type: ignore[misc]


def _is_table(value: object) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and bool(value) and isinstance(value[0], dict))


def _nearest(name: str) -> str:
    near = nearest(name, Settings.model_fields)
    return f"the nearest is {near}" if near else _HINT
