"""The LoRA adapters of an engine: their names for clients, and their numbers for vLLM.

Each is loaded once before the engine serves. One that vLLM can't load so fails the start, with vLLM's reason; at a
request it would end EngineCore and with it all others' requests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .backend import InvalidRequest
from .causes import text_of


class Adapters:
    """All adapters of one engine.

    Args:
        paths: their directories, by name.
        request_type: vLLM's `LoRARequest`.
    """

    def __init__(self, paths: Mapping[str, str] | None = None, request_type: Callable[..., Any] | None = None) -> None:
        self._requests: dict[str, Any] = {}
        if request_type is not None:
            named = enumerate((paths or {}).items(), start=1)
            self._requests = {name: request_type(name, number, path) for number, (name, path) in named}

    def request(self, name: str) -> Any:
        """Make what vLLM takes to use an adapter; `None` for an empty name, which is the model alone.

        Raises:
            InvalidRequest: there is no adapter of that name.
        """
        if name and name not in self._requests:
            raise InvalidRequest(f"lora: this engine has no adapter {name!r}")
        return self._requests.get(name)

    async def load(self, engine: Any) -> None:
        """Have vLLM load each of them.

        Args:
            engine: vLLM's `AsyncLLM`.

        Raises:
            RuntimeError: one can't be loaded; it names it, and says why.
        """
        for name, request in self._requests.items():
            try:
                await engine.add_lora(request)
            except Exception as error:
                raise RuntimeError(f"LoRA adapter {name!r} can't be loaded: {text_of(error)}") from error
