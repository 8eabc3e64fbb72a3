"""The sampling parameters as options; those that are not given stay the model's own default."""

from __future__ import annotations

from typing import Annotated, Any

import typer

_PANEL = "Sampling (default: the model's own)"


_INT32 = 2**31 - 1
_INT64 = 2**63 - 1


def _option(*names: str, help: str, metavar: str | None = None, most: int | None = None) -> Any:
    """An option; of whole numbers only those up to *most* can be sent, and their negatives."""
    least = None if most is None else -most
    return typer.Option(
        *names, help=help, metavar=metavar, min=least, max=most, rich_help_panel=_PANEL, show_default=False
    )


MaxTokens = Annotated[int | None, _option("--max-tokens", metavar="N", most=_INT32, help="Most tokens.")]
MinTokens = Annotated[
    int | None, _option("--min-tokens", metavar="N", most=_INT32, help="Fewest tokens before an end counts.")
]
Temperature = Annotated[float | None, _option("--temperature", metavar="X", help="Randomness; 0 is greedy.")]
TopP = Annotated[float | None, _option("--top-p", metavar="X", help="Sample the likeliest tokens up to this sum.")]
TopK = Annotated[
    int | None, _option("--top-k", metavar="N", most=_INT32, help="Sample the N likeliest tokens; 0 is all.")
]
MinP = Annotated[float | None, _option("--min-p", metavar="X", help="Least share of the likeliest token's chance.")]
PresencePenalty = Annotated[
    float | None, _option("--presence-penalty", metavar="X", help="Against tokens that have appeared.")
]
FrequencyPenalty = Annotated[
    float | None, _option("--frequency-penalty", metavar="X", help="Against tokens by how often they appeared.")
]
RepetitionPenalty = Annotated[
    float | None, _option("--repetition-penalty", metavar="X", help="Factor against repetition; 1 is none.")
]
Seed = Annotated[int | None, _option("--seed", metavar="N", most=_INT64, help="Seed of the random numbers.")]
Stop = Annotated[list[str] | None, _option("--stop", metavar="TEXT", help="End before this text. May be repeated.")]
StopTokenIds = Annotated[
    list[int] | None, _option("--stop-token-id", metavar="N", most=_INT32, help="End at this token. May be repeated.")
]
IgnoreEos = Annotated[bool, _option("--ignore-eos", help="Go on after the model's end token.")]
KeepSpecialTokens = Annotated[bool, _option("--keep-special-tokens", help="Leave special tokens in the text.")]
