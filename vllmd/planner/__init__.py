"""From a wish to vLLM's engine arguments: `arguments` says which a client may set, `planning` chooses the rest.

For scripts, without a daemon (`library` has the details):

    from vllmd.planner import detect_gpus, plan
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vllmd.planner.host_gpus import HostGpus
    from vllmd.planner.library import Arguments, detect_gpus, plan, vllm_is_installed

__all__ = ["Arguments", "HostGpus", "detect_gpus", "plan", "vllm_is_installed"]


if not TYPE_CHECKING:  # or type checkers would take any name for one

    def __getattr__(name: str) -> object:
        """Import the library once it is asked for: the daemon has no use for it."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from vllmd.planner import library

        return getattr(library, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
