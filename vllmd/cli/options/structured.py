"""What a text has to be like, as options: a JSON schema, a regular expression, a choice, a grammar."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from typing import Annotated, Any

import typer

from vllmd.cli.options.inputs import read_file, read_json

_PANEL = "Structured output (one of these)"


def _option(*names: str, help: str, metavar: str | None = None) -> Any:
    return typer.Option(*names, help=help, metavar=metavar, rich_help_panel=_PANEL, show_default=False)


JsonSchema = Annotated[
    pathlib.Path | None, _option("--json-schema", metavar="FILE", help="JSON that fits the schema in this file.")
]
JsonObject = Annotated[bool, _option("--json-object", help="Any JSON object.")]
Regex = Annotated[str | None, _option("--regex", metavar="REGEX", help="Text that this matches from end to end.")]
Choice = Annotated[
    list[str] | None, _option("--choice", metavar="TEXT", help="One of these texts; repeat it for each.")
]
Grammar = Annotated[
    str | None,
    _option("--grammar", metavar="EBNF", help="Text that follows this grammar; `@FILE` reads it from a file."),
]
StructuralTag = Annotated[
    pathlib.Path | None,
    _option("--structural-tag", metavar="FILE", help="Structure between tags, in vLLM's form, from this file."),
]
DisableAnyWhitespace = Annotated[
    bool, _option("--disable-any-whitespace", help="JSON without whitespace where it means nothing.")
]

_NAMES = {
    "json_schema": "--json-schema",
    "json_object": "--json-object",
    "regex": "--regex",
    "choice": "--choice",
    "grammar": "--grammar",
    "structural_tag": "--structural-tag",
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Structured:
    """What was typed."""

    json_schema: pathlib.Path | None = None
    json_object: bool = False
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None
    structural_tag: pathlib.Path | None = None
    disable_any_whitespace: bool = False

    def wish(self) -> dict[str, Any]:
        """Name it as the client does; empty if nothing was asked for.

        Raises:
            typer.BadParameter: several things were, or a file can't be used.
        """
        given = [name for name in _NAMES if getattr(self, name) not in (None, False, [])]
        if len(given) > 1:
            first, second = (_NAMES[name] for name in given[:2])
            raise typer.BadParameter(f"it can't be given together with {first}", param_hint=second)
        if not given:
            if self.disable_any_whitespace:
                hint = "--disable-any-whitespace"
                raise typer.BadParameter("is for --json-schema and --json-object", param_hint=hint)
            return {}
        wish = self._constraint(given[0])
        return wish | {"disable_any_whitespace": True} if self.disable_any_whitespace else wish

    def _constraint(self, name: str) -> dict[str, Any]:
        match name:
            case "json_schema":
                return {"json": _json_file(self.json_schema or pathlib.Path(), _NAMES[name])}
            case "structural_tag":
                return {"structural_tag": _json_file(self.structural_tag or pathlib.Path(), _NAMES[name])}
            case "grammar" if (self.grammar or "").startswith("@"):
                return {"grammar": read_file(pathlib.Path((self.grammar or "")[1:]), "--grammar")}
            case _:
                return {name: getattr(self, name)}


def _json_file(path: pathlib.Path, option: str) -> str:
    return json.dumps(read_json(path, option), ensure_ascii=False)
