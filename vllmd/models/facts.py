"""What a model's `config.json` says that a plan needs. Unknown is `None`."""

from __future__ import annotations

import dataclasses
from collections import Counter

from vllmd.models import fields, layers, lengths, mixers, parameters, quantization
from vllmd.models.fields import Config, inner, integer, word, words
from vllmd.models.layers import Kind
from vllmd.models.lengths import Beside, Runner
from vllmd.models.parameters import Parameters
from vllmd.models.quantization import Quantization

_DTYPE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "half": 2, "float": 4, "float8_e4m3fn": 1}
_SSM_DTYPES = ("mamba_ssm_cache_dtype", "mamba_ssm_dtype")
_MM = ("vision_config", "audio_config", "thinker_config", "vision_tower_config", "speech_config")
_POOLING = ("ForSequenceClassification", "ForMaskedLM", "ForTokenClassification", "RewardModel", "EmbeddingModel")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """A model, as far as it is known."""

    architecture: str | None = None
    """The class that vLLM looks up, such as `LlamaForCausalLM`."""
    runner: Runner = "generate"
    multimodal: bool = False
    attention_heads: int | None = None
    kv_heads: int | None = None
    head_dim: int | None = None
    hidden_size: int | None = None
    intermediate_size: int | None = None
    """Of a dense layer's MLP."""
    expert_intermediate_size: int | None = None
    vocabulary: int | None = None
    kinds: tuple[Kind, ...] | None = None
    """What each layer keeps, from the first to the last."""
    window: int | None = None
    """How many tokens a sliding layer looks back on."""
    chunk: int | None = None
    """How many tokens a chunked layer attends to at most."""
    latent_dim: int | None = None
    """What MLA keeps of a token in place of keys and values, in values; not divided among GPUs."""
    state_bytes: int | None = None
    """What a layer with a state keeps of one sequence, on all GPUs together; `None` without such layers."""
    state_channels: int | None = None
    """What goes through such a layer's convolution of each token, in values over all GPUs."""
    experts: int | None = None
    experts_per_token: int | None = None
    max_model_len: int | None = None
    """The longest context that the model says it was made for, in tokens."""
    dtype: str | None = None
    quantization: Quantization | None = None
    parameters: Parameters | None = None
    """Counted from the configuration."""
    weight_bytes: int | None = None
    """Size of the weights in the files, as loaded."""
    bytes_by_dtype: tuple[tuple[str, int], ...] = ()
    """What the files hold of each type, by safetensors' names (`BF16`), the most first; nothing if not known."""
    weights_note: str = ""
    """What is wrong or missing with the weight files, in a phrase; empty if nothing is."""
    fingerprint: str = ""
    """Of what the facts were read from: the same for the same model, however it is called. Empty if unknown."""

    @property
    def layers(self) -> int | None:
        """How many layers there are."""
        return None if self.kinds is None else len(self.kinds)

    @property
    def counted(self) -> Counter[Kind]:
        """How many layers keep what; those with both count as each."""
        return layers.count(self.kinds or ())

    @property
    def kv_bytes_per_token(self) -> int | None:
        """KV cache of one more token over all layers and GPUs, at 2 bytes a value.

        Of the layers that keep every token: what the others keep does not grow with the context.
        """
        if self.kinds is None:
            return None
        full = self.counted[Kind.FULL]
        if not full:
            return 0
        if self.latent_dim is not None:
            return full * self.latent_dim * 2
        if self.kv_heads is None or self.head_dim is None:
            return None
        return full * self.kv_heads * self.head_dim * 2 * 2


def read(config: Config, weight_bytes: int | None = None, beside: Beside | None = None) -> ModelFacts:
    """Read the facts from a parsed `config.json`; nested text configurations are looked into.

    Args:
        config: all of it.
        weight_bytes: size of the weight files.
        beside: what lies beside it, if anything.
    """
    beside = beside or Beside()
    text = fields.text(config)
    runner: Runner = "pooling" if beside.pools else _runner(config, text)
    heads, hidden = integer(text, *fields.HEADS), integer(text, *fields.HIDDEN)
    head_dim = integer(text, "head_dim", "hidden_size_per_head")
    if head_dim is None and heads and hidden:
        head_dim = hidden // heads or None
    kinds = layers.kinds(text)
    rank = integer(text, "kv_lora_rank")
    mixes = hidden is not None and {Kind.STATE, Kind.BOTH} & set(kinds or ())
    mixer = mixers.read(text, hidden) if mixes and hidden is not None else None
    return ModelFacts(
        architecture=next(iter(words(config, "architectures")), None),
        runner=runner,
        multimodal=any(inner(config, name) for name in _MM),
        attention_heads=heads,
        kv_heads=1 if parameters.is_multi_query(text) else integer(text, *fields.KV_HEADS) or heads,
        head_dim=head_dim,
        hidden_size=hidden,
        intermediate_size=integer(text, *fields.INNER) or (4 * hidden if hidden else None),
        expert_intermediate_size=integer(text, *fields.EXPERT_INNER),
        vocabulary=integer(text, "vocab_size"),
        kinds=kinds,
        window=layers.window(text),
        chunk=integer(text, "attention_chunk_size"),
        latent_dim=rank + (integer(text, "qk_rope_head_dim") or 0) if rank else None,
        state_bytes=None if mixer is None else mixer.bytes_of_sequence(_state_value(text)),
        state_channels=None if mixer is None else mixer.convolved,
        experts=integer(text, *fields.EXPERTS),
        experts_per_token=integer(text, *fields.EXPERTS_PER_TOKEN),
        max_model_len=lengths.derive(config, text, runner, beside),
        dtype=_dtype(config, text),
        quantization=quantization.read(config),
        parameters=parameters.count(config, kinds, head_dim) if kinds is not None else None,
        weight_bytes=weight_bytes,
    )


def dtype_bytes(dtype: str | None) -> int:
    """Tell what a weight takes that is not packed: vLLM loads float32 as 16 bits where it is to choose."""
    return min(2, _DTYPE_BYTES.get(dtype or "", 2))


def _runner(config: Config, text: Config) -> Runner:
    names = words(config, "architectures")
    pools = any(name.endswith(_POOLING) for name in names) or word(text, "model_type") in parameters.WITHOUT_HEAD
    # A decoder without an output layer, such as `Qwen2Model`.
    bare = bool(names) and all(name.endswith("Model") for name in names)
    return "pooling" if pools or bare else "generate"


def _state_value(text: Config) -> int:
    """Tell how many bytes a value of a mixer's state has."""
    return _DTYPE_BYTES.get(word(text, *_SSM_DTYPES) or "", 2)


def _dtype(*configs: Config) -> str | None:
    for config in configs:
        found = word(config, "dtype", "torch_dtype")
        if found is not None:
            return found.removeprefix("torch.")
    return None
