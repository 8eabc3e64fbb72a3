"""Which vLLM an interpreter has, found out without importing it, which takes ten seconds and more."""

from __future__ import annotations

import functools
import logging
import subprocess

from vllmd.errors import Unavailable
from vllmd.interpreter import Interpreter
from vllmd.tasks import in_thread

_SECONDS = 10.0
_MARK = "vllm="
# What `vllm.__version__` will be, and that is what an engine reports: a distribution may go by another name.
_PROGRAM = f"""
import importlib.metadata, importlib.util, os, runpy
found = importlib.util.find_spec("vllm")
for folder in found.submodule_search_locations or () if found else ():
    try:
        version = runpy.run_path(os.path.join(folder, "_version.py"))["__version__"]
    except Exception:
        version = importlib.metadata.version("vllm")
    print("{_MARK}" + version)
    break
"""

_log = logging.getLogger(__name__)


async def vllm_version(interpreter: Interpreter) -> str | None:
    """Ask an interpreter for the version of its vLLM; `None` if it has none, or does not say in time."""
    python = interpreter.path
    try:
        ask = functools.partial(interpreter.ask, _PROGRAM, _SECONDS)
        output = await in_thread(f"asking {python} for its vLLM", ask, _SECONDS + 1)
    except (OSError, subprocess.SubprocessError, Unavailable) as error:
        _log.warning("it is not known which vLLM %s has: %s", python, error)
        return None
    lines = [line for line in output.splitlines() if line.startswith(_MARK)]
    return lines[-1].removeprefix(_MARK).strip() or None if lines else None
