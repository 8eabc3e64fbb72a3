"""A Llama of 600 kB with random weights, made on the spot: real vLLM loads and runs it without a GPU.

Run it under an environment that has vLLM (it needs numpy, safetensors and tokenizers): `python tiny_model.py OUT`.
The same files come out each time, so that two engines can be compared token for token. What it says is noise.
"""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
from typing import Any

LAYERS = 2
HIDDEN = 64
HEADS = 2
KV_HEADS = 1
HEAD_DIM = 32  # the smallest that vLLM's attention on CPU takes
INTERMEDIATE = 128
VOCABULARY = 512
POSITIONS = 2048
SEED = 20240229
SPECIAL = ("<pad>", "<s>", "</s>", "<|user|>", "<|assistant|>", "<|system|>")

CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% if message['role'] not in ['system', 'user', 'assistant'] %}"
    "{{ raise_exception('no such role: ' + message['role']) }}"
    "{% endif %}"
    "<|{{ message['role'] }}|>{{ message['content'] }}{{ eos_token }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

TEXT = (
    "The daemon owns every engine on its host and knows which process holds which memory.",
    "When a worker dies, the kernel ends the core that it started, and the memory comes back.",
    "A client asks for a model, reads tokens from a stream, and gives the model back when it is done.",
    "for token in range(10): print(token, end=' ')  # 0 1 2 3 4 5 6 7 8 9 [] {} () <> +-*/=",
    "Nothing may stay behind: no process, no socket, no file, and not one segment of shared memory.",
    "Prompts of many streams travel together, step after step, as long as somebody listens.",
    "Wie viel Speicher ist frei? Combien de mémoire reste-t-il ? ¿Cuánta memoria queda?",
)


def make(out: pathlib.Path, chat_template: str | None = CHAT_TEMPLATE) -> None:
    """Write the model into the directory *out*, which is made if need be."""
    out.mkdir(parents=True, exist_ok=True)
    _write_tokenizer(out, chat_template)
    _write_weights(out)
    eos = SPECIAL.index("</s>")
    bos = SPECIAL.index("<s>")
    _write_json(
        out / "config.json",
        {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "torch_dtype": "float32",
            "vocab_size": VOCABULARY,
            "hidden_size": HIDDEN,
            "intermediate_size": INTERMEDIATE,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
            "num_key_value_heads": KV_HEADS,
            "head_dim": HEAD_DIM,
            "max_position_embeddings": POSITIONS,
            "hidden_act": "silu",
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "tie_word_embeddings": False,
            "attention_bias": False,
            "mlp_bias": False,
            "bos_token_id": bos,
            "eos_token_id": eos,
        },
    )
    _write_json(out / "generation_config.json", {"bos_token_id": bos, "eos_token_id": eos})


def make_with(python: str, out: pathlib.Path) -> None:
    """Write the model with another interpreter, one that has what this needs.

    Raises:
        subprocess.CalledProcessError: it could not.
    """
    subprocess.run([python, __file__, out], check=True, stdout=subprocess.DEVNULL)


def _write_tokenizer(out: pathlib.Path, chat_template: str | None) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    # Bytes come first, so any text has tokens.
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT * 4, trainer)
    tokenizer.save(str(out / "tokenizer.json"))
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": POSITIONS,
        "clean_up_tokenization_spaces": False,
        "bos_token": "<s>",
        "eos_token": "</s>",
        "pad_token": "<pad>",
    }
    if chat_template is not None:
        config["chat_template"] = chat_template
    _write_json(out / "tokenizer_config.json", config)


def _write_weights(out: pathlib.Path) -> None:
    import numpy
    from safetensors.numpy import save_file

    random = numpy.random.default_rng(SEED)

    def matrix(rows: int, columns: int) -> Any:
        # Large enough that the likeliest token wins clearly: greedy output must not hang on rounding.
        return (random.standard_normal((rows, columns)) / columns**0.5).astype(numpy.float32)

    ones = numpy.ones(HIDDEN, numpy.float32)
    tensors = {"model.embed_tokens.weight": matrix(VOCABULARY, HIDDEN)}
    for layer in (f"model.layers.{index}" for index in range(LAYERS)):
        tensors |= {
            f"{layer}.input_layernorm.weight": ones,
            f"{layer}.self_attn.q_proj.weight": matrix(HEADS * HEAD_DIM, HIDDEN),
            f"{layer}.self_attn.k_proj.weight": matrix(KV_HEADS * HEAD_DIM, HIDDEN),
            f"{layer}.self_attn.v_proj.weight": matrix(KV_HEADS * HEAD_DIM, HIDDEN),
            f"{layer}.self_attn.o_proj.weight": matrix(HIDDEN, HEADS * HEAD_DIM),
            f"{layer}.post_attention_layernorm.weight": ones,
            f"{layer}.mlp.gate_proj.weight": matrix(INTERMEDIATE, HIDDEN),
            f"{layer}.mlp.up_proj.weight": matrix(INTERMEDIATE, HIDDEN),
            f"{layer}.mlp.down_proj.weight": matrix(HIDDEN, INTERMEDIATE),
        }
    tensors |= {"model.norm.weight": ones, "lm_head.weight": matrix(VOCABULARY, HIDDEN)}
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})


def _write_json(path: pathlib.Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    make(pathlib.Path(sys.argv[1]))
