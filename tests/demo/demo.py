"""`make demo`: real vLLM from nothing to a generation and back to nothing, with the commands that a user types.

Exits with 1 if anything is left at the end: a process, a socket, a file, shared memory, a cgroup.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests import tiny_model  # noqa: E402 - the demo is run as a script, from anywhere
from tests.leftovers import Leftovers, look, names  # noqa: E402

BIN = pathlib.Path(sys.executable).parent
BOLD, DIM, RESET = ("\033[1m", "\033[2m", "\033[0m") if sys.stdout.isatty() else ("", "", "")


def say(text: str) -> None:
    """Print a heading."""
    print(f"\n{BOLD}== {text}{RESET}", flush=True)


def show(*argv: str, home: pathlib.Path) -> None:
    """Show a command as a user types it, and run it."""
    print(f"{BOLD}$ {shlex.join(argv)}{RESET}", flush=True)
    subprocess.run([BIN / argv[0], *argv[1:]], env=environment(home), check=True)


def ask(*argv: str, home: pathlib.Path) -> dict[str, object]:
    """Run a command for its JSON."""
    done = subprocess.run(
        [BIN / argv[0], *argv[1:], "-o", "json"], env=environment(home), check=True, capture_output=True
    )
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def environment(home: pathlib.Path) -> dict[str, str]:
    """Keep the demo's daemon apart from any other; what vLLM compiles is kept for the next time."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    own = {
        "XDG_RUNTIME_DIR": str(home),
        "CONFIGURATION_DIRECTORY": str(home),
        "XDG_CACHE_HOME": cache,
        "HF_HUB_OFFLINE": "1",
    }
    return {name: value for name, value in os.environ.items() if name != "VLLMD_ADDRESS"} | own


@contextlib.contextmanager
def daemon(home: pathlib.Path, engine_python: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run `vllmd` until the demo is over."""
    argv = [str(BIN / "vllmd"), "--engine-python", engine_python]
    print(f"{BOLD}$ vllmd --engine-python {engine_python} &{RESET}", flush=True)
    with (home / "daemon.log").open("wb") as log:
        process = subprocess.Popen(argv, env=environment(home), stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 20
        while not (home / "vllmd" / "vllmd.sock").exists():
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit((home / "daemon.log").read_text())
            time.sleep(0.02)
        yield process
    finally:
        process.terminate()
        process.wait()


def run(home: pathlib.Path, engine_python: str) -> bool:
    """Go through it all; tells whether nothing is left."""
    say("A tiny Llama with random weights: what it says is noise, all else is real")
    model = home / "tiny-llama"
    tiny_model.make_with(engine_python, model)
    print(f"{DIM}{sum(path.stat().st_size for path in model.iterdir()) / 1e3:.0f} kB in {model}{RESET}")

    say("The daemon")
    with daemon(home, engine_python) as process:
        say("Load the model (the first time vLLM takes a minute or two on a CPU)")
        arguments = ("--set", "max_model_len=1024", "--set", "enforce_eager=true", "--set", "dtype=float32")
        show("vllmd-cli", "load", str(model), *arguments, home=home)
        engines = ask("vllmd-cli", "engines", home=home)["engines"]
        assert isinstance(engines, list)
        engine = engines[0]["name"].removeprefix("engines/")

        say("Generate")
        show("vllmd-cli", "generate", engine, "Once upon a time", "--max-tokens", "48", "--seed", "7", home=home)
        print()

        say("Status")
        show("vllmd-cli", "status", home=home)
        during = look(home / "vllmd", engine)

        say("A second lease on the same engine takes no time; releasing it leaves the first")
        loaded = ask("vllmd-cli", "load", str(model), *arguments, home=home)
        show("vllmd-cli", "release", lease_of(loaded), home=home)

        say("Stop the engine: the answer comes when it is proven to be gone")
        show("vllmd-cli", "stop", engine, home=home)

        say("Stop the daemon")
    print(f"$ kill -TERM {process.pid}    # exit status {process.returncode}")

    say("What is left")
    after = look(home / "vllmd", engine)
    files = [str(path) for path in (home / "vllmd").rglob("*") if not path.is_dir()]
    print(table(during, after))
    print("\n".join(after.listed() + files))
    return process.returncode == 0 and bool(during) and not after and not files


def table(during: Leftovers, after: Leftovers) -> str:
    """Draw what there was of the engine beside what there is now."""
    rows = [f"{'':<16}{'while loaded':>14}{'now':>6}"]
    for name in names():
        counts = len(getattr(during, name)), len(getattr(after, name))
        rows.append(f"{name.replace('_', ' '):<16}{counts[0]:>14}{counts[1]:>6}")
    return "\n".join(rows)


def lease_of(answer: dict[str, object]) -> str:
    """Find the lease in what `load -o json` printed."""
    loaded = answer["loaded"]
    assert isinstance(loaded, dict)
    return str(loaded["lease"]["name"]).removeprefix("leases/")


def main() -> int:
    """Run the demo in a directory that is removed afterwards."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine-python", required=True, help="interpreter that has vLLM")
    engine_python = parser.parse_args().engine_python
    begun = time.monotonic()
    home = pathlib.Path(tempfile.mkdtemp(prefix="vllmd-", dir="/tmp"))
    try:
        clean = run(home, engine_python)
    except subprocess.CalledProcessError as error:
        print(f"\n{error}; the daemon's log:\n{(home / 'daemon.log').read_text()}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(home)
    print(f"\n{'Nothing is left.' if clean else 'SOMETHING IS LEFT.'} {time.monotonic() - begun:.0f} s in all.")
    return 0 if clean else 1


if __name__ == "__main__":
    sys.exit(main())
