"""Writes down what NVML answers on this host: `python -m tests.bench.nvml_snapshot > tests/data/nvml/NAME.json`.

What is written are the answers to what the daemon asks for its inventory, in the format that `tests/data/nvml`
explains, with UUIDs made up. What an inventory takes is told on stderr.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import json
import re
import statistics
import sys
import time
import types
from collections.abc import Callable
from typing import Any

from tests.fakes.fake_pynvml import Answers
from vllmd.gpu.inventory import Inventory
from vllmd.gpu.nvml import Nvml

_UUID = re.compile(r"(GPU|MIG)-[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_SNAPSHOTS = 50


class Recorder(types.ModuleType):
    """The module pynvml, with somebody who listens."""

    def __init__(self, pynvml: Any) -> None:
        super().__init__("pynvml")
        self.answers: Answers = {}
        self._pynvml = pynvml
        self._handles: list[tuple[Any, str]] = []
        """Kept, or another one could be where the first was."""

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._pynvml, name)
        asks = name.startswith(("nvmlDevice", "nvmlSystem"))
        return functools.partial(self._ask, name, found) if asks else found

    def _ask(self, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        words = [self._word(argument) for argument in arguments]
        answers = self.answers.setdefault(name, {})
        try:
            answer = function(*arguments)
        except self._pynvml.NVMLError as error:
            answers[" ".join(words)] = {"error": type(error).__name__.removeprefix("NVMLError_")}
            raise
        if "Handle" in name:
            self._handles.append((answer, ".".join(words)))
        else:
            answers[" ".join(words)] = plain(answer)
        return answer

    def _word(self, argument: Any) -> str:
        return next((word for handle, word in self._handles if handle is argument), str(argument))


def plain(value: Any) -> Any:
    """Turn what NVML answers into what JSON knows."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case bytes():
            return value.decode(errors="replace")
        case list() | tuple():
            return [plain(one) for one in value]
        case ctypes.Structure():
            return {field[0]: plain(getattr(value, field[0])) for field in value._fields_}
        case _:
            return {name: plain(one) for name, one in vars(value).items()}


def record(pynvml: Any) -> tuple[Inventory, Answers]:
    """Make an inventory, and write down the answers that it is made of."""
    recorder = Recorder(pynvml)
    before = sys.modules.get("pynvml")
    sys.modules["pynvml"] = recorder
    nvml = Nvml()
    try:
        found = nvml.snapshot()
    finally:
        nvml.close()
        sys.modules["pynvml"] = before or pynvml
    return found, {name: answers for name, answers in recorder.answers.items() if answers}


def render(source: str, answers: Answers) -> str:
    """Write a snapshot with a line for each answer."""
    functions = []
    for name, by_arguments in answers.items():
        lines = [f"      {json.dumps(key)}: {json.dumps(answer)}" for key, answer in by_arguments.items()]
        functions.append(f"    {json.dumps(name)}: {{\n" + ",\n".join(lines) + "\n    }")
    return anonymous(f'{{\n  "source": {json.dumps(source)},\n  "answers": {{\n' + ",\n".join(functions) + "\n  }\n}\n")


def anonymous(text: str) -> str:
    """Make up UUIDs in place of a host's, by their order."""
    made_up: dict[str, str] = {}
    return _UUID.sub(lambda one: made_up.setdefault(one[0], f"{one[1]}-{len(made_up):08}-0000-0000-0000-{0:012}"), text)


def milliseconds() -> list[float]:
    """Measure snapshots, the first of which reads the links, too."""
    nvml = Nvml()
    measured = []
    for _ in range(_SNAPSHOTS):
        begun = time.perf_counter()
        nvml.snapshot()
        measured.append((time.perf_counter() - begun) * 1000)
    nvml.close()
    return measured


def main() -> int:
    """Record this host."""
    import pynvml

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--source", default="Recorded.", help="what the host is, for the file's own note")
    source = parser.parse_args().source
    found, answers = record(pynvml)
    if not found.gpus and not found.unread:
        print(f"no GPU to record: {found.error}", file=sys.stderr)
        return 1
    print(render(source, answers), end="")
    first, *later = milliseconds()
    print(f"{len(found.gpus)} GPUs, {len(found.links)} pairs, {len(found.unread)} unread", file=sys.stderr)
    print(f"a snapshot took {first:.1f} ms first, then {statistics.median(later):.2f} ms", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
