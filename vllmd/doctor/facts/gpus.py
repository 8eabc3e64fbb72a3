"""Reads what there is of the NVIDIA driver: its module, its nodes, and what NVML says."""

from __future__ import annotations

import os
import pathlib
import re

from vllmd.doctor.gpus import GpuFacts, Node
from vllmd.gpu.inventory import Inventory
from vllmd.gpu.nvml import Nvml

_UNIT = re.compile(r"/([^/]+\.service)(?:/|$)")
# Of everything under /dev these are opened by CUDA; /dev/nvidia-modeset and capability nodes are for others.
_OPENED = re.compile(r"nvidia(\d+|ctl|-uvm)")


def look(simulated: str | None, root: pathlib.Path = pathlib.Path("/")) -> GpuFacts:
    """Look at the driver; NVML is not asked where GPUs are simulated."""
    return GpuFacts(
        inventory=Inventory() if simulated is not None else inventory(),
        nodes=nodes(root / "dev"),
        kernel_driver=kernel_driver(root / "proc/driver/nvidia/version"),
        unit=unit(root / "proc/self/cgroup"),
        simulated=simulated,
    )


def inventory() -> Inventory:
    """Ask NVML, as the daemon does, with the GPUs that `CUDA_VISIBLE_DEVICES` leaves."""
    nvml = Nvml(os.environ.get("CUDA_VISIBLE_DEVICES"))
    try:
        return nvml.snapshot()
    finally:
        nvml.close()


def nodes(devices: pathlib.Path) -> tuple[Node, ...]:
    """Try to open each node that CUDA opens."""
    names = sorted(name for name in os.listdir(devices) if _OPENED.fullmatch(name)) if devices.is_dir() else []
    return tuple(_node(f"/dev/{name}", devices / name) for name in names)


def kernel_driver(version: pathlib.Path) -> str | None:
    """Tell the version of the driver that the kernel has loaded."""
    try:
        text = version.read_text()
    except OSError:
        return None  # there is no such file without the module, and in no container without its devices
    match = re.search(r"\b(\d+\.\d+(?:\.\d+)?)\b", text)
    return match[1] if match else None


def unit(cgroup: pathlib.Path) -> str | None:
    """Tell in which systemd service this process runs, by its cgroup; a user's session is in none of the system's."""
    try:
        lines = cgroup.read_text().splitlines()
    except OSError:
        return None  # a kernel without cgroups
    for line in lines:
        systemds = line.startswith("0::") or ":name=systemd:" in line
        if systemds and "/user.slice/" not in line and (found := _UNIT.findall(line)):
            return str(found[-1])
    return None


def _node(path: str, where: pathlib.Path) -> Node:
    try:
        os.close(os.open(where, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK))
    except OSError as error:
        return Node(path, opens=False, why=error.strerror or str(error))
    return Node(path, opens=True)
