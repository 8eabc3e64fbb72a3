"""What is wrong with a request, or with whoever makes it."""

from vllmd.catalog.entry import Entry
from vllmd.catalog.keys import OF_ARGUMENTS
from vllmd.errors import Denied, Exhausted, InvalidRequest, NotFound, NotPossible, Unauthenticated

ENTRIES = (
    Entry(
        "INVALID_FIELD",
        InvalidRequest,
        "A field of the request is missing, or its value can't be meant.",
        "Correct the field that `field` names; the message says what it may be.",
        ("field", "value", "bytes", "seconds", "least", "limit"),
    ),
    Entry(
        "INVALID_NAME",
        InvalidRequest,
        "A resource name is not of the form that it should be.",
        "Pass names as the API gives them, such as `engines/qwen3-8b-3f2a`.",
        ("name",),
    ),
    Entry(
        "INVALID_USE_CASE",
        InvalidRequest,
        "There is no such use case, or only a later daemon knows it.",
        "Take one of those that the message lists, or none.",
        ("field", "use_case"),
    ),
    Entry(
        "INVALID_MODEL",
        InvalidRequest,
        "The model is neither a path nor a hub id, or its `config.json` can't be read as one.",
        "Name an absolute path or an id such as `Qwen/Qwen3-8B`; fetch the model again if its files are broken.",
        ("model", "error"),
    ),
    Entry(
        "INVALID_REVISION",
        InvalidRequest,
        "The revision is no branch, tag or commit.",
        "Name one that the hub has.",
        ("revision",),
    ),
    Entry(
        "MODEL_NOT_FOUND",
        NotFound,
        "There is no such model: no directory with a configuration, no repository or no such revision on the hub, "
        "or it is private.",
        "Check the name, and who may read it; give the daemon an `HF_TOKEN` for private models.",
        ("model", "revision", "engine"),
        quotes=True,
    ),
    Entry(
        "MODEL_UNSUPPORTED",
        InvalidRequest,
        "This vLLM does not know the model's architecture, or what is there is no model: an adapter, or GGUF.",
        "Load another form of the model, or have engines run under a vLLM that knows it.",
        ("model", "engine"),
        code="UNIMPLEMENTED",
        quotes=True,
    ),
    Entry(
        "MODEL_NOT_ALLOWED",
        Denied,
        "The token that was brought is for other models.",
        "Use one of its models, or ask an operator for a token that has this one.",
        ("token", "model"),
    ),
    Entry(
        "MODEL_PATH_NOT_ALLOWED",
        Denied,
        "The path is outside of the directories that this host loads models from.",
        "Put the model below one of `model_roots`, or have an operator add its directory there.",
        ("model", "model_roots"),
    ),
    Entry(
        "ENGINE_ARG_REFUSED",
        InvalidRequest,
        "The engine argument is none that clients may set: it could run code, is unknown, or has a field of its own.",
        "Leave it out, take the nearest name that the message gives, or have an operator allow it with "
        "`--allow-engine-arg`.",
        ("argument", "value"),
    ),
    Entry(
        "INVALID_ENGINE_ARG",
        InvalidRequest,
        "An engine argument has a value that can't work: with any model, with this one, or on these GPUs.",
        "Set what the message says would work, or leave the argument open.",
        OF_ARGUMENTS,
        quotes=True,
    ),
    Entry(
        "PROMPT_TOO_LARGE",
        InvalidRequest,
        "The prompt takes more bytes than one message to an engine may.",
        "Send a shorter prompt.",
        ("bytes", "limit"),
    ),
    Entry(
        "INVALID_PROMPT_OR_PARAMS",
        InvalidRequest,
        "vLLM refused the prompt or the sampling parameters, in the words of the message.",
        "Correct what it names.",
        ("error",),
        quotes=True,
    ),
    Entry(
        "LEASE_NOT_FOUND",
        NotFound,
        "There is no such lease: it was released, it expired, or its engine ended.",
        "Load the model again, which gives a new one at once while the engine lives.",
    ),
    Entry(
        "ENGINE_NOT_FOUND",
        NotFound,
        "There is no such engine; those that ended long ago are forgotten.",
        "List the engines, or load the model again.",
        ("engine",),
    ),
    Entry(
        "ENGINE_NOT_READY",
        NotPossible,
        "The engine is still starting.",
        "Wait for it by `LoadModel`, which ends when it is ready.",
        ("engine", "state"),
    ),
    Entry(
        "PROCESS_NOT_FOUND",
        NotFound,
        "No process of that id holds GPU memory or is called like vLLM's.",
        "List the processes: `vllmd-cli ps`.",
        ("pid",),
    ),
    Entry(
        "NOT_AN_ORPHAN",
        NotPossible,
        "The process is not proven to be one that nobody answers for, and is left alone.",
        "See with `vllmd-cli ps` what is missing; end it by yourself if you know better.",
        ("pid", "verdict", "error"),
    ),
    Entry(
        "OPERATOR_NEEDED",
        Denied,
        "The RPC is for operators, and the caller came as a user.",
        "Come by `admin.sock`, or with a token of the role `operator`.",
        ("method", "role", "needed", "way"),
    ),
    Entry(
        "TOKEN_MISSING",
        Unauthenticated,
        "This listener takes a token, and the call brought none.",
        "Send `authorization: Bearer TOKEN` as metadata; ours take `VLLMD_TOKEN`.",
        ("way",),
    ),
    Entry(
        "TOKEN_UNKNOWN",
        Unauthenticated,
        "There is no such token: it was withdrawn, or is cut short.",
        "Ask an operator for one: `vllmd token new`.",
        ("way",),
    ),
    Entry(
        "TOO_MANY_REQUESTS",
        Exhausted,
        "The token has as many generations running as it may.",
        "Wait for one of them to end.",
        ("token", "running", "limit"),
    ),
)
"""Of a call that would be refused on any host in any state, or for this caller."""
