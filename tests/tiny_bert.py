"""A BERT of 200 kB with random weights, made on the spot: real vLLM makes vectors with it, without a GPU.

Run it under an environment that has vLLM (it needs numpy, safetensors and tokenizers): `python tiny_bert.py OUT`.
The same files come out each time. Its vectors mean nothing, but are a function of the text.
"""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
from typing import Any

LAYERS = 2
HIDDEN = 64
HEADS = 2  # of 32, the smallest that vLLM's attention on CPU takes
INTERMEDIATE = 128
POSITIONS = 128
SEED = 20240301
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,:;!?'()"
WORDS = (
    "the",
    "daemon",
    "owns",
    "every",
    "engine",
    "on",
    "its",
    "host",
    "hello",
    "brown",
    "fox",
    "memory",
    "is",
    "free",
)

VOCABULARY = (*SPECIAL, *WORDS, *LETTERS, *(f"##{letter}" for letter in LETTERS))
"""Words, and letters for all others."""


def make(out: pathlib.Path) -> None:
    """Write the model into the directory *out*, which is made if need be."""
    out.mkdir(parents=True, exist_ok=True)
    _write_tokenizer(out)
    _write_weights(out)
    _write_json(
        out / "config.json",
        {
            "architectures": ["BertModel"],
            "model_type": "bert",
            "torch_dtype": "float32",
            "vocab_size": len(VOCABULARY),
            "hidden_size": HIDDEN,
            "intermediate_size": INTERMEDIATE,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
            "max_position_embeddings": POSITIONS,
            "type_vocab_size": 2,
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-12,
            "position_embedding_type": "absolute",
            "pad_token_id": 0,
        },
    )


def make_with(python: str, out: pathlib.Path) -> None:
    """Write the model with another interpreter, one that has what this needs.

    Raises:
        subprocess.CalledProcessError: it could not.
    """
    subprocess.run([python, __file__, out], check=True, stdout=subprocess.DEVNULL)


def _write_tokenizer(out: pathlib.Path) -> None:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    numbers = {token: number for number, token in enumerate(VOCABULARY)}
    tokenizer = Tokenizer(models.WordPiece(numbers, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    ends = [("[CLS]", numbers["[CLS]"]), ("[SEP]", numbers["[SEP]"])]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.save(str(out / "tokenizer.json"))
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": POSITIONS,
        "unk_token": "[UNK]",
        "pad_token": "[PAD]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    }
    _write_json(out / "tokenizer_config.json", config)


def _write_weights(out: pathlib.Path) -> None:
    import numpy
    from safetensors.numpy import save_file

    random = numpy.random.default_rng(SEED)
    tensors: dict[str, Any] = {}

    def matrix(name: str, rows: int, columns: int) -> None:
        tensors[f"{name}.weight"] = (random.standard_normal((rows, columns)) / columns**0.5).astype(numpy.float32)

    def linear(name: str, rows: int, columns: int) -> None:
        matrix(name, rows, columns)
        tensors[f"{name}.bias"] = (random.standard_normal(rows) / 10).astype(numpy.float32)

    def norm(name: str) -> None:
        tensors[f"{name}.weight"] = numpy.ones(HIDDEN, numpy.float32)
        tensors[f"{name}.bias"] = numpy.zeros(HIDDEN, numpy.float32)

    matrix("embeddings.word_embeddings", len(VOCABULARY), HIDDEN)
    matrix("embeddings.position_embeddings", POSITIONS, HIDDEN)
    matrix("embeddings.token_type_embeddings", 2, HIDDEN)
    norm("embeddings.LayerNorm")
    for layer in (f"encoder.layer.{index}" for index in range(LAYERS)):
        for part in ("query", "key", "value"):
            linear(f"{layer}.attention.self.{part}", HIDDEN, HIDDEN)
        linear(f"{layer}.attention.output.dense", HIDDEN, HIDDEN)
        norm(f"{layer}.attention.output.LayerNorm")
        linear(f"{layer}.intermediate.dense", INTERMEDIATE, HIDDEN)
        linear(f"{layer}.output.dense", HIDDEN, INTERMEDIATE)
        norm(f"{layer}.output.LayerNorm")
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})


def _write_json(path: pathlib.Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    make(pathlib.Path(sys.argv[1]))
