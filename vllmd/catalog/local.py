"""Reasons that no call brings: of a daemon that does not start, and of programs that ask none."""

from vllmd.catalog.entry import Entry
from vllmd.errors import InvalidRequest, NotFound, NotPossible

AT_START = (
    Entry(
        "ALREADY_RUNNING",
        NotPossible,
        "Another daemon has the directory or the socket.",
        "Stop it, or name other directories.",
        ("pid", "claimed"),
    ),
    Entry(
        "SOCKET_TAKEN",
        NotPossible,
        "The path of the users' socket is that of the operators'.",
        "Name another `socket`.",
        ("socket",),
    ),
    Entry(
        "NOT_A_SOCKET",
        NotPossible,
        "Something that is no socket is where the socket is to be.",
        "Move it away, or name another path.",
        ("path",),
    ),
    Entry(
        "NOT_OURS",
        NotPossible,
        "A directory of the daemon belongs to somebody else, others can write to it, or it is none.",
        "Correct its owner and mode, or name another.",
        ("directory",),
    ),
    Entry(
        "PATH_TOO_LONG",
        NotPossible,
        "The path of a socket would be longer than the kernel takes.",
        "Choose a shorter `runtime_dir`.",
    ),
    Entry(
        "NO_ENGINE_PYTHON",
        NotPossible,
        "There is no such interpreter.",
        "Name one that has vLLM as `engine_python`.",
        ("engine_python",),
    ),
    Entry(
        "LISTEN_REFUSED",
        NotPossible,
        "The address is beyond loopback without TLS or without a way to tell who connects, or is none.",
        "Set `tls_certificate`, `tls_key`, and `tls_client_ca` or `token_file`.",
        ("address",),
    ),
    Entry("LISTEN_FAILED", NotPossible, "An address can't be bound.", "See who has it, or name another."),
    Entry(
        "TLS_INCOMPLETE",
        NotPossible,
        "Of a certificate and its key one is missing.",
        "Name both.",
        ("missing",),
    ),
    Entry(
        "TLS_UNUSABLE",
        NotPossible,
        "The certificate, its key or the clients' authority can't be used.",
        "See to the files that the message names.",
        ("files",),
    ),
    Entry(
        "TOKENS_UNUSABLE",
        NotPossible,
        "The file of the tokens can't be used.",
        "Correct what the message names; nobody but its owner may write to it.",
        ("file",),
    ),
    Entry(
        "NOT_IN_GROUP",
        NotPossible,
        "A socket can't be given to a group that the daemon's user is not in.",
        "Add the user to the group, or name another.",
        ("group", "socket"),
    ),
    Entry("NO_SUCH_GROUP", NotPossible, "There is no group of that name.", "Make it, or name another.", ("group",)),
    Entry(
        "NO_CGROUPS",
        NotPossible,
        '`containment = "cgroup"` is wanted, and the daemon may make none here.',
        "Run it in a unit with `Delegate=yes`, or leave `containment` at `auto`.",
    ),
    Entry(
        "NO_MEMORY_CONTROLLER",
        NotPossible,
        "`engine_memory_max` takes the memory controller of cgroups, which is closed to the daemon.",
        "Delegate it, or unset `engine_memory_max`.",
    ),
)
"""Printed by `vllmd` and `vllmd config check`, each by the line of the setting that it is about."""

WITHOUT_DAEMON = (
    Entry(
        "INVALID_GPUS",
        InvalidRequest,
        "The text names no GPUs, or a product that is not known.",
        "Write it as `2xRTX3090`, with a name that the message gives.",
        ("gpus",),
    ),
    Entry(
        "MODEL_UNKNOWN",
        NotFound,
        "`vllmd-cli plan` knows nothing of the model: it is not in the hub's cache, and the hub was not asked.",
        "Fetch its `config.json`, or name a folder that has it.",
        ("model",),
    ),
)
"""Of `vllmd-cli plan` and `vllmd.planner`, which plan by themselves."""
