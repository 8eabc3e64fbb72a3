"""The option that says what a model is for."""

from __future__ import annotations

import enum
from typing import Annotated

import typer


class Name(enum.StrEnum):
    """What a model is loaded for; the planner's `use_cases` says what follows from each."""

    PRODUCTION = "production"
    DOWNLOAD = "download"
    DEBATE = "debate"
    LATENCY = "latency"
    THROUGHPUT = "throughput"


UseCase = Annotated[
    Name | None,
    typer.Option(
        "--use-case",
        metavar="NAME",
        help="What it is for; the arguments that you leave open are chosen to suit. `production`: the most throughput "
        "for one model; `download`: one model after another; `debate`: several models at once, each on a GPU of its "
        "own; `latency`: the shortest time to the next token; `throughput`: the most tokens over many clients.",
        show_default=False,
    ),
]
