"""How many requests and tokens an engine takes at once.

vLLM's own defaults depend on who starts it and on the GPU. Its server gets those below; an engine that is embedded, as
in a worker here, the least of all (128 requests, 2048 tokens), at which a large GPU idles. Where no use case says
otherwise the server's are taken. Source: `EngineArgs.get_batch_defaults` and `SchedulerConfig` of vLLM 0.25.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vllmd.gpu.inventory import Gpu
from vllmd.planner.choice import Draft, Infeasible, whole_number
from vllmd.planner.request import Program
from vllmd.planner.use_cases import UseCase

_LARGE_BYTES = 70 << 30
_LARGE = (8192, 1024)
_USUAL = (2048, 256)
_EMBEDDED = (2048, 128)
_LLM_CLASS = {True: (16384, 1024), False: (8192, 256)}


def are_large(gpus: Sequence[Gpu]) -> bool:
    """Tell whether vLLM counts GPUs as large: 70 GiB or more, but for the A100, which large batches slow down."""
    return all(gpu.total_bytes >= _LARGE_BYTES and "A100" not in gpu.product.upper() for gpu in gpus)


def refusal(draft: Draft) -> Infeasible | None:
    """Refuse sizes that were set and that vLLM can't have together."""
    tokens, sequences = whole_number(draft.get("max_num_batched_tokens")), whole_number(draft.get("max_num_seqs"))
    if tokens is not None and sequences is not None and tokens < sequences:
        return _invalid(
            f"max_num_batched_tokens={tokens} is less than max_num_seqs={sequences}: it can be {sequences} or more",
            {"max_num_batched_tokens": tokens, "max_num_seqs": sequences},
        )
    length = whole_number(draft.get("max_model_len"))
    whole = draft.get("enable_chunked_prefill") is False
    if whole and tokens is not None and length is not None and tokens < length:
        return _invalid(
            f"without chunked prefill max_num_batched_tokens={tokens} can't be less than max_model_len={length}: it "
            f"can be {length} or more",
            {"max_num_batched_tokens": tokens, "max_model_len": length},
        )
    return None


def settle(draft: Draft, gpus: Sequence[Gpu], use_case: UseCase, large: bool) -> None:
    """Choose what the use case says of sizes, or what vLLM's server takes on such GPUs.

    Args:
        draft: what is settled so far.
        gpus: where the engine is to run.
        use_case: what for.
        large: whether to choose as for large GPUs.
    """
    for name, value, reason in _of(use_case, large):
        if name not in draft and name in ("max_num_batched_tokens", "max_num_seqs"):
            _choose(draft, name, value, reason, use_case)
    if use_case.server_sizes:
        tokens, sequences = _LARGE if large else _USUAL
        which = "GPUs of 70 GiB and more" if large else "GPUs like these"
        if are_large(gpus) and not large:
            which = "smaller GPUs, which leaves more for the KV cache"
        for name, value in (("max_num_batched_tokens", tokens), ("max_num_seqs", sequences)):
            if name not in draft:
                _choose(draft, name, value, f"as vLLM's server takes on {which}", use_case)


def assumed(draft: Draft, gpus: Sequence[Gpu], program: Program) -> tuple[int, int]:
    """Say what vLLM will have as `max_num_batched_tokens` and `max_num_seqs`, chosen or by default."""
    tokens, sequences = _EMBEDDED if program == "engine" else _LLM_CLASS[are_large(gpus)]
    chosen, most = draft.count("max_num_batched_tokens"), draft.count("max_num_seqs")
    if chosen is None and most is not None:
        tokens = max(tokens, most)
    return chosen or tokens, most or min(sequences, chosen or tokens)


def fit_states(draft: Draft, sequences: int, blocks: int) -> Infeasible | None:
    """Take on no more requests than there are blocks for their states, or refuse what was set.

    vLLM does not start otherwise, where it captures graphs ("exceeds available Mamba cache blocks").

    Args:
        draft: what is settled so far.
        sequences: `max_num_seqs`, chosen or by vLLM's default.
        blocks: how many the KV cache has.
    """
    if sequences <= blocks:
        return None
    if draft.source("max_num_seqs") in ("client", "host"):
        return _invalid(
            f"max_num_seqs={sequences} is more than the {blocks} states for which there is room: it can be {blocks}",
            {"max_num_seqs": sequences, "state_blocks": blocks},
        )
    draft.lower("max_num_seqs", blocks, f"the KV cache has room for the states of {blocks} requests")
    return None


def _of(use_case: UseCase, large: bool) -> Iterator[tuple[str, int, str]]:
    yield from use_case.large_gpus if large else ()
    yield from use_case.arguments


def _choose(draft: Draft, name: str, value: int, reason: str, use_case: UseCase) -> None:
    """Choose one size so that it goes with the other."""
    if name == "max_num_seqs":
        most = draft.count("max_num_batched_tokens")
        if most is not None and most < value:
            value, reason = most, "no more than max_num_batched_tokens"
    else:
        least = draft.count("max_num_seqs")
        if least is not None and least > value:
            value, reason = least, "no less than max_num_seqs, or vLLM refuses it"
    draft.choose(name, value, "use case" if use_case.name else "auto", reason)


def _invalid(message: str, numbers: dict[str, int | str]) -> Infeasible:
    return Infeasible("INVALID_ENGINE_ARG", f"{message}.", numbers, forever=True, invalid=True)
