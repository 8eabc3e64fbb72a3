from __future__ import annotations

import pytest

from vllmd.gpu import products
from vllmd.gpu.inventory import Inventory, Unread
from vllmd.planner.host_gpus import HostGpus


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("2xRTX3090", "2x NVIDIA GeForce RTX 3090 (24.0 GiB each)"),
        ("2xRTX3090+nvlink", "2x NVIDIA GeForce RTX 3090 (24.0 GiB each, NVLink)"),
        ("1xH200", "1x NVIDIA H200 (140.4 GiB)"),
        ("1xH200,2xRTX4090", "1x NVIDIA H200 (140.4 GiB), 2x NVIDIA GeForce RTX 4090 (24.0 GiB each)"),
        ("8xH100", "8x NVIDIA H100 80GB HBM3 (79.6 GiB each, NVLink)"),
    ],
)
def test_one_phrase_says_what_there_is(text: str, said: str) -> None:
    """How many of which, what each has, and whether NVLink joins them."""
    assert str(HostGpus(products.inventory(text))) == said


def test_figures_for_a_script() -> None:
    """In GiB, as people count GPU memory."""
    gpus = HostGpus(products.inventory("2xRTX3090+nvlink"))

    assert gpus.count == 2
    assert gpus.products == ("NVIDIA GeForce RTX 3090",) * 2
    assert (gpus.vram_per_gpu_gib, gpus.total_vram_gib, gpus.available_vram_gib) == (24.0, 48.0, 47.4)
    assert gpus.has_nvlink
    assert not HostGpus(products.inventory("2xRTX3090")).has_nvlink


def test_of_different_gpus_the_smallest_counts() -> None:
    """What is planned for each of them has to fit on it."""
    assert HostGpus(products.inventory("1xH200,1xRTX4090")).vram_per_gpu_gib == 24.0


def test_a_host_without_gpus_says_why() -> None:
    """It is false, too."""
    gpus = HostGpus(Inventory(error="no NVIDIA driver is installed"))

    assert not gpus
    assert str(gpus) == "no GPU (no NVIDIA driver is installed)"
    assert (gpus.count, gpus.vram_per_gpu_gib, gpus.total_vram_gib, gpus.has_nvlink) == (0, 0.0, 0.0, False)
    assert gpus.summary() == "GPUs:      no GPU (no NVIDIA driver is installed)"


def test_a_summary_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    """A line for each thing that is known; a GPU that can't be read is told."""
    there = products.inventory("2xRTX3090+nvlink")
    gpus = HostGpus(
        Inventory(there.gpus, "570.86", links=there.links, cuda_version="12.8", unread=(Unread(2, "GPU is lost"),))
    )
    gpus.print_summary()

    assert capsys.readouterr().out.splitlines() == [
        "GPUs:      2x NVIDIA GeForce RTX 3090 (24.0 GiB each, NVLink)",
        "free VRAM: 47.4 GiB of 48.0 GiB",
        "NVLink:    yes",
        "driver:    570.86",
        "CUDA:      12.8",
        "GPU 2:     can't be read: GPU is lost",
    ]
