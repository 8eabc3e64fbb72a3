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

    def take(self, name: str, where: str, read: Callable[[str, Any], Any], written: object) -> None:
        """Take the value of a setting, or write down why it can't be one.

        Args:
            name: the setting.
            where: where it stands.
            read: makes the value of the setting's name and what is written; raises `Wrong`.
            written: what stands there.
        """
        try:
            self.given[name] = Given(read(name, written), where)
        except values.Wrong as wrong:
            self.refuse(where, name, str(wrong))

    def take_argument(self, name: str, where: str, read: Callable[[Any], Any], written: object) -> None:
        """Likewise that of an engine argument."""
        key = f"{ARGUMENTS}.{name}"
        if name in Settings.model_fields:
            self.refuse(where, key, f"is a setting and no engine argument: it belongs above [{ARGUMENTS}]")
        elif not name.isidentifier():
            meant = name.strip().lstrip("-").replace("-", "_").replace(" ", "_")
            near = f"; the nearest is {meant}" if meant.isidentifier() else ""
            self.refuse(where, key, f"is no name of an engine argument{near}")
        else:
            try:
                self.given[key] = Given(read(written), where)
            except values.Wrong as wrong:
                self.refuse(where, key, str(wrong))

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
            for argument, of_it in value.items():
                layer.take_argument(argument, where((name, argument)), values.argument, of_it)
        elif name in Settings.model_fields and isinstance(value, dict | list) and _is_table(value):
            layer.refuse(at, name, f"is no table: it must be {allowed(name)}")
        elif name in Settings.model_fields and name != ARGUMENTS:
            layer.take(name, at, values.of_toml, value)
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
            layer.take_argument(name.removeprefix(arguments), where, values.text_argument, text)
        elif name == ARGUMENTS:
            layer.refuse(where, name, f"is set one by one, such as {prefix}{arguments.upper()}MAX_NUM_SEQS=64")
        elif name in Settings.model_fields:
            layer.take(name, where, values.of_text, text)
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
            layer.take(name, where, values.check, value)
    return layer


def _is_table(value: object) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and bool(value) and isinstance(value[0], dict))


def _nearest(name: str) -> str:
    near = nearest(name, Settings.model_fields)
    return f"the nearest is {near}" if near else _HINT
