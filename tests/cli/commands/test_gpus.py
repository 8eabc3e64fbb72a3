from __future__ import annotations

import json

import pytest

from tests.cli.conftest import Run
from tests.fakes.fake_daemon import FakeDaemon
from tests.fakes.gpu_samples import eight_gpus, four_gpus, name, slices
from vllmd.v1.gpu_pb2 import Gpu, PciLink
from vllmd.v1.host_service_pb2 import ListGpusResponse


def rows(run: Run, columns: int = 110) -> list[list[str]]:
    """The lines of the answer, as words."""
    return [line.split() for line in run("gpus", COLUMNS=str(columns)).stdout.splitlines()]


def test_what_each_gpu_has_and_draws(daemon: FakeDaemon, run: Run) -> None:
    """Below the versions, which are the host's."""
    daemon.gpus = eight_gpus()
    lines = rows(run)

    assert lines[0] == ["driver", "580.65.06", "·", "CUDA", "13.0"]
    assert lines[2] == ["GPU", "PRODUCT", "USED", "TOTAL", "UTIL", "POWER", "PCIE", "CC"]
    assert " ".join(lines[3]) == "0 NVIDIA H100 80GB HBM3 72.0 80.0 GiB 97% 692/700 W 5 x16 9.0"
    assert " ".join(lines[10]).startswith("7 NVIDIA H100 80GB HBM3 75.5 80.0 GiB")


def test_eight_gpus_fit_a_narrow_terminal(daemon: FakeDaemon, run: Run) -> None:
    """With all their links, each on one line."""
    daemon.gpus = eight_gpus()
    lines = run("gpus", COLUMNS="80").stdout.splitlines()

    assert max(len(line) for line in lines) <= 80
    assert sum(line.startswith("GPU") for line in lines) == 1 + 8
    assert len(lines) == 2 + 9 + 1 + 9 + 1 + 1


def test_uuids_where_there_is_room(daemon: FakeDaemon, run: Run) -> None:
    """They are what `CUDA_VISIBLE_DEVICES` takes."""
    daemon.gpus = eight_gpus()

    assert rows(run, columns=130)[3][-1] == name(0).removeprefix("gpus/")


def test_what_the_driver_does_not_say(daemon: FakeDaemon, run: Run) -> None:
    """A dash, and never 0; a version that is not known is left out."""
    daemon.gpus = four_gpus()
    lines = rows(run)

    assert lines[0] == ["driver", "550.144.03"]
    assert " ".join(lines[3]) == "0 NVIDIA RTX A6000 0.0 48.0 GiB - - - -"
    assert " ".join(lines[6]) == "3 NVIDIA RTX A6000 0.0 48.0 GiB - 41 W - -"


@pytest.mark.parametrize(
    ("pci", "shown"),
    [
        (PciLink(generation=4, width=8), "4 x8"),
        (PciLink(width=16), "- x16"),
        (PciLink(generation=3), "3 x-"),
        (PciLink(), "-"),
    ],
)
def test_how_it_is_plugged_in(daemon: FakeDaemon, run: Run, pci: PciLink, shown: str) -> None:
    """As far as that is known."""
    daemon.gpus = ListGpusResponse(gpus=[Gpu(product="NVIDIA L4", pci=pci, power_limit_watts=72.0)])

    assert " ".join(rows(run)[1]) == f"0 NVIDIA L4 0.0 0.0 GiB - -/72 W {shown} -"


def test_what_is_wrong_with_some_of_them(daemon: FakeDaemon, run: Run) -> None:
    """Those that are lost, and those on which nothing is placed."""
    daemon.gpus = four_gpus()
    out = run("gpus").stdout

    assert "GPU 2 is in quarantine for 2h: it holds 3 GiB of nobody" in out
    assert "GPU 4 fell off the bus 3h ago: NVML: GPU is lost." in out


def test_slices_have_the_number_of_their_gpu(daemon: FakeDaemon, run: Run) -> None:
    """And one of their own; there are no links to be shown."""
    daemon.gpus = slices()
    lines = rows(run, columns=300)

    assert [line[0] for line in lines[3:]] == ["0:0", "0:1", "1"]
    assert lines[4][-1] == "MIG-1"


def test_no_gpus(daemon: FakeDaemon, run: Run) -> None:
    """The reason is told."""
    daemon.gpus = ListGpusResponse(error="NVML library not found: no NVIDIA driver is installed")

    assert run("gpus").stdout == "No GPUs: NVML library not found: no NVIDIA driver is installed.\n"


def test_json_has_the_names_of_the_proto(daemon: FakeDaemon, run: Run) -> None:
    """What is not known is left out, and what is none is there."""
    daemon.gpus = four_gpus()
    answer = json.loads(run("gpus", "-o", "json").stdout)
    by_pair = {(one["first_gpu"], one["second_gpu"]): one for one in answer["links"]}

    assert by_pair[name(0), name(1)]["nvlink_count"] == 4
    assert by_pair[name(2), name(3)]["nvlink_count"] == 0
    assert "nvlink_count" not in by_pair[name(1), name(3)]
    assert answer["lost_gpus"][0]["index"] == 4
