"""One load of real vLLM, and what it measured: `measured.py MODEL ENGINE_ARGS_JSON`.

Run under the interpreter that has vLLM. Prints one line, `MEASURED {…}`: bytes by the names that vLLM's own worker has
for them. Weights are random, and no tokenizer is needed.
"""

import contextlib
import importlib
import json
import logging
import os
import sys
import threading
import time
from typing import Any

_NAMES = {
    "non_torch_memory": "non_torch_bytes",
    "peak_activation_memory": "activation_bytes",
    "cudagraph_memory_estimate": "graphs_estimated_bytes",
    "available_kv_cache_memory_bytes": "kv_cache_bytes",
    "requested_memory": "requested_bytes",
}


def of_worker(worker):  # type: ignore[no-untyped-def]
    """Read what a worker of vLLM's has measured; runs in its process."""
    import torch

    found = {ours: getattr(worker, theirs, None) for theirs, ours in _NAMES.items()}
    found["weights_bytes"] = getattr(worker.model_runner, "model_memory_usage", None)
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        found |= {"device_used_bytes": total - free, "device_total_bytes": total}
    return {name: None if value is None else int(value) for name, value in found.items()}


class Watch:
    """What NVML sees in use on the GPUs of `CUDA_VISIBLE_DEVICES`: at first, and at most; the fullest counts."""

    def __init__(self) -> None:
        pynvml: Any = importlib.import_module("pynvml")
        pynvml.nvmlInit()
        numbers = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")
        handles = [pynvml.nvmlDeviceGetHandleByIndex(int(number)) for number in numbers]
        self._nvml, self._handles = pynvml, handles
        self.before = self.peak = self._look()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _look(self) -> int:
        return max(int(self._nvml.nvmlDeviceGetMemoryInfo(handle).used) for handle in self._handles)

    def _watch(self) -> None:
        while not self._done.wait(0.1):
            self.peak = max(self.peak, self._look())

    def end(self) -> dict[str, int]:
        """Stop, and say what was seen."""
        self._done.set()
        self._thread.join()
        return {"nvml_before_bytes": self.before, "nvml_peak_bytes": max(self.peak, self._look())}


def main(model: str, arguments: dict) -> None:  # type: ignore[type-arg]
    """Load, and print."""
    os.environ["VLLM_ALLOW_INSECURE_SERIALIZATION"] = "1"  # for the function above, which goes to the worker
    import vllm
    from vllm import LLM

    watch = None
    with contextlib.suppress(Exception):  # a host without a GPU has no NVML
        watch = Watch()
    begun = time.monotonic()
    llm = LLM(model=model, **({"load_format": "dummy", "skip_tokenizer_init": True} | arguments))
    seconds = time.monotonic() - begun
    each = llm.collective_rpc(of_worker)
    found = {name: max((one[name] or 0 for one in each), default=0) for name in each[0]}
    found["kv_cache_bytes"] = min((one["kv_cache_bytes"] or 0 for one in each), default=0)
    found |= watch.end() if watch else {}
    config = llm.llm_engine.vllm_config
    cache, scheduler = config.cache_config, config.scheduler_config
    found |= {
        "seconds": round(seconds, 1),
        "vllm_version": vllm.__version__,
        "max_model_len": config.model_config.max_model_len,
        "max_num_seqs": scheduler.max_num_seqs,
        "max_num_batched_tokens": scheduler.max_num_batched_tokens,
        "prefix_caching": cache.enable_prefix_caching,
        "mamba_cache_mode": getattr(cache, "mamba_cache_mode", None),
        "block_size": cache.block_size,
        "num_gpu_blocks": cache.num_gpu_blocks,
        "kv_cache_tokens": getattr(cache, "kv_cache_size_tokens", None),
        "kv_cache_dtype": str(cache.cache_dtype),
        "dtype": str(config.model_config.dtype),
        "largest_graph": getattr(config.compilation_config, "max_cudagraph_capture_size", None),
    }
    sys.stdout.write(f"MEASURED {json.dumps(found)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    logging.captureWarnings(True)
    main(sys.argv[1], json.loads(sys.argv[2]))
