"""How many requests and tokens an engine takes at once.

vLLM's own defaults depend on who starts it: its server gets those below, by the GPU, and an engine that is embedded, as
in a worker here, the least of all (128 requests, 2048 tokens), at which a large GPU idles. The server's are taken:
`EngineArgs.get_batch_defaults` of vLLM 0.25.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vllmd.gpu.inventory import Gpu
from vllmd.planner.choice import Choice, whole_number

_LARGE_BYTES = 70 << 30
_LARGE = (8192, 1024)
_USUAL = (2048, 256)
_FOR_SERVERS = "as vLLM's server takes on"


def sizes(client: Mapping[str, Any], gpus: Sequence[Gpu]) -> list[Choice]:
    """Choose `max_num_batched_tokens` and `max_num_seqs` where the client leaves them open."""
    large = all(gpu.total_bytes >= _LARGE_BYTES and "A100" not in gpu.product.upper() for gpu in gpus)
    tokens, sequences = _LARGE if large else _USUAL
    which = "GPUs of 70 GiB and more" if large else "GPUs like these"
    choices = []
    least = whole_number(client.get("max_num_seqs"))
    if "max_num_batched_tokens" not in client:
        raised = max(tokens, least or 0)
        reason = f"{_FOR_SERVERS} {which}" if raised == tokens else "no less than max_num_seqs, or vLLM refuses it"
        choices.append(Choice("max_num_batched_tokens", raised, "auto", reason))
    if "max_num_seqs" not in client:
        most = whole_number(client.get("max_num_batched_tokens")) or tokens
        lowered = min(sequences, most)
        reason = f"{_FOR_SERVERS} {which}" if lowered == sequences else "no more than max_num_batched_tokens"
        choices.append(Choice("max_num_seqs", lowered, "auto", reason))
    return choices
