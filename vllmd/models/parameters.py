"""Counts a model's parameters from its configuration alone, by how an engine divides them among GPUs.

For what stands in no file yet, or in files without headers. Biases and norms are counted where they are of any weight.
What a layer consists of is public knowledge: the families' papers, and the modules of vLLM's `model_executor/models`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from vllmd.models import fields, mixers, quantization, rotary
from vllmd.models.fields import Config, boolean, inner, integer, integers, word
from vllmd.models.layers import Kind

_UNGATED = frozenset(
    {
        "opt", "gpt2", "gpt_neo", "gpt_neox", "gptj", "bloom", "mpt", "falcon", "phi", "starcoder2", "gpt_bigcode",
        "bert", "roberta", "xlm-roberta", "nemotron", "nemotron_h", "persimmon",
    }
)  # fmt: skip
"""Whose MLP has two matrices; that of all others has a third, which gates."""

_TIED = frozenset(
    {
        "opt", "gpt2", "bloom", "mpt", "falcon", "gemma", "gemma2", "gemma3", "gemma3_text", "cohere", "cohere2",
        "mamba", "mamba2", "bert", "roberta", "xlm-roberta", "gpt_bigcode",
    }
)  # fmt: skip
"""Who use the embedding as output layer where the configuration does not say."""

_ONE_MIXER_A_LAYER = frozenset({"nemotron_h", "mamba", "mamba2", "falcon_mamba"})
"""Whose layers are either mixer or MLP; those of all others are a mixer and an MLP."""

WITHOUT_HEAD = frozenset({"bert", "roberta", "xlm-roberta", "modernbert"})
"""Encoders, which have no output layer: they pool."""
_WITH_POSITIONS = frozenset({"opt", "gpt2", "gpt_bigcode", "bert", "roberta", "xlm-roberta"})


@dataclasses.dataclass(frozen=True, slots=True)
class Parameters:
    """How many parameters there are of each sort."""

    embedding: int = 0
    """Divided by vocabulary among tensor-parallel GPUs; never quantized."""
    head: int = 0
    """The output layer, divided likewise; 0 if it is the embedding."""
    linear: int = 0
    """Matrices that are divided among tensor-parallel GPUs."""
    key_value: int = 0
    """Matrices that make keys and values: divided among as many GPUs as there are heads of these."""
    experts: int = 0
    """Of all experts: divided by tensor or by expert parallelism."""
    replicated: int = 0
    """On each GPU in full: norms, routers, down-projections of MLA."""
    derived: int = 0
    """What vLLM makes of others after loading, and keeps unquantized: MLA's up-projections once more, where these are
    packed. (Where they are not it keeps views of them: DeepSeek-V2-Lite measured without.)"""
    rotary: int = 0
    """Values of tables for rotary embeddings, on each GPU in full: in no checkpoint, and never quantized."""
    vision: int = 0
    """What sees or hears; never quantized here."""

    @property
    def total(self) -> int:
        """All that stands in a checkpoint."""
        return self.quantizable + self.embedding + self.head + self.replicated + self.vision

    @property
    def quantizable(self) -> int:
        """What a quantized checkpoint has in few bits."""
        return self.linear + self.key_value + self.experts

    def __add__(self, other: Parameters) -> Parameters:
        names = (field.name for field in dataclasses.fields(self))
        return Parameters(**{name: getattr(self, name) + getattr(other, name) for name in names})


def is_tied(config: Config) -> bool:
    """Tell whether the embedding is the output layer as well."""
    text = fields.text(config)
    otherwise = word(text, "model_type") in _TIED
    return boolean(text, "tie_word_embeddings", boolean(config, "tie_word_embeddings", otherwise))


def count(config: Config, layers: Sequence[Kind], head_dim: int | None) -> Parameters | None:
    """Count the parameters of a model; `None` if its configuration lacks a size.

    Args:
        config: all of it.
        layers: what each layer keeps.
        head_dim: the size of an attention head; `None` if no layer attends.
    """
    text = fields.text(config)
    hidden, vocabulary = integer(text, *fields.HIDDEN), integer(text, "vocab_size")
    if hidden is None or vocabulary is None:
        return None
    attends = any(kind not in (Kind.STATE, Kind.NONE) for kind in layers)
    if attends and (head_dim is None or integer(text, *fields.HEADS) is None):
        return None
    width = integer(text, "word_embed_proj_dim") or hidden
    tied = is_tied(config) or word(text, "model_type") in WITHOUT_HEAD
    whole = Parameters(
        embedding=vocabulary * width,
        head=0 if tied else vocabulary * width,
        replicated=hidden + (_positions(text) * hidden) + (2 * width * hidden if width != hidden else 0),
        vision=_vision(config),
        rotary=rotary.table_values(text, head_dim or 0) if attends else 0,
    )
    dense = integers(text, "mlp_only_layers")
    for index, kind in enumerate(layers):
        whole += _layer(text, index, kind, hidden, head_dim or 0, dense)
    return whole if _is_packed(config) else dataclasses.replace(whole, derived=0)


def _is_packed(config: Config) -> bool:
    """Tell whether matrices of attention are packed."""
    packing = quantization.read(config)
    return packing is not None and not packing.experts_only


def _positions(text: Config) -> int:
    learned = word(text, "model_type") in _WITH_POSITIONS
    return integer(text, *fields.LENGTHS) or 0 if learned else 0


def _layer(text: Config, index: int, kind: Kind, hidden: int, head_dim: int, dense: frozenset[int]) -> Parameters:
    layer = Parameters(replicated=2 * hidden)
    if kind in (Kind.STATE, Kind.BOTH):
        layer += Parameters(linear=mixers.read(text, hidden).parameters)
    if kind not in (Kind.STATE, Kind.NONE):
        layer += _attention(text, hidden, head_dim)
    if kind is Kind.NONE or word(text, "model_type") not in _ONE_MIXER_A_LAYER:
        layer += _mlp(text, index, hidden, dense)
    return layer


def _attention(text: Config, hidden: int, head_dim: int) -> Parameters:
    heads = integer(text, *fields.HEADS) or 0
    if rank := integer(text, "kv_lora_rank"):
        return _latent_attention(text, hidden, heads, rank)
    kv_heads = 1 if is_multi_query(text) else integer(text, *fields.KV_HEADS) or heads
    gate = 2 if word(text, "model_type") == "qwen3_next" else 1
    return Parameters(linear=(1 + gate) * hidden * heads * head_dim, key_value=2 * hidden * kv_heads * head_dim)


def is_multi_query(text: Config) -> bool:
    """Tell whether all heads share one key and value, as in the first Falcon."""
    return boolean(text, "multi_query") and not boolean(text, "new_decoder_architecture")


def _latent_attention(text: Config, hidden: int, heads: int, rank: int) -> Parameters:
    rope, nope = integer(text, "qk_rope_head_dim") or 0, integer(text, "qk_nope_head_dim") or 0
    value = integer(text, "v_head_dim") or nope
    query_rank = integer(text, "q_lora_rank")
    query = heads * (nope + rope) * (query_rank or hidden)
    up = rank * heads * (nope + value)
    down = hidden * (rank + rope) + (hidden * query_rank if query_rank else 0)
    return Parameters(linear=query + up + heads * value * hidden, replicated=down, derived=up)


def _mlp(text: Config, index: int, hidden: int, dense: frozenset[int]) -> Parameters:
    matrices = 2 if word(text, "model_type") in _UNGATED else 3
    experts = integer(text, *fields.EXPERTS)
    size = integer(text, *fields.INNER) or 4 * hidden
    if experts is None or experts == 1 or not _is_sparse(text, index, dense):
        return Parameters(linear=matrices * hidden * size)
    each = integer(text, *fields.EXPERT_INNER) or size
    shared = integer(text, "shared_expert_intermediate_size", "shared_intermediate_size") or 0
    shared = shared or (integer(text, *fields.SHARED_EXPERTS) or 0) * each
    return Parameters(
        linear=matrices * hidden * shared,
        experts=experts * matrices * hidden * each,
        replicated=experts * hidden,
    )


def _is_sparse(text: Config, index: int, dense: frozenset[int]) -> bool:
    """Tell whether a layer's MLP is one of experts."""
    if index < (integer(text, "first_k_dense_replace", "num_dense_layers") or 0):
        return False
    if index in dense:
        return False
    if period := integer(text, "expert_layer_period"):  # Jamba
        return index % period == (integer(text, "expert_layer_offset", least=0) or 0)
    step = integer(text, "decoder_sparse_step", "moe_layer_freq", "interleave_moe_layer_step") or 1
    return (index + 1) % step == 0 or step == 1


def _vision(config: Config) -> int:
    """Count what sees, about: a vision transformer of the size that its configuration tells."""
    vision = inner(config, "vision_config")
    hidden = integer(vision, "hidden_size", "embed_dim", "width")
    depth = integer(vision, "num_hidden_layers", "depth", "layers")
    if hidden is None or depth is None:
        return 0
    size = integer(vision, "intermediate_size") or 4 * hidden
    matrices = 3 if word(vision, "hidden_act") == "silu" else 2
    patch = (integer(vision, "patch_size", "spatial_patch_size") or 14) ** 2 * 3
    patch *= integer(vision, "temporal_patch_size") or 1
    merged = hidden * (integer(vision, "spatial_merge_size") or 1) ** 2
    out = integer(vision, "out_hidden_size") or 0
    merger = merged * merged + merged * out if out else hidden * (integer(fields.text(config), *fields.HIDDEN) or 0)
    return depth * (4 * hidden * hidden + matrices * hidden * size) + patch * hidden + merger
