"""A LoRA adapter of some kB for the tiny model, with random weights, so large that the model says something else.

Run it under an environment that has numpy and safetensors: `python tiny_adapter.py OUT [SEED [RANK]]`.
"""

from __future__ import annotations

import importlib.util
import json
import pathlib
import subprocess
import sys
from typing import Any

RANK = 4
SEED = 20240301


def make(out: pathlib.Path, seed: int = SEED, rank: int = RANK) -> None:
    """Write the adapter into the directory *out*, which is made if need be."""
    import numpy
    from safetensors.numpy import save_file

    tiny = _tiny_model()
    random = numpy.random.default_rng(seed)
    heads, kv = tiny.HEADS * tiny.HEAD_DIM, tiny.KV_HEADS * tiny.HEAD_DIM
    shapes = {"q_proj": (heads, tiny.HIDDEN), "v_proj": (kv, tiny.HIDDEN), "o_proj": (tiny.HIDDEN, heads)}
    tensors = {}
    for layer in range(tiny.LAYERS):
        for name, (outputs, inputs) in shapes.items():
            prefix = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            tensors[f"{prefix}.lora_A.weight"] = random.standard_normal((rank, inputs)).astype(numpy.float32)
            tensors[f"{prefix}.lora_B.weight"] = random.standard_normal((outputs, rank)).astype(numpy.float32)
    out.mkdir(parents=True, exist_ok=True)
    save_file(tensors, out / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": sorted(shapes), "bias": "none"}
    (out / "adapter_config.json").write_text(json.dumps(config) + "\n")


def make_with(python: str, out: pathlib.Path, seed: int = SEED, rank: int = RANK) -> None:
    """Write the adapter with another interpreter, one that has what this needs.

    Raises:
        subprocess.CalledProcessError: it could not.
    """
    subprocess.run([python, __file__, out, str(seed), str(rank)], check=True, stdout=subprocess.DEVNULL)


def _tiny_model() -> Any:
    """Import the model's sizes from the file beside this one, which may run where no package of tests is."""
    spec = importlib.util.spec_from_file_location("tiny_model", pathlib.Path(__file__).with_name("tiny_model.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    make(pathlib.Path(sys.argv[1]), *map(int, sys.argv[2:]))
