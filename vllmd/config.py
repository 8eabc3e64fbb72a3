"""Every setting of the daemon: what it is for, its unit, its default and the reason for that.

This is the one place where a setting is described. What stands below it here is what `vllmd --help`, `vllmd config
show` and docs/configuration.md say of it. Where values come from is `vllmd.configuration`.
"""

from __future__ import annotations

import dataclasses
import pathlib
import sys
from typing import Annotated, Any, Literal

import pydantic

from vllmd.worker.spec import Backend

Kind = Literal["auto", "cgroup", "session"]
"""How engines are contained: `auto` takes cgroups where they can be made."""

UseCase = Literal["production", "download", "debate", "latency", "throughput"]
"""The names of `planner.use_cases`."""

ForeignOrphans = Literal["kill", "report", "ignore"]

LogLevel = Literal["debug", "info", "warning", "error"]


@dataclasses.dataclass(frozen=True, slots=True)
class Unit:
    """What a number counts, or names name."""

    name: str


Seconds = Annotated[float, Unit("seconds")]
Bytes = Annotated[pydantic.ByteSize, Unit("bytes")]
Mode = Annotated[int, Unit("octal")]
_Variable = Annotated[str, pydantic.StringConstraints(pattern=r"^[A-Za-z_*?][A-Za-z0-9_*?]*$")]
Variables = Annotated[tuple[_Variable, ...], Unit("variables")]

_MODEL = pydantic.ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class Rules(pydantic.BaseModel):
    """The settings that a reload changes while the daemon runs: each is read from `Live` where it is used."""

    model_config = _MODEL

    idle_timeout: Seconds = pydantic.Field(default=0.0, ge=0)
    """How long an engine without leases stays loaded; 0 stops it at once.

    By default nobody holds GPU memory that nobody has a lease on.
    """
    lease_ttl: Seconds = pydantic.Field(default=300.0, gt=0, le=86400)
    """How long a lease lasts unused, unless its client says otherwise.

    The default is that of Ollama's keep_alive.
    """
    load_timeout: Seconds = pydantic.Field(default=3600.0, gt=0)
    """How long the start of an engine may take.

    Hundreds of GB from a slow disk take long.
    """
    stop_grace: Seconds = pydantic.Field(default=10.0, ge=0)
    """How long vLLM may take to end by itself before it is killed.

    A clean shutdown takes 3 to 5 seconds.
    """
    reclaim_timeout: Seconds = pydantic.Field(default=30.0, gt=0)
    """How long killed processes, and then their memory, may take to be gone, before their GPUs go into quarantine.

    86 GiB take 1.7 seconds.
    """
    drain_timeout: Seconds = pydantic.Field(default=30.0, ge=0)
    """How long running generations may go on after SIGTERM.

    Longer than most generations, and shorter than an operator's patience.
    """
    adoption_timeout: Seconds = pydantic.Field(default=120.0, gt=0)
    """How long engines outlive a daemon that died, until they end themselves.

    Long enough for a restart by hand. It holds for engines that are started from then on.
    """
    restart_limit: int = pydantic.Field(default=3, ge=0)
    """How often a failing engine is started again within restart_window, before it is given up.

    What fails three times in ten minutes will fail again.
    """
    restart_window: Seconds = pydantic.Field(default=600.0, gt=0)
    """The time in which restart_limit counts.

    An engine that fails once a day is restarted for ever.
    """
    stall_timeout: Seconds = pydantic.Field(default=120.0, gt=0)
    """How long an engine with requests may make no token, or answer no ping, before it counts as hung.

    The longest prompts take tens of seconds before their first token.
    """
    watchdog_interval: Seconds = pydantic.Field(default=1.0, ge=0.1, le=60)
    """How often GPU processes are looked at.

    A look takes milliseconds. A process that ends is looked at right away, whatever this says.
    """
    foreign_orphans: ForeignOrphans = "kill"
    """What is done with vLLM processes of other programs that are proven to be dead.

    They hold their GPU memory for good, and nobody can reach them any more.
    """
    orphan_grace: Seconds = pydantic.Field(default=10.0, ge=0)
    """How long another program's orphan must stay one before it is killed.

    Whoever started it may be cleaning up.
    """
    log_limit_bytes: Bytes = pydantic.Field(default=pydantic.ByteSize(64 << 20), ge=1 << 16)
    """How long an engine's log may get; it is cut to half of this when it grows beyond.

    Enough to look back on a failure, and little beside a model.
    """
    log_level: LogLevel = "info"
    """What the daemon's own log tells.

    At info it is the story of the host: every decision, and nothing for each request.
    """
    use_case: UseCase | None = pydantic.Field(default=None, examples=["production"])
    """What models are loaded for where clients do not say.

    Nothing in particular by default: then no trade is made that nobody asked for.
    """
    allowed_engine_args: tuple[str, ...] = pydantic.Field(default=(), examples=[["trust_remote_code"]])
    """Engine arguments that clients may set although they could run code.

    None by default: whoever may connect could do whatever the daemon's user may. The last source counts alone.
    """
    pass_environment: Variables = pydantic.Field(default=(), examples=[["AWS_*", "PYTHONPATH"]])
    """Variables of the daemon's environment that engines get beyond the usual: names, or patterns such as "AWS_*".

    None by default: what vLLM, CUDA, NCCL, the hub and proxies go by they get anyway, and nobody else's secrets.
    """
    model_roots: tuple[pathlib.Path, ...] = pydantic.Field(default=(), examples=[["/srv/models"]])
    """Directories that models may be loaded from by a path, with all below them, after links; the hub's are not meant.

    None by default, which is all that the daemon can read: who shares it names them. The last source counts alone.
    """
    engine_args: dict[str, Any] = pydantic.Field(default_factory=dict, examples=[{"max_num_seqs": 64}])
    """Engine arguments of every engine, where clients leave them open; by vLLM's names.

    None by default: what is left open is planned. Sources add to each other here, argument by argument.
    """


