from __future__ import annotations

import pytest

from tests.cli.conftest import Run
from tests.fakes.fake_daemon import FakeDaemon
from tests.fakes.gpu_samples import eight_gpus, four_gpus
from vllmd.cli.output.link_matrix import word
from vllmd.v1.gpu_pb2 import GpuLink


def matrix(run: Run) -> list[list[str]]:
    """The rows that are GPUs', and the line above them."""
    lines = [line.split() for line in run("gpus").stdout.splitlines()]
    start = next(number for number, line in enumerate(lines) if line[:2] == ["GPU0", "GPU1"])
    return lines[start : start + len(lines[start]) + 1]


def test_the_matrix_of_a_mixed_host(daemon: FakeDaemon, run: Run) -> None:
    """It reads the same from both sides, and one that is lost is in it no more."""
    daemon.gpus = four_gpus()

    assert matrix(run) == [
        ["GPU0", "GPU1", "GPU2", "GPU3"],
        ["GPU0", "X", "NV4", "SYS", "SYS"],
        ["GPU1", "NV4", "X", "SYS", "-"],
        ["GPU2", "SYS", "SYS", "X", "NODE!"],
        ["GPU3", "SYS", "-", "NODE!", "X"],
    ]


def test_the_legend_explains_what_is_there(daemon: FakeDaemon, run: Run) -> None:
    """And nothing else."""
    daemon.gpus = four_gpus()
    mixed = [line.split()[0] for line in run("gpus").stdout.splitlines() if line.startswith("  ") and "GPU" not in line]
    daemon.gpus = eight_gpus()
    out = run("gpus").stdout

    assert mixed == ["NV#", "NODE", "SYS", "-", "!"]
    assert "NV#    bonded NVLinks" in out
    assert "peer access" not in out


def test_a_single_gpu_has_no_matrix(daemon: FakeDaemon, run: Run) -> None:
    """There is nothing for it to be connected with."""
    answer = eight_gpus()
    del answer.gpus[1:]
    del answer.links[:]
    daemon.gpus = answer

    assert "GPU0" not in run("gpus").stdout


@pytest.mark.parametrize(
    ("link", "shown"),
    [
        (GpuLink(nvlink_count=18, path=GpuLink.PATH_SYS, peer_access=True), "NV18"),
        (GpuLink(nvlink_count=0, path=GpuLink.PATH_PIX), "PIX"),
        (GpuLink(path=GpuLink.PATH_PHB, peer_access=False), "PHB!"),
        (GpuLink(nvlink_count=4, peer_access=False), "NV4!"),
        (GpuLink(peer_access=False), "-!"),
        (GpuLink(nvlink_count=0), "-"),
        (GpuLink(path=99), "99"),  # type: ignore[arg-type]
    ],
)
def test_a_pair_in_a_word(link: GpuLink, shown: str) -> None:
    """NVLinks come first; a way that a newer daemon knows of is its number."""
    assert word(link) == shown
