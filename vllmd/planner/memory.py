"""What an engine takes of a GPU beside weights and KV cache.

Within `gpu_memory_utilization`, measured by vLLM at its start: the peak of a forward pass over `max_num_batched_tokens`
tokens, or of the sampler over `max_num_seqs` rows of logits, or of the first compilation, which copies what the graph
is given (the embedding, one layer's experts); and what CUDA and its libraries take. vLLM's older model runner, which
it has for most models of experts and for hybrids, sets something aside for CUDA graphs there as well. On top of it,
once it runs: CUDA graphs, the sampler's warm-up, and buffers of GPUs that reduce together.

The factors are fitted to what vLLM 0.25.1 measured on H100s (`tests/data/measured`): 20 loads of dense models, models
of experts and hybrids, of 1B to 30B parameters, on one GPU and two. They hold there to 0.3 GiB for dense models. For
experts, whose kernels each have workspaces of their own, they are up to 1 GiB too large, to be on the safe side.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

from vllmd.models.facts import ModelFacts
from vllmd.models.layers import Kind

OTHER_BYTES = 240 << 20
"""What CUDA and its libraries take beyond PyTorch's own: 225 to 245 MiB where it was measured."""
_COLLECTIVES_BYTES = 320 << 20
"""What NCCL takes beside on each of several GPUs."""

GUESS_BYTES = 3 << 30
"""All of it, for a model whose sizes are not known."""

_VALUE_BYTES = 2
_LOGIT_BYTES = 6
"""A logit in 16 bits, and its copy in 32."""
_SAMPLER_BYTES = 40 << 20
_HIDDEN_COPIES = 4
_HIDDEN_COPIES_WITH_EXPERTS = 8
_HIDDEN_COPIES_COMPILING = 2
_INNER_COPIES = 3
"""An MLP's gate and up-projection at once, and their product."""
_EXPERT_COPIES = 1.8
_CHANNEL_COPIES = 4

_NEWER_RUNNER = frozenset({"DeepseekV2ForCausalLM", "Qwen2MoeForCausalLM", "GraniteMoeForCausalLM"})
"""Models of experts that vLLM 0.25 runs by its newer runner, as it does all dense ones."""
_LAYER_GRAPH_SET_ASIDE_BYTES = 12 << 20

_LARGEST_GRAPH = 512
_LARGER_GRAPHS = {"GptOssForCausalLM": 1024}
"""By architecture, where vLLM captures larger ones."""
_LAYER_GRAPH_BYTES = 32 << 20
"""Of the graphs of all batch sizes up to the largest, for each layer: 9 to 32 MiB where it was measured."""
_WARM_LOGIT_BYTES = 8
_SHARED_BUFFER_BYTES = 2 << 30
"""Of several GPUs that reduce through NVLink's own memory, from Hopper on."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class GpuMemory:
    """What is on a GPU once an engine runs there, in bytes; of the one that has least left where they differ."""

    total: int
    weights: int
    kv_cache: int
    activation: int
    graphs: int
    """CUDA graphs and all else that comes on top of `gpu_memory_utilization`."""
    other: int
    held: int = 0
    """By others, the driver included."""

    @property
    def free(self) -> int:
        """What is left."""
        taken = self.weights + self.kv_cache + self.activation + self.graphs + self.other + self.held
        return self.total - taken


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """What decides how much is taken, apart from the model."""

    tokens: int
    """`max_num_batched_tokens`."""
    sequences: int
    """`max_num_seqs`."""
    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    data_parallel: int = 1
    """Replicas, which share experts out among them."""
    eager: bool = False
    largest_graph: int | None = None
    """The largest batch that has a graph; `None` for vLLM's choice."""
    capability: tuple[int, int] | None = None
    """CUDA's compute capability of the GPUs."""

    def graphs(self, facts: ModelFacts) -> float:
        """Tell how large the largest graph of a model is, as a multiple of the usual."""
        most = _LARGER_GRAPHS.get(facts.architecture or "", _LARGEST_GRAPH)
        largest = self.largest_graph or min(most, 2 * self.sequences)
        return 0.0 if self.eager else largest / _LARGEST_GRAPH


