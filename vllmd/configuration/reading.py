"""Puts the sources together: defaults, files, the environment and the command line, each over those before it."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import types
from collections.abc import Callable, Mapping
from typing import Any

import pydantic

from vllmd.config import Settings
from vllmd.configuration import files
from vllmd.configuration.layer import ARGUMENTS, Given, Layer, of_environment, of_flags
from vllmd.configuration.places import default_cache_dir, default_runtime_dir, default_state_dir
from vllmd.configuration.problems import ConfigurationError, Problem

DEFAULT = "default"
"""The origin of what nobody has set."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A configuration that could be in force."""

    settings: Settings
    origins: Mapping[str, str]
    """Where each setting comes from, by name, and each engine argument, by `engine_args.NAME`."""
    path: pathlib.Path
    """The file, whether it is there or not."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where a daemon's settings come from; they are read again and again."""

    path: pathlib.Path | None = None
    """The file that the command line names."""
    flags: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """What the command line says, by the settings' names and of their types."""
    flag_of: Callable[[str], str] = lambda name: f"--{name.replace('_', '-')}"
    """Tells what the flag of a setting is called."""
    environment: Mapping[str, str] = dataclasses.field(default_factory=lambda: types.MappingProxyType(os.environ))

    @property
    def file(self) -> pathlib.Path:
        """Where the configuration is, whether it is there or not."""
        return self.path or files.place(self.environment)

    def read(self) -> Reading:
        """Read all of them.

        Raises:
            ConfigurationError: with everything that is wrong.
        """
        named = self.path is not None or bool(self.environment.get(files.VARIABLE))
        ours = {name: text for name, text in self.environment.items() if name != files.VARIABLE}
        layers = [
            *files.layers(self.file, named=named),
            of_environment(ours),
            of_flags(self.flags, self.flag_of),
        ]
        problems = [problem for layer in layers for problem in layer.problems]
        if problems:
            raise ConfigurationError(problems)
        given = merged(layers)
        settings = _settings(given, self.environment)
        return Reading(settings=settings, origins=_origins(given), path=self.file)


def merged(layers: list[Layer]) -> dict[str, Given]:
    """Let later sources count more; a list counts whole, engine arguments one by one."""
    result: dict[str, Given] = {}
    for layer in layers:
        result |= layer.given
    return result


def _settings(given: Mapping[str, Given], environment: Mapping[str, str]) -> Settings:
    """Make settings of what is given, and of defaults that depend on it and on where the daemon runs."""
    values: dict[str, Any] = {key: one.value for key, one in given.items() if "." not in key}
    values[ARGUMENTS] = {
        key.removeprefix(f"{ARGUMENTS}."): one.value for key, one in given.items() if key.startswith(f"{ARGUMENTS}.")
    }
    runtime = values.setdefault("runtime_dir", default_runtime_dir(environment)).absolute()
    values["runtime_dir"] = runtime
    values.setdefault("socket", runtime / "vllmd.sock")
    values.setdefault("cache_dir", default_cache_dir(environment))
    values.setdefault("state_dir", default_state_dir(environment))
    for name in ("socket", "cache_dir", "state_dir", "tls_certificate", "tls_key", "tls_client_ca", "token_file"):
        if values.get(name) is not None:
            values[name] = values[name].absolute()
    if "engine_python" in values and len(values["engine_python"].parts) > 1:  # a bare name is found by PATH
        values["engine_python"] = values["engine_python"].absolute()
    if "model_roots" in values:
        values["model_roots"] = tuple(path.absolute() for path in values["model_roots"])
    if values.get("socket_group") is not None:
        values.setdefault("socket_mode", 0o660)
    if values.get("simulate") is not None:
        values.setdefault("backend", "fake")
    try:
        return Settings(**values)
    except pydantic.ValidationError as error:  # each value is right by itself, but they do not go together
        wrong = [(str(item["loc"][0]), item["msg"].removeprefix("Value error, ")) for item in error.errors()]
        raise ConfigurationError(Problem(given[name].where, name, text) for name, text in wrong) from None


def _origins(given: Mapping[str, Given]) -> dict[str, str]:
    origins = {**dict.fromkeys(Settings.model_fields, DEFAULT), **{key: one.where for key, one in given.items()}}
    if "backend" not in given:  # a simulated host implies it
        origins["backend"] = origins["simulate"]
    return origins
