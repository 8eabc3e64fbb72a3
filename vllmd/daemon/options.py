"""The command line of `vllmd`, and the settings that it makes."""

from __future__ import annotations

import argparse
import json
import pathlib
import typing

from vllmd import __version__
from vllmd.config import Settings, UseCase, default_cache_dir, default_runtime_dir, default_state_dir
from vllmd.gpu import products

_DESCRIPTION = """\
Owns every vLLM engine on this host: starts them with a configuration it works out, serves them over gRPC,
and gives their GPU memory back, proven by NVML.

Runs in the foreground until SIGTERM or Ctrl-C; then it takes no new work, lets running generations finish,
stops every engine and checks that it is gone. A second signal kills at once. SIGUSR2 executes the program anew, as
after an upgrade, and keeps the engines. Talk to it with vllmd-cli.
"""
_EPILOG = """\
examples:
  vllmd
        serve on the default socket; vLLM is in the daemon's own environment
  vllmd --engine-python /opt/vllm/bin/python --listen 127.0.0.1:8765
        vLLM is in an environment of its own; also serve on loopback TCP
  vllmd --idle-timeout 600
        keep an engine that nobody has a lease on loaded for ten minutes
  vllmd --simulate 2xRTX3090
        a host with two GPUs that are not there and engines without a model, to try plans and policies

exit status:
  0  stopped, and every engine is proven to be gone
  1  could not start, or an engine is not proven to be gone
  2  wrong usage
"""


_NO_SETTINGS = ("log_level", "check")


def parser() -> argparse.ArgumentParser:
    """Make the command line's parser."""
    result = argparse.ArgumentParser(
        "vllmd", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    fields = Settings.model_fields

    def default(name: str) -> str:
        return f"(default: {fields[name].default:g})"

    option = result.add_argument
    option(
        "--socket", type=pathlib.Path, metavar="PATH", help="Unix socket to serve on (default: RUNTIME_DIR/vllmd.sock)"
    )
    option("--socket-mode", type=octal, metavar="MODE", help="who may connect, in octal (default: 600)")
    option("--listen", metavar="HOST:PORT", help="also serve on this loopback TCP address; any local user can connect")
    option(
        "--runtime-dir",
        type=pathlib.Path,
        metavar="DIR",
        help="where sockets and engines' directories go "
        "(default: $RUNTIME_DIRECTORY, $XDG_RUNTIME_DIR/vllmd, or /run/vllmd)",
    )
    option(
        "--cache-dir",
        type=pathlib.Path,
        metavar="DIR",
        help="where what vLLM compiles is kept (default: $CACHE_DIRECTORY or ~/.cache/vllmd)",
    )
    option(
        "--state-dir",
        type=pathlib.Path,
        metavar="DIR",
        help="where the journal is kept, by which a daemon takes over engines, and what loads took "
        "(default: $STATE_DIRECTORY, $XDG_STATE_HOME/vllmd, or /var/lib/vllmd)",
    )
    option(
        "--engine-python",
        type=pathlib.Path,
        metavar="PATH",
        help="interpreter of the environment that has vLLM (default: the daemon's own)",
    )
    option(
        "--allow-engine-arg",
        action="append",
        dest="allowed_engine_args",
        metavar="NAME",
        help="engine argument that clients may set although it could run code; may be repeated",
    )
    option(
        "--engine-arg",
        action="append",
        dest="engine_args",
        type=engine_arg,
        metavar="NAME=VALUE",
        help="engine argument of every engine whose client does not set it; the value is JSON if it parses, else text; "
        "may be repeated",
    )
    option(
        "--use-case",
        choices=typing.get_args(UseCase),
        help="what models are loaded for where clients do not say (default: nothing in particular)",
    )
    seconds = {
        "idle_timeout": "how long an engine without leases stays loaded; 0 stops it at once",
        "lease_ttl": "how long a lease lasts unused, unless its client says otherwise",
        "load_timeout": "how long the start of an engine may take",
        "stop_grace": "how long vLLM may take to end by itself",
        "reclaim_timeout": "how long killed processes, and then their memory, may take to be gone",
        "drain_timeout": "how long running generations may go on after SIGTERM",
        "adoption_timeout": "how long engines outlive a daemon that died",
        "restart_window": "the time in which --restart-limit counts",
        "stall_timeout": "how long an engine may make no token, with requests running, before it counts as hung",
        "watchdog_interval": "how often GPU processes are looked at",
        "orphan_grace": "how long another program's orphan must stay one before it is killed",
    }
    for name, text in seconds.items():
        option(f"--{name.replace('_', '-')}", type=float, metavar="SECONDS", help=f"{text} {default(name)}")
    option(
        "--engine-memory-max",
        metavar="BYTES",
        help="main memory that an engine may use, such as 64GiB; needs the memory controller of cgroups (default: all)",
    )
    option(
        "--restart-limit",
        type=int,
        metavar="N",
        help=f"how often a failing engine is started again {default('restart_limit')}",
    )
    option(
        "--foreign-orphans",
        choices=("kill", "report", "ignore"),
        help="what to do with vLLM processes of other programs that are proven to be dead (default: kill)",
    )
    option(
        "--backend",
        choices=("vllm", "fake"),
        help="fake: engines are processes without a model, to try vllmd without vLLM (default: vllm)",
    )
    option(
        "--simulate",
        type=simulated_gpus,
        metavar="GPUS",
        help="simulate GPUs such as 2xRTX3090+nvlink or 1xH200,1xRTX4090, with fake engines (default: the host's own)",
    )
    option(
        "--containment",
        choices=("auto", "cgroup", "session"),
        help="what holds an engine's processes together: auto takes a cgroup where one can be made (default: auto)",
    )
    option("--log-level", choices=("debug", "info", "warning", "error"), default="info", help="(default: info)")
    option("--check", action="store_true", help="check the options, and exit")
    option("--version", action="version", version=f"vllmd {__version__}")
    return result


def octal(text: str) -> int:
    """Read a file mode."""
    return int(text, 8)


def engine_arg(text: str) -> tuple[str, typing.Any]:
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


def settings_of(namespace: argparse.Namespace) -> Settings:
    """Make settings of what the command line says.

    Raises:
        pydantic.ValidationError: a value is out of its range.
    """
    given = {name: value for name, value in vars(namespace).items() if value is not None and name not in _NO_SETTINGS}
    runtime = given.setdefault("runtime_dir", default_runtime_dir()).absolute()
    given["runtime_dir"] = runtime
    given.setdefault("socket", runtime / "vllmd.sock")
    given.setdefault("cache_dir", default_cache_dir())
    given["engine_args"] = dict(given.get("engine_args", ()))
    if "simulate" in given:
        given.setdefault("backend", "fake")
    given.setdefault("state_dir", default_state_dir())
    for name in ("socket", "cache_dir", "state_dir"):
        given[name] = given[name].absolute()
    return Settings(**given)