class Settings(Rules):
    """The daemon's configuration: the `Rules`, and what holds from its start on."""

    socket: pathlib.Path
    """The Unix socket that clients connect to.

    Clients of the same user look for it there without being told.
    """
    socket_mode: Mode = pydantic.Field(default=0o600, ge=0, le=0o777)
    """Who may connect to that socket, as its mode in octal.

    The daemon's own user by default, and with socket_group that group, too. Who may connect may load and generate.
    """
    socket_group: str | None = pydantic.Field(default=None, examples=["vllmd"])
    """The group whose members may load and generate.

    None by default: on a host of one's own there is nobody to share with.
    """
    admin_group: str | None = pydantic.Field(default=None, examples=["vllmd-admin"])
    """The group whose members are operators: they may connect to admin.sock in runtime_dir.

    None by default: the daemon's own user is its only operator.
    """
    listen: str | None = pydantic.Field(default=None, examples=["127.0.0.1:8765"])
    """HOST:PORT to listen on as well: on loopback, or anywhere with TLS and a way to tell who connects.

    Nothing by default: any user of the host could connect. Who comes by it is a user, and no operator.
    """
    tls_certificate: pathlib.Path | None = pydantic.Field(default=None, examples=["/etc/vllmd/tls.crt"])
    """The certificate, with those that it was issued by, for TLS on listen.

    None by default: loopback needs none. A new file counts for the next connection.
    """
    tls_key: pathlib.Path | None = pydantic.Field(default=None, examples=["/etc/vllmd/tls.key"])
    """The key of tls_certificate, without a passphrase.

    None by default, as there is no certificate.
    """
    tls_client_ca: pathlib.Path | None = pydantic.Field(default=None, examples=["/etc/vllmd/clients.crt"])
    """By whom the certificates of clients must be issued; who has none can't connect to listen.

    None by default: then clients are not asked for one.
    """
    token_file: pathlib.Path | None = pydantic.Field(default=None, examples=["/etc/vllmd/tokens.toml"])
    """The tokens that calls over listen must bring, hashed; `vllmd token new NAME` makes one.

    None by default: then no call needs one, nor can it be an operator's. A new file counts for the next call.
    """
    runtime_dir: pathlib.Path
    """Where sockets and the engines' directories go.

    It is gone after a boot, as everything in it is.
    """
    state_dir: pathlib.Path
    """Where the journal is kept, by which the next daemon takes over engines, and what loads took.

    It outlasts a boot.
    """
    cache_dir: pathlib.Path
    """Where what vLLM compiles is kept.

    It outlasts engines: without it the load of an 8B model took 12 seconds longer.
    """
    engine_python: pathlib.Path = pathlib.Path(sys.executable)
    """The interpreter that has vLLM.

    One environment for both is the simplest; with two, neither's packages are in the way of the other's.
    """
    backend: Backend = "vllm"
    """What engines are: vllm, or fake for processes without a model, to try vllmd without vLLM.

    fake is implied by simulate.
    """
    simulate: str | None = pydantic.Field(default=None, examples=["2xRTX3090"])
    """GPUs to simulate, such as 2xRTX3090+nvlink or 1xH200,1xRTX4090, with fake engines.

    The host's own GPUs are used by default.
    """
    containment: Kind = "auto"
    """What holds an engine's processes together: a cgroup of their own, or a session.

    auto takes a cgroup where one can be made: only its processes can't get out of it.
    """
    engine_memory_max: Bytes | None = pydantic.Field(default=None, examples=["64GiB"])
    """Main memory that an engine may use, with all its processes; needs the memory controller of cgroups.

    As much as there is by default: what a model needs is not known, and the kernel ends who takes too much.
    """

    @pydantic.field_validator("simulate")
    @classmethod
    def _only_fake_engines_see_simulated_gpus(cls, value: str | None, info: pydantic.ValidationInfo) -> str | None:
        if value is not None and info.data.get("backend") == "vllm":
            raise ValueError("only the fake engine runs on simulated GPUs; it goes with --backend fake alone")
        return value


class Live:
    """The rules in force: who needs one reads it here at that moment, and a reload replaces them all at once."""

    def __init__(self, rules: Rules | None = None) -> None:
        self.rules = rules or Rules()
