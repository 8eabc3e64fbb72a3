"""What the processes of an engine are told by their environment."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping, Sequence

from vllmd.environment import passed_on
from vllmd.worker import plugin
from vllmd.worker.spec import ENGINE_DIR_VARIABLE, ENGINE_ID_VARIABLE, SITE, TMP


def engine_environment(
    engine_id: str,
    directory: pathlib.Path,
    cache: pathlib.Path,
    gpus: tuple[str, ...],
    load_timeout: float,
    inherited: Mapping[str, str],
    pass_environment: Sequence[str] = (),
) -> dict[str, str]:
    """Work out the environment of an engine's processes: what they get of the daemon's, and what they need to be told.

    Args:
        engine_id: our marker.
        directory: the engine's own.
        cache: where what must outlast the engine goes; a variable that is set already is left alone.
        gpus: UUIDs of the GPUs that it may see; none for an engine on the CPU.
        load_timeout: seconds that a start may take.
        inherited: the daemon's environment.
        pass_environment: names and patterns of what they get of it beyond the usual.
    """
    kept = passed_on(inherited, pass_environment)
    lasting = {
        "VLLM_CACHE_ROOT": str(cache / "vllm"),
        "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"),
        "TRITON_CACHE_DIR": str(cache / "triton"),
        "VLLM_NO_USAGE_STATS": "1",
    }
    own = {
        ENGINE_ID_VARIABLE: engine_id,
        ENGINE_DIR_VARIABLE: str(directory),
        # Without it vLLM's setproctitle overwrites the environment, our marker included.
        "SPT_NOENV": "1",
        "TMPDIR": str(directory / TMP),
        "VLLM_RPC_BASE_PATH": str(directory / TMP),
        "VLLM_ENGINE_READY_TIMEOUT_S": str(int(load_timeout)),
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(directory / SITE), kept.get("PYTHONPATH")])),
        "PYTHONUNBUFFERED": "1",
    }
    if "VLLM_PLUGINS" in kept:  # a list of those that are allowed: ours has to be among them
        own["VLLM_PLUGINS"] = ",".join(filter(None, [kept["VLLM_PLUGINS"], plugin.ENTRY_POINT]))
    if gpus:
        own["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
    return lasting | kept | own
