"""What an engine takes of a GPU beside weights and KV cache, while it runs: vLLM measures this at its start.

The peak is either in the forward pass over `max_num_batched_tokens` tokens or in the sampler over `max_num_seqs` rows
of logits, whichever is larger. The factors are fitted to what vLLM 0.25.1 measured on one H100 for dense models and
models of experts of 1B to 21B parameters (`tests/data/measured`), and hold there to 0.3 GiB, but for packed experts,
whose kernels take up to 1 GiB more.
"""

from __future__ import annotations

from vllmd.models.facts import ModelFacts

OTHER_BYTES = 240 << 20
"""What CUDA and its libraries take beyond PyTorch's own: 230 to 238 MiB where it was measured."""

GUESS_BYTES = 3 << 30
"""All of it, for a model whose sizes are not known."""

_VALUE_BYTES = 2
_LOGIT_BYTES = 8
"""Logits and their probabilities, in 32 bits each."""
_SAMPLER_BYTES = 40 << 20
_HIDDEN_COPIES = 4
_HIDDEN_COPIES_WITH_EXPERTS = 8
_INNER_COPIES = 3
"""An MLP's gate and up-projection at once, and their product."""


def beside(facts: ModelFacts, tokens: int, sequences: int, tensor_parallel: int = 1) -> int:
    """Work out what an engine takes beside weights and KV cache on each GPU, in bytes.

    Args:
        facts: the model.
        tokens: `max_num_batched_tokens`.
        sequences: `max_num_seqs`.
        tensor_parallel: among how many GPUs an MLP's inner values are divided.
    """
    forward, sampler = _forward_bytes(facts, tokens, tensor_parallel), _sampler_bytes(facts, sequences)
    return GUESS_BYTES if forward is None or sampler is None else max(forward, sampler) + OTHER_BYTES


def _forward_bytes(facts: ModelFacts, tokens: int, tensor_parallel: int) -> int | None:
    hidden, inner = facts.hidden_size, facts.intermediate_size
    if hidden is None or inner is None:
        return None
    if facts.experts is None or facts.experts_per_token is None:
        values = _INNER_COPIES * inner // tensor_parallel + _HIDDEN_COPIES * hidden
    else:
        each = _INNER_COPIES * (facts.expert_intermediate_size or inner) // tensor_parallel + hidden
        values = facts.experts_per_token * each + _HIDDEN_COPIES_WITH_EXPERTS * hidden
    return tokens * values * _VALUE_BYTES


def _sampler_bytes(facts: ModelFacts, sequences: int) -> int | None:
    if facts.runner == "pooling":
        return 0
    return None if facts.vocabulary is None else sequences * facts.vocabulary * _LOGIT_BYTES + _SAMPLER_BYTES