class Beside(NamedTuple):
    """What is taken within the share beside weights and KV cache, in bytes on each GPU."""

    activation: int
    other: int
    graphs: int
    """Set aside for CUDA graphs."""


def beside(facts: ModelFacts, sizes: Sizes) -> Beside:
    """Work out what is taken within the share."""
    peaks = (_forward_bytes(facts, sizes), _sampler_bytes(facts, sizes), _compiling_bytes(facts, sizes))
    known = [peak for peak in peaks if peak is not None]
    activation = max(known) if len(known) == len(peaks) else GUESS_BYTES
    other = OTHER_BYTES + (_COLLECTIVES_BYTES if sizes.tensor_parallel > 1 else 0)
    return Beside(activation, other, _set_aside(facts, sizes))


def beyond(facts: ModelFacts | None, sizes: Sizes) -> int:
    """Work out what comes on top of the share once the engine runs: at most, in bytes on each GPU."""
    several = sizes.tensor_parallel * sizes.pipeline_parallel > 1
    shared = _SHARED_BUFFER_BYTES if several and (sizes.capability or (0, 0)) >= (9, 0) else 0
    if facts is None or facts.layers is None or facts.vocabulary is None:
        return shared
    graphs = int(facts.layers * _LAYER_GRAPH_BYTES * sizes.graphs(facts)) - _set_aside(facts, sizes)
    warm = 0 if _runs_on_older(facts) else sizes.sequences * facts.vocabulary * _WARM_LOGIT_BYTES
    return max(0, graphs) + warm + shared


def _set_aside(facts: ModelFacts, sizes: Sizes) -> int:
    """Work out what vLLM's older runner sets aside for graphs within the share."""
    aside = int((facts.layers or 0) * _LAYER_GRAPH_SET_ASIDE_BYTES * sizes.graphs(facts))
    return aside if _runs_on_older(facts) else 0


def _runs_on_older(facts: ModelFacts) -> bool:
    experts = bool(facts.experts) and facts.architecture not in _NEWER_RUNNER
    return experts or bool(facts.counted[Kind.STATE]) or facts.runner == "pooling"


def _forward_bytes(facts: ModelFacts, sizes: Sizes) -> int | None:
    hidden, inner = facts.hidden_size, facts.intermediate_size
    if hidden is None or inner is None:
        return None
    if facts.experts is None or facts.experts_per_token is None:
        values = _INNER_COPIES * inner // sizes.tensor_parallel + _HIDDEN_COPIES * hidden
    else:
        each = _INNER_COPIES * (facts.expert_intermediate_size or inner) // sizes.tensor_parallel + hidden
        values = facts.experts_per_token * each + _HIDDEN_COPIES_WITH_EXPERTS * hidden
    return sizes.tokens * values * _VALUE_BYTES


def _sampler_bytes(facts: ModelFacts, sizes: Sizes) -> int | None:
    if facts.runner == "pooling":
        return 0
    if facts.vocabulary is None:
        return None
    gathered = _VALUE_BYTES if sizes.tensor_parallel > 1 else 0
    return sizes.sequences * facts.vocabulary * (_LOGIT_BYTES + gathered) + _SAMPLER_BYTES


def _compiling_bytes(facts: ModelFacts, sizes: Sizes) -> int | None:
    """Work out the peak of a first compilation: later ones are found in a cache, but no plan can count on that."""
    if sizes.eager:
        return 0
    if facts.hidden_size is None or facts.vocabulary is None:
        return None
    embedding = facts.vocabulary * facts.hidden_size * _VALUE_BYTES
    experts = 0.0
    if facts.parameters is not None and facts.parameters.experts and facts.layers:
        attending = sum(kind is not Kind.NONE for kind in facts.kinds or ()) or facts.layers
        experts = _EXPERT_COPIES * facts.parameters.experts / attending * _VALUE_BYTES / sizes.data_parallel
    passing = facts.hidden_size * _HIDDEN_COPIES_COMPILING
    passing += (facts.state_channels or 0) * _CHANNEL_COPIES // sizes.tensor_parallel
    return int((embedding + experts) / sizes.tensor_parallel) + sizes.tokens * passing * _VALUE_BYTES
