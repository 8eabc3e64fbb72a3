"""The sampling parameters as options; those that are not given stay the model's own default."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import typer

from vllmd.cli.options import structured
from vllmd.cli.options.numbers import INT32, INT64, within
from vllmd.cli.options.structured import Structured

_PANEL = "Sampling (default: the model's own)"


def _option(*names: str, help: str, metavar: str | None = None, most: int | None = None) -> Any:
    """An option; of whole numbers only those up to *most* can be sent, and their negatives."""
    callback = None if most is None else within(most)
    return typer.Option(
        *names, help=help, metavar=metavar, callback=callback, rich_help_panel=_PANEL, show_default=False
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How tokens are chosen and when generation ends, as it was typed."""

    max_tokens: Annotated[int | None, _option("--max-tokens", metavar="N", most=INT32, help="Most tokens.")] = None
    min_tokens: Annotated[
        int | None, _option("--min-tokens", metavar="N", most=INT32, help="Fewest tokens before an end counts.")
    ] = None
    temperature: Annotated[float | None, _option("--temperature", metavar="X", help="Randomness; 0 is greedy.")] = None
    top_p: Annotated[
        float | None, _option("--top-p", metavar="X", help="Sample the likeliest tokens up to this sum.")
    ] = None
    top_k: Annotated[
        int | None, _option("--top-k", metavar="N", most=INT32, help="Sample the N likeliest tokens; 0 is all.")
    ] = None
    min_p: Annotated[
        float | None, _option("--min-p", metavar="X", help="Least share of the likeliest token's chance.")
    ] = None
    presence_penalty: Annotated[
        float | None, _option("--presence-penalty", metavar="X", help="Against tokens that have appeared.")
    ] = None
    frequency_penalty: Annotated[
        float | None, _option("--frequency-penalty", metavar="X", help="Against tokens by how often they appeared.")
    ] = None
    repetition_penalty: Annotated[
        float | None, _option("--repetition-penalty", metavar="X", help="Factor against repetition; 1 is none.")
    ] = None
    seed: Annotated[int | None, _option("--seed", metavar="N", most=INT64, help="Seed of the random numbers.")] = None
    stop: Annotated[
        list[str] | None, _option("--stop", metavar="TEXT", help="End before this text. May be repeated.")
    ] = None
    include_stop: Annotated[bool, _option("--include-stop", help="Leave the stop text in the answer.")] = False
    stop_token_id: Annotated[
        list[int] | None,
        _option("--stop-token-id", metavar="N", most=INT32, help="End at this token. May be repeated."),
    ] = None
    ignore_eos: Annotated[bool, _option("--ignore-eos", help="Go on after the model's end token.")] = False
    bad_word: Annotated[
        list[str] | None, _option("--bad-word", metavar="TEXT", help="Never generate this. May be repeated.")
    ] = None
    logit_bias: Annotated[
        list[str] | None,
        _option("--logit-bias", metavar="N=X", help="Add X (-100 to 100) to the logit of token N. May be repeated."),
    ] = None
    allowed_token_id: Annotated[
        list[int] | None,
        _option("--allowed-token-id", metavar="N", most=INT32, help="Generate no other tokens. May be repeated."),
    ] = None
    keep_special_tokens: Annotated[bool, _option("--keep-special-tokens", help="Leave special tokens in the text.")] = (
        False
    )
    no_special_spaces: Annotated[
        bool, _option("--no-special-spaces", help="Put no spaces between special tokens that stay in the text.")
    ] = False
    truncate_prompt_tokens: Annotated[
        int | None,
        _option("--truncate-prompt-tokens", metavar="N", most=INT32, help="Keep the last N tokens of the prompt."),
    ] = None
    json_schema: structured.JsonSchema = None
    json_object: structured.JsonObject = False
    regex: structured.Regex = None
    choice: structured.Choice = None
    grammar: structured.Grammar = None
    structural_tag: structured.StructuralTag = None
    disable_any_whitespace: structured.DisableAnyWhitespace = False

    def options(self) -> dict[str, Any]:
        """Name what was given as the client does.

        Raises:
            typer.BadParameter: something is not what its option takes.
        """
        wanted = {
            "max_tokens": self.max_tokens,
            "min_tokens": self.min_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": self.top_k,
            "min_p": self.min_p,
            "presence_penalty": self.presence_penalty,
            "frequency_penalty": self.frequency_penalty,
            "repetition_penalty": self.repetition_penalty,
            "seed": self.seed,
            "stop": self.stop or None,
            "include_stop_str_in_output": self.include_stop or None,
            "stop_token_ids": self.stop_token_id or None,
            "ignore_eos": self.ignore_eos or None,
            "bad_words": self.bad_word or None,
            "logit_bias": dict(map(_bias, self.logit_bias or [])) or None,
            "allowed_token_ids": self.allowed_token_id or None,
            "skip_special_tokens": False if self.keep_special_tokens else None,
            "spaces_between_special_tokens": False if self.no_special_spaces else None,
            "truncate_prompt_tokens": self.truncate_prompt_tokens,
            "structured_outputs": self._constraint().wish() or None,
        }
        return {name: value for name, value in wanted.items() if value is not None}

    def _constraint(self) -> Structured:
        return Structured(
            json_schema=self.json_schema,
            json_object=self.json_object,
            regex=self.regex,
            choice=self.choice,
            grammar=self.grammar,
            structural_tag=self.structural_tag,
            disable_any_whitespace=self.disable_any_whitespace,
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Returned:
    """What comes back beside one text, as it was typed."""

    n: Annotated[int | None, _option("-n", metavar="N", most=INT32, help="How many completions, 1 to 64.")] = None
    logprobs: Annotated[
        int | None,
        _option(
            "--logprobs",
            metavar="N",
            most=INT32,
            help="Tell the log probabilities of the N likeliest tokens, with `-o json`; 0 is the chosen one alone.",
        ),
    ] = None
    prompt_logprobs: Annotated[
        int | None, _option("--prompt-logprobs", metavar="N", most=INT32, help="Likewise, of the prompt's tokens.")
    ] = None

    def options(self) -> dict[str, Any]:
        """Name what was given as the client does."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}

    def only_in_json(self) -> list[str]:
        """Name the options that were given of which people see nothing."""
        given = {"--logprobs": self.logprobs, "--prompt-logprobs": self.prompt_logprobs}
        return [name for name, value in given.items() if value is not None]


def _bias(item: str) -> tuple[int, float]:
    token, equals, bias = item.partition("=")
    try:
        number = int(token)
        if equals and 0 <= number <= INT32:
            return number, float(bias)
    except ValueError:
        pass  # said below
    raise typer.BadParameter(f"{item!r} is not N=X, a token's id and a number", param_hint="--logit-bias")
