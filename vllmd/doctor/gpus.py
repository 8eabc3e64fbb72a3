"""Judges the driver, NVML and the device nodes that CUDA opens. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from vllmd.doctor.finding import Finding, counted, fail, ok, unknown, warn
from vllmd.gpu.inventory import Inventory

_NEEDED = ("/dev/nvidiactl", "/dev/nvidia-uvm")
_OLDEST_BRANCH = 570
"""The driver of CUDA 12.8, older than which no vLLM that we support was built for."""


@dataclasses.dataclass(frozen=True, slots=True)
class Node:
    """A device node of the driver."""

    path: str
    opens: bool
    """Whether this user may open it for reading and writing, here."""
    why: str = ""
    """Why it does not open, in the kernel's words."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class GpuFacts:
    """What is seen of the driver."""

    inventory: Inventory
    nodes: Sequence[Node]
    """Those that there are."""
    kernel_driver: str | None
    """The version that the kernel's module tells; `None` if it is not loaded."""
    unit: str | None = None
    """The systemd service that this runs in; `None` outside of one."""
    simulated: str | None = None
    """The GPUs that the configuration has in place of the host's."""
    needed: bool = True
    """Whether engines need any: not those of a vLLM that was built for the CPU, and no fake ones."""


def judge(facts: GpuFacts) -> Iterator[Finding]:
    """Say how the driver, NVML and the nodes stand; nothing of it matters where GPUs are simulated."""
    if facts.simulated is not None:
        yield ok("GPUs", f"simulated: {facts.simulated}")
        return
    if not facts.needed and facts.kernel_driver is None and not facts.inventory.gpus:
        yield ok("GPUs", "none, and engines need none")
        return
    yield _driver(facts)
    yield from _nvml(facts)
    yield _devices(facts)


def _driver(facts: GpuFacts) -> Finding:
    loaded, library = facts.kernel_driver, facts.inventory.driver_version
    if loaded is None and not library:
        todo = "Install NVIDIA's driver (nvidia-smi must work), or try vllmd with --simulate 2xRTX3090."
        return fail("driver", "the NVIDIA driver is not loaded", todo)
    if loaded and library and loaded != library:
        found = f"the kernel runs {loaded}, and the libraries are {library}"
        return fail("driver", found, "The driver was upgraded beneath the kernel: reboot, or reload its modules.")
    version = loaded or library
    branch = version.partition(".")[0]
    if branch.isdecimal() and int(branch) < _OLDEST_BRANCH:
        todo = f"Upgrade to driver {_OLDEST_BRANCH} or later, the oldest that supported vLLM builds are made for."
        return warn("driver", f"{version} is older than {_OLDEST_BRANCH}", todo)
    return ok("driver", version)


def _nvml(facts: GpuFacts) -> Iterator[Finding]:
    inventory = facts.inventory
    if inventory.error and not inventory.gpus:
        yield fail("NVML", inventory.error, _without_nvml(facts))
        return
    cuda = f", CUDA {inventory.cuda_version}" if inventory.cuda_version else ""
    products = ", ".join(sorted({gpu.product for gpu in inventory.gpus}))
    yield ok("NVML", f"{counted(len(inventory.gpus), 'GPU')} ({products}){cuda}")
    for one in inventory.unread:
        if one.denied:
            yield unknown(f"GPU {one.index}", f"NVML may not tell of it: {one.error}")
        else:
            todo = "Look into `dmesg` for NVRM lines (Xid); reset the GPU or reboot."
            yield fail(f"GPU {one.index}", f"NVML can't read it: {one.error}", todo)


def _without_nvml(facts: GpuFacts) -> str:
    if facts.kernel_driver is None:
        return "It comes with NVIDIA's driver; see the line above."
    if "library not found" in facts.inventory.error:
        return "Install the driver's libraries (libnvidia-ml.so.1); in a container, start it with --gpus all."
    if "CUDA_VISIBLE_DEVICES" in facts.inventory.error:
        return "Correct CUDA_VISIBLE_DEVICES in the daemon's environment, or take it out."
    return "Compare with `nvidia-smi`, and see `dmesg` for NVRM lines."


def _devices(facts: GpuFacts) -> Finding:
    where = f"inside {facts.unit}" if facts.unit else "as this user, outside of the service"
    present = {node.path for node in facts.nodes}
    closed = [node for node in facts.nodes if not node.opens]
    missing = [path for path in _NEEDED if path not in present]
    gpus = [path for path in present if path.removeprefix("/dev/nvidia").isdecimal()]
    if facts.kernel_driver is None and not present:
        return unknown("devices", "there are no /dev/nvidia* without a driver")
    if missing or not gpus:
        names = ", ".join([*missing, *([] if gpus else ["/dev/nvidia0"])])
        return fail("devices", f"not there {where}: {names}", _for_missing(facts))
    if closed:
        found = f"can't be opened {where}: " + ", ".join(f"{node.path} ({node.why})" for node in closed)
        return fail("devices", found, _for_closed(facts))
    return ok("devices", f"{counted(len(facts.nodes), 'node')} open {where}")


def _for_missing(facts: GpuFacts) -> str:
    if facts.unit:
        return "The unit hides them: it needs PrivateDevices=no, and DeviceAllow= for char-nvidia* and nvidia-uvm."
    return "Run `nvidia-modprobe -u -c 0` as root; in a container, start it with --gpus all."


def _for_closed(facts: GpuFacts) -> str:
    if facts.unit:
        return "The unit's DeviceAllow= must name them (rw), and its user be in the group that has them."
    return "Join the group that has them (`ls -l /dev/nvidia*`); in a container, pass the devices on."
