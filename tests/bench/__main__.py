"""`make bench`: what the daemon costs when idle, to start, and per token, on fake engines.

A fake engine makes tokens in steps, as vLLM does, without computing anything. With a rate, the daemon keeps up
and each token is a message; without one, the engine makes them as fast as it can, and the daemon is behind: then
tokens must come in fewer, larger messages.
"""

from __future__ import annotations

import argparse
import time

import psutil

from tests.bench import load
from tests.host.running import RunningDaemon, home

_IDLE_SECONDS = 10.0


def cpu_seconds(process: psutil.Process) -> float:
    """CPU time that a process has used so far."""
    times = process.cpu_times()
    return float(times.user + times.system)


def idle(daemon: RunningDaemon, begun: float) -> None:
    """Print what a daemon without engines costs."""
    started = time.monotonic() - begun
    daemon.status()
    answered = time.monotonic() - begun
    process = psutil.Process(daemon.process.pid)
    used, since = cpu_seconds(process), time.monotonic()
    time.sleep(_IDLE_SECONDS)  # what is measured is the time in which nothing happens
    share = (cpu_seconds(process) - used) / (time.monotonic() - since)
    print(f"exec to socket            {started:6.2f} s")
    print(f"exec to first GetStatus   {answered:6.2f} s")
    print(f"resident memory           {process.memory_info().rss / (1 << 20):6.1f} MiB")
    print(f"CPU while idle            {share:6.2%} of a core")


def streams(daemon: RunningDaemon, count: int, rate: float, tokens: int, processes: int) -> None:
    """Print what *count* streams cost; *rate* is tokens a second of each, 0 for as many as there can be."""
    engine = daemon.load(f"fake-{count}-{rate:g}", fake_tokens_per_second=rate).engine.name
    process = psutil.Process(daemon.process.pid)
    target = f"unix:{daemon.socket}"
    load.run(target, engine, count, 16, processes)
    used = cpu_seconds(process)
    result = load.run(target, engine, count, tokens, processes)
    used = cpu_seconds(process) - used
    print(
        f"{count:>7} {f'{rate:g}/s' if rate else 'full':>8} {result.tokens_per_second:>10,.0f} "
        f"{used / result.tokens * 1e6:>12.1f} {result.messages / result.tokens:>12.2f} "
        f"{result.median_first * 1e3:>10.1f}",
        flush=True,
    )


def main() -> None:
    """Run everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 64, 256])
    parser.add_argument(
        "--rate", type=float, default=20.0, help="tokens a second of each stream (default: %(default)s)"
    )
    parser.add_argument("--tokens", type=int, default=200, help="tokens of each stream (default: %(default)s)")
    parser.add_argument("--processes", type=int, default=1, help="client processes (default: %(default)s)")
    arguments = parser.parse_args()
    with home("--backend", "fake", "--log-level", "warning") as place:
        begun = time.monotonic()
        daemon = place.start()
        idle(daemon, begun)
        print(f"\n{'streams':>7} {'rate':>8} {'tokens/s':>10} {'CPU µs/token':>12} {'msgs/token':>12} {'TTFT ms':>10}")
        for rate in (arguments.rate, 0.0):
            for count in arguments.streams:
                streams(daemon, count, rate, arguments.tokens, arguments.processes)


if __name__ == "__main__":
    main()
