"""How vLLM lays its KV cache out on one GPU, and so how much context fits into how many bytes.

The cache is one pool of equal blocks. Layers that keep the same are put into groups of as many layers as the rarest
kind has, and a block holds some tokens of one group; a request takes blocks for each group. So a model whose layers
keep different things pays for the padding of the last group of each kind, and one with states for blocks that are as
long as a state is large. Rules: vLLM's `v1/core/kv_cache_utils.py` (`_get_kv_cache_groups_uniform_page_size`,
`get_max_concurrency_for_kv_cache_config`) and `platforms/interface.py` (`_align_hybrid_block_size`), 0.25.
"""

from __future__ import annotations

import dataclasses

from vllmd.models.facts import ModelFacts
from vllmd.models.layers import Kind
from vllmd.planner.choice import parts

BLOCK_TOKENS = 16
"""vLLM's usual block."""

_PADDED_BELOW = 1.5
"""Where the kinds have about as many layers each, the smaller group is padded instead of the larger one split."""


@dataclasses.dataclass(frozen=True, slots=True)
class Layout:
    """The cache on one GPU."""

    block_tokens: int
    page_bytes: int
    """One block of one layer."""
    group_layers: int
    """How many layers a group has; a block of the pool has a page for each."""
    groups: tuple[tuple[Kind, int], ...]
    """How many groups there are of each kind."""
    window: int
    """Tokens that a sliding layer looks back on, and that a chunked one has in a chunk; 0 without such layers."""
    in_flight: int
    """Tokens of one request that may be on their way at once: `max_num_batched_tokens`."""
    state_blocks: int
    """Blocks of one request for each group of states: 2 with prefix caching, else 1."""

    @property
    def block_bytes(self) -> int:
        """What a block of the pool takes."""
        return self.page_bytes * self.group_layers

    def blocks_of(self, tokens: int) -> int:
        """Count the blocks that a request of so many tokens takes at most."""
        return sum(count * self._blocks(kind, tokens) for kind, count in self.groups)

    def bytes_of(self, tokens: int) -> int:
        """Work out what a request of so many tokens takes at most."""
        return self.blocks_of(tokens) * self.block_bytes

    def capacity(self, pool_bytes: int, max_model_len: int) -> int:
        """Count the tokens that vLLM calls "GPU KV cache size": as many requests of the longest context as fit."""
        blocks = self.blocks_of(max_model_len)
        return (pool_bytes // self.block_bytes) * max_model_len // blocks if blocks else 0

    def longest(self, pool_bytes: int, at_most: int) -> int:
        """Find the longest context of which one request fits; 0 if none does."""
        least, most = 0, at_most
        while least < most:
            middle = (least + most + 1) // 2
            if self.bytes_of(middle) <= pool_bytes - self.block_bytes:  # one block stands for nothing
                least = middle
            else:
                most = middle - 1
        return least

    def _blocks(self, kind: Kind, tokens: int) -> int:
        match kind:
            case Kind.STATE:
                return self.state_blocks
            case Kind.SLIDING:
                # The window may begin in the middle of a block.
                return parts(min(self.window - 1 + self.in_flight, tokens), self.block_tokens) + 1
            case Kind.CHUNKED:
                return parts(min(self.window + self.in_flight, tokens), self.block_tokens)
            case _:
                return parts(tokens, self.block_tokens)


def lay_out(
    facts: ModelFacts,
    *,
    in_flight: int,
    value_bytes: float = 2,
    tensor_parallel: int = 1,
    pipeline_parallel: int = 1,
    prefix_caching: bool = True,
) -> Layout | None:
    """Lay the cache out; `None` if the model's facts do not suffice.

    Args:
        facts: the model.
        in_flight: `max_num_batched_tokens`.
        value_bytes: of a key's or value's element, by `kv_cache_dtype`.
        tensor_parallel: among how many GPUs heads are divided; with fewer heads of keys and values each is copied.
        pipeline_parallel: among how many GPUs layers are divided; the fullest one counts.
        prefix_caching: whether states of prefixes are kept as well.
    """
    if facts.kinds is None:
        return None
    counts = {kind: parts(count, pipeline_parallel) for kind, count in facts.counted.items() if _keeps(kind, count)}
    token_bytes = _token_bytes(facts, tensor_parallel, value_bytes)
    attends = any(kind is not Kind.STATE for kind in counts)
    if (attends and not token_bytes) or (Kind.STATE in counts and facts.state_bytes is None):
        return None
    state_bytes = parts(facts.state_bytes or 0, tensor_parallel)
    block_tokens, page_bytes = BLOCK_TOKENS, int(BLOCK_TOKENS * (token_bytes or 0))
    if Kind.STATE in counts and attends and token_bytes:
        block_tokens = BLOCK_TOKENS * max(1, parts(state_bytes, page_bytes))
        page_bytes = int(block_tokens * token_bytes)
    elif Kind.STATE in counts:
        page_bytes = state_bytes
    group = _group_layers(tuple(counts.values()))
    return Layout(
        block_tokens=block_tokens,
        page_bytes=page_bytes,
        group_layers=group,
        groups=tuple((kind, parts(count, group)) for kind, count in counts.items()),
        window=(facts.chunk if Kind.CHUNKED in counts else facts.window) or 0,
        in_flight=in_flight,
        state_blocks=2 if prefix_caching and attends else 1,
    )


def _keeps(kind: Kind, count: int) -> bool:
    return count > 0 and kind not in (Kind.NONE, Kind.ENCODER)


def _token_bytes(facts: ModelFacts, tensor_parallel: int, value_bytes: float) -> float | None:
    """Work out what one layer keeps of one token on one GPU."""
    if facts.latent_dim is not None:
        return facts.latent_dim * value_bytes  # MLA's one vector is for all heads, so each GPU has it
    if facts.kv_heads is None or facts.head_dim is None:
        return None
    return max(1, facts.kv_heads // tensor_parallel) * 2 * facts.head_dim * value_bytes


def _group_layers(counts: tuple[int, ...]) -> int:
    if not counts:
        return 1
    least, most = min(counts), max(counts)
    return most if most < least * _PADDED_BELOW else least
