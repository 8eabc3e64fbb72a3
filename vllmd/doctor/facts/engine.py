"""Asks `engine_python` what it has, in a child: neither torch nor vLLM is imported, there or here."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess

from vllmd.doctor.engine import EngineFacts
from vllmd.interpreter import Interpreter

SECONDS = 20.0
"""A cold disk of the network takes some; nothing is imported that takes longer."""
_MARK = "doctor="
# The packages' own files of versions, run by themselves: to import vLLM takes ten seconds, and may fail.
_PROGRAM = f"""
import importlib.metadata, importlib.util, json, os, platform, runpy

def names(package, file):
    found = importlib.util.find_spec(package)
    for folder in (found.submodule_search_locations or ()) if found else ():
        try:
            return runpy.run_path(os.path.join(folder, file))
        except Exception:
            return {{}}
    return None

def installed(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None

vllm, torch = names("vllm", "_version.py"), names("torch", "version.py")
def version(name, found):
    return None if found is None else found.get("__version__") or installed(name) or "of an unknown version"
print("{_MARK}" + json.dumps(dict(
    python_version=platform.python_version(),
    vllm=version("vllm", vllm),
    torch=version("torch", torch),
    torch_cuda=(torch or {{}}).get("cuda"),
    torch_hip=(torch or {{}}).get("hip"),
    msgspec=installed("msgspec"),
    huggingface_hub=installed("huggingface_hub"),
)))
"""
_SAID = ("python_version", "vllm", "torch", "torch_cuda", "torch_hip", "msgspec", "huggingface_hub")


def look(
    interpreter: Interpreter, *, fake: bool, driver_cuda: str, gpus: int | None, seconds: float = SECONDS
) -> EngineFacts:
    """Ask an interpreter, and wait *seconds* for its answer; the rest is known from elsewhere and goes with it."""
    facts = EngineFacts(python=str(interpreter.path), fake=fake, driver_cuda=driver_cuda, gpus=gpus)
    if shutil.which(interpreter.path) is None:
        return dataclasses.replace(facts, runs=False, why="is no program that can be run")
    try:
        output = interpreter.ask(_PROGRAM, seconds)
    except subprocess.TimeoutExpired:
        return dataclasses.replace(facts, why=f"says nothing within {seconds:g} seconds")
    except OSError as error:
        return dataclasses.replace(facts, runs=False, why=f"can't be run: {error.strerror}")
    said = [line.removeprefix(_MARK) for line in output.splitlines() if line.startswith(_MARK)]
    if not said:
        return dataclasses.replace(facts, runs=False, why="runs, and is no Python that answers")
    values = _values(said[-1])
    return dataclasses.replace(
        facts,
        python_version=values["python_version"],
        vllm=values["vllm"],
        torch=values["torch"],
        torch_cuda=values["torch_cuda"],
        torch_hip=values["torch_hip"],
        msgspec=values["msgspec"],
        huggingface_hub=values["huggingface_hub"],
    )


def _values(line: str) -> dict[str, str | None]:
    said = json.loads(line)
    return {name: None if said.get(name) is None else str(said[name]) for name in _SAID}
