"""The command line of `vllmd`, and where it says that settings come from."""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import types
from collections.abc import Callable, Mapping
from typing import Any

from vllmd import __version__
from vllmd.configuration import show
from vllmd.configuration.catalog import SECTIONS
from vllmd.configuration.reading import Sources
from vllmd.configuration.shapes import Shape, choices, shape
from vllmd.gpu import products

_DESCRIPTION = """\
Owns every vLLM engine on this host: starts them with a configuration it works out, serves them over gRPC,
and gives their GPU memory back, proven by NVML.

Runs in the foreground until SIGTERM or Ctrl-C; then it takes no new work, lets running generations finish,
stops every engine and checks that it is gone. A second signal kills at once. SIGUSR2 executes the program anew, as
after an upgrade, and keeps the engines; SIGHUP reads the configuration again. Talk to it with vllmd-cli.

Every option is a setting of the configuration as well, and counts over VLLMD_… in the environment, which counts over
vllmd.toml.d/*.toml, which count over vllmd.toml. `vllmd config show` and `vllmd config check` look at them.
"""
_EPILOG = """\
examples:
  vllmd
        serve on the default socket; vLLM is in the daemon's own environment
  vllmd --engine-python /opt/vllm/bin/python --listen 127.0.0.1:8765
        vLLM is in an environment of its own; also serve on loopback TCP
  vllmd --idle-timeout 600
        keep an engine that nobody has a lease on loaded for ten minutes
  vllmd config show --defaults > vllmd.toml
        every setting with its default and the reason for it, to begin with
  vllmd install --engine-python /opt/vllm/bin/python
        make it the host's service, once it has said what that takes
  vllmd token new alice --role user
        make a token for who comes by --listen, and the line of --token-file for it
  vllmd --simulate 2xRTX3090
        a host with two GPUs that are not there and engines without a model, to try plans and policies

exit status:
  0  stopped, and every engine is proven to be gone
  1  could not start, or an engine is not proven to be gone
  2  wrong usage, or an error in the configuration
"""


FLAGS: Mapping[str, str] = types.MappingProxyType(
    {"model_roots": "--model-root", "allowed_engine_args": "--allow-engine-arg", "engine_args": "--engine-arg"}
)
"""The options that are not called as their setting is: each gives one of several."""
_METAVARS = {
    "listen": "HOST:PORT",
    "engine_python": "PATH",
    "socket": "PATH",
    **dict.fromkeys(("tls_certificate", "tls_key", "tls_client_ca", "token_file"), "PATH"),
    "simulate": "GPUS",
    "allowed_engine_args": "NAME",
    "model_roots": "DIR",
    "pass_environment": "NAME",
    "engine_args": "NAME=VALUE",
}
_OF_SHAPE: Mapping[Shape, Mapping[str, Any]] = {
    Shape.SECONDS: {"type": float, "metavar": "SECONDS"},
    Shape.COUNT: {"type": int, "metavar": "N"},
    Shape.BYTES: {"metavar": "BYTES"},
    Shape.PATH: {"type": pathlib.Path, "metavar": "DIR"},
    Shape.CHOICE: {},
    Shape.TEXT: {},
    Shape.NAMES: {"action": "append"},
    Shape.VARIABLES: {"action": "append"},
    Shape.PATHS: {"action": "append", "type": pathlib.Path},
}
_REPEATED = (Shape.NAMES, Shape.VARIABLES, Shape.PATHS, Shape.ARGUMENTS)


def parser() -> argparse.ArgumentParser:
    """Make the command line's parser."""
    result = argparse.ArgumentParser(
        "vllmd", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_settings(result)
    result.add_argument("--check", action="store_true", help="check the configuration and the options, and exit")
    result.add_argument("--version", action="version", version=f"vllmd {__version__}")
    return result


def add_settings(to: argparse.ArgumentParser) -> None:
    """Add an option for each setting, and the one that names the file of the others."""
    to.add_argument(
        "--config",
        type=pathlib.Path,
        metavar="PATH",
        help="read this file, and PATH.d/*.toml over it (default: $VLLMD_CONFIG, $CONFIGURATION_DIRECTORY/vllmd.toml, "
        "/etc/vllmd/vllmd.toml for root, or ~/.config/vllmd/vllmd.toml)",
    )
    for names in SECTIONS.values():
        for name in names:
            # Without a default of its own, so that it can be told what was given.
            to.add_argument(flag(name), dest=name, help=_help(name), **_reading(name))


def flag(name: str) -> str:
    """Tell what the option of a setting is called."""
    return FLAGS.get(name, f"--{name.replace('_', '-')}")


def sources(namespace: argparse.Namespace, environment: Mapping[str, str] = os.environ) -> Sources:
    """Say where the settings come from, by what the command line says."""
    given = {name: getattr(namespace, name) for names in SECTIONS.values() for name in names}
    flags = {name: _whole(name, value) for name, value in given.items() if value is not None}
    path = namespace.config.absolute() if namespace.config is not None else None
    return Sources(path=path, flags=flags, flag_of=flag, environment=environment)


def _whole(name: str, value: Any) -> Any:
    if shape(name) is Shape.ARGUMENTS:
        return dict(value)
    return tuple(value) if shape(name) in _REPEATED else value


def _help(name: str) -> str:
    about = show.summary(name).rstrip(".")
    if about[1:2].islower():
        about = about[:1].lower() + about[1:]
    default = show.default(name).strip('"')
    several = "; may be repeated" if shape(name) in _REPEATED else f" (default: {default})"
    return (about + several).replace("%", "%%")


def _reading(name: str) -> dict[str, Any]:
    special: Mapping[str, Callable[[str], Any]] = {
        "socket_mode": octal,
        "simulate": simulated_gpus,
        "engine_args": engine_arg,
    }
    result = dict(_OF_SHAPE.get(shape(name), {"metavar": "MODE"}))
    if shape(name) is Shape.CHOICE:
        result["choices"] = choices(name)
    if name in special:
        result["type"] = special[name]
    if name == "engine_args":
        result["action"] = "append"
    if name in _METAVARS:
        result["metavar"] = _METAVARS[name]
    return result


def octal(text: str) -> int:
    """Read a file mode."""
    return int(text, 8)


def engine_arg(text: str) -> tuple[str, Any]:
    """Read `NAME=VALUE`; a value that is no JSON is a text."""
    name, equals, value = text.partition("=")
    name = name.strip().removeprefix("--").replace("-", "_")
    if not equals or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    try:
        read = json.loads(value)
        json.dumps(read, allow_nan=False)  # which clients could not be told of
    except ValueError:
        return name, value
    return name, read


def simulated_gpus(text: str) -> str:
    """Check a list of GPUs to simulate."""
    try:
        products.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text
