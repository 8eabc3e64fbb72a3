"""How this daemon was told to run; every default with its unit and reason."""

from __future__ import annotations

import os
import pathlib
import sys
from collections.abc import Mapping
from typing import Any, Literal

import pydantic

from vllmd.worker.spec import Backend

Kind = Literal["auto", "cgroup", "session"]
"""How engines are contained: `auto` takes cgroups where they can be made."""

UseCase = Literal["production", "download", "debate", "latency", "throughput"]
"""The names of `planner.use_cases`."""

ForeignOrphans = Literal["kill", "report", "ignore"]


class Settings(pydantic.BaseModel):
    """The daemon's configuration."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    socket: pathlib.Path
    """The Unix socket that clients connect to."""
    runtime_dir: pathlib.Path
    """Holds the engines' directories; gone after a boot, as everything in it is."""
    cache_dir: pathlib.Path
    """Holds what vLLM compiles, which must outlast engines."""
    state_dir: pathlib.Path
    """Holds the journal, by which the next daemon takes over this one's engines, and what loads took."""
    listen: str | None = None
    """`HOST:PORT` on loopback to listen on as well."""
    socket_mode: int = pydantic.Field(default=0o600, ge=0, le=0o777)
    """Who may connect: the daemon's own user. A lease is all that is checked beyond that."""
    engine_python: pathlib.Path = pathlib.Path(sys.executable)
    """The interpreter that has vLLM."""
    backend: Backend = "vllm"
    simulate: str | None = None
    """GPUs to simulate, such as `2xRTX3090`; `None` for those that are there."""
    containment: Kind = "auto"
    allowed_engine_args: tuple[str, ...] = ()
    """Engine arguments that clients may set beyond those known to be harmless."""
    engine_args: dict[str, Any] = pydantic.Field(default_factory=dict)
    """Engine arguments of every engine, where clients leave them open; by vLLM's names."""
    use_case: UseCase | None = None
    """What models are loaded for where clients do not say; `None` for nothing in particular."""
    idle_timeout: float = pydantic.Field(default=0.0, ge=0)
    """Seconds that an engine without leases stays loaded. 0: its memory is given back at once."""
    lease_ttl: float = pydantic.Field(default=300.0, gt=0, le=86400)
    """Seconds that a lease lasts unused, unless its client says otherwise. Ollama's keep_alive, too."""
    load_timeout: float = pydantic.Field(default=3600.0, gt=0)
    """Seconds that a start may take: hundreds of GB from a slow disk take long."""
    stop_grace: float = pydantic.Field(default=10.0, ge=0)
    """Seconds that vLLM gets to end by itself; a clean shutdown takes 3 to 5."""
    reclaim_timeout: float = pydantic.Field(default=30.0, gt=0)
    """Seconds in which killed processes must be gone, and again their memory; 86 GiB take 1.7."""
    drain_timeout: float = pydantic.Field(default=30.0, ge=0)
    """Seconds that running generations may go on after SIGTERM."""
    adoption_timeout: float = pydantic.Field(default=120.0, gt=0)
    """Seconds that engines outlive a daemon that died."""
    engine_memory_max: pydantic.ByteSize | None = None
    """Main memory that an engine may use, with all its processes; `None` for as much as there is."""
    restart_limit: int = pydantic.Field(default=3, ge=0)
    """How often an engine that fails is started again within the window, before it is given up."""
    restart_window: float = pydantic.Field(default=600.0, gt=0)
    """Seconds in which restarts count: an engine that fails once a day is restarted for ever."""
    stall_timeout: float = pydantic.Field(default=120.0, gt=0)
    """Seconds that an engine with requests may go without a token, or without an answer to a ping, before it counts as
    hung. The longest prompts take tens of seconds before their first token."""
    watchdog_interval: float = pydantic.Field(default=1.0, ge=0.1, le=60)
    """Seconds between two looks at who holds GPU memory; a process that ends is looked at right away."""
    foreign_orphans: ForeignOrphans = "kill"
    """What is done with vLLM's processes whose own program is proven to be dead."""
    orphan_grace: float = pydantic.Field(default=10.0, ge=0)
    """Seconds that an orphan of another program must stay one: its program may be cleaning up."""
    log_limit_bytes: int = pydantic.Field(default=64 << 20, ge=1 << 16)
    """An engine's log is cut to half of this when it grows beyond it."""

    @pydantic.field_validator("simulate")
    @classmethod
    def _only_fake_engines_see_simulated_gpus(cls, value: str | None, info: pydantic.ValidationInfo) -> str | None:
        if value is not None and info.data.get("backend") == "vllm":
            raise ValueError("only the fake engine runs on simulated GPUs; it goes with --backend fake alone")
        return value


def default_runtime_dir(environment: Mapping[str, str] = os.environ) -> pathlib.Path:
    """Tell where sockets go: systemd's directory, the user's, or `/run/vllmd` for root."""
    if directory := environment.get("RUNTIME_DIRECTORY"):
        return pathlib.Path(directory.partition(":")[0])
    if directory := environment.get("XDG_RUNTIME_DIR"):
        return pathlib.Path(directory) / "vllmd"
    if os.geteuid() == 0:
        return pathlib.Path("/run/vllmd")
    return pathlib.Path(f"/tmp/vllmd-{os.geteuid()}")  # noqa: S108 - made with mode 0700 and checked to be ours


def default_cache_dir(environment: Mapping[str, str] = os.environ) -> pathlib.Path:
    """Tell where compiled kernels go: systemd's directory or the user's."""
    if directory := environment.get("CACHE_DIRECTORY"):
        return pathlib.Path(directory.partition(":")[0])
    home = environment.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return pathlib.Path(home) / "vllmd"


def default_state_dir(environment: Mapping[str, str] = os.environ) -> pathlib.Path:
    """Tell where the journal goes: systemd's directory, the user's, or `/var/lib/vllmd` for root."""
    if directory := environment.get("STATE_DIRECTORY"):
        return pathlib.Path(directory.partition(":")[0])
    if home := environment.get("XDG_STATE_HOME"):
        return pathlib.Path(home) / "vllmd"
    if os.geteuid() == 0:
        return pathlib.Path("/var/lib/vllmd")
    return pathlib.Path(os.path.expanduser("~")) / ".local/state/vllmd"
