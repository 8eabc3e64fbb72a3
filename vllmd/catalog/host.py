"""What is wrong with the host or the daemon."""

from vllmd.catalog.entry import Entry
from vllmd.errors import EngineFailed, Exhausted, Unavailable

ENTRIES = (
    Entry(
        "DRAINING",
        Unavailable,
        "The daemon is shutting down and takes no new work.",
        "Try again once the next one serves, or elsewhere.",
    ),
    Entry(
        "UPGRADING",
        Unavailable,
        "The daemon executes its new code; engines stay.",
        "Try again at once.",
        ("engine",),
    ),
    Entry(
        "QUEUE_FULL",
        Exhausted,
        "Too many engines wait for their GPUs already.",
        "Try again later, and have fewer models loaded at once.",
        ("limit",),
    ),
    Entry(
        "TOO_MANY_LEASES",
        Exhausted,
        "There are as many leases as there may be.",
        "Release those that nobody needs.",
        ("limit",),
    ),
    Entry(
        "NVML_UNAVAILABLE",
        Unavailable,
        "There may be GPUs, and the driver can't tell now, so nothing is placed.",
        "See to the driver: `vllmd-cli doctor`.",
        ("error", "engine"),
        retry_seconds=5.0,
    ),
    Entry(
        "GPU_QUARANTINED",
        Unavailable,
        "The GPUs that it would take are left alone until memory that was lost on them is back.",
        "See with `vllmd-cli verify` what is stuck there; a reset of the GPU may be needed.",
        ("wanted_gpus", "gpus", "gpus_away", "engine"),
        retry_seconds=5.0,
    ),
    Entry(
        "GPU_LOST",
        Unavailable,
        "A GPU fell off the bus: the engine on it has failed, or none is left to place one on.",
        "See with `vllmd-cli status` which, and what the driver says; a reset or a reboot brings it back.",
        ("gpu", "error", "wanted_gpus", "gpus", "gpus_away", "engine"),
        retry_seconds=1.0,
    ),
    Entry(
        "PROFILES_NOT_WRITTEN",
        Unavailable,
        "What was to be forgotten is, until the daemon starts again: its file can't be written.",
        "See to the state directory, and forget it once more.",
        ("path",),
    ),
    Entry(
        "INTERNAL",
        EngineFailed,
        "The daemon failed at this call, by a mistake of its own.",
        "The daemon's log has the traceback: report it.",
    ),
)
"""Of the daemon, and of the GPUs as a whole."""
