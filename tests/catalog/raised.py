"""Finds in the source of vllmd which reasons are raised, and as what."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import vllmd
from vllmd.errors import VllmdError

ROOT = Path(vllmd.__file__).parent
ELSEWHERE = ("client", "v1", "worker")
"""The client has errors of its own, made of what the daemon says; the worker runs without the rest."""

ERRORS = {kind.__name__ for kind in VllmdError.__subclasses__()}
TABLE = "engines/known_errors.py"
OF_NO_CLASS = {"Failure", "Infeasible", "_known"}
"""What becomes an error later, of the class that the catalogue has."""


@dataclasses.dataclass(frozen=True)
class Raised:
    """One place where something with a reason is made."""

    where: str
    """Such as `api/parse.py:42`."""
    function: str
    """Such as `api/parse.py:wish`; empty for the module itself."""
    kind: str
    reasons: tuple[str, ...]
    """All that it may be; none if the source does not tell."""


def raised() -> Iterator[Raised]:
    """List all such places."""
    for path in sorted(ROOT.rglob("*.py")):
        name = path.relative_to(ROOT)
        if name.parts[0] not in ELSEWHERE:
            yield from _in_module(str(name), ast.parse(path.read_text()))


def _in_module(name: str, module: ast.Module) -> Iterator[Raised]:
    functions = [node for node in ast.walk(module) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    for call in (node for node in ast.walk(module) if isinstance(node, ast.Call)):
        kind = call.func.id if isinstance(call.func, ast.Name) else ""
        named = kind in ERRORS | OF_NO_CLASS and (kind != "_known" or name == TABLE)
        reason = _reason_of(call) if named else None
        if reason is None:
            continue
        around = [one for one in functions if one.lineno <= call.lineno <= (one.end_lineno or 0)]
        inner = max(around, key=lambda one: one.lineno, default=None)
        found = tuple(_values(reason, inner)) or tuple(_values(reason, module))
        yield Raised(f"{name}:{call.lineno}", f"{name}:{inner.name if inner else ''}", kind, found)


def _reason_of(call: ast.Call) -> ast.expr | None:
    assert isinstance(call.func, ast.Name)
    place = 1 if call.func.id == "_known" else 0
    named = [keyword.value for keyword in call.keywords if keyword.arg == "reason"]
    return call.args[place] if len(call.args) > place else next(iter(named), None)


def _values(expression: ast.expr, scope: ast.AST | None) -> Iterator[str]:
    """List the texts that an expression may be: a literal, a choice of some, or a name that is given such."""
    match expression:
        case ast.Constant(value=str() as text):
            yield text
        case ast.IfExp(body=one, orelse=other):
            yield from _values(one, scope)
            yield from _values(other, scope)
        case ast.Name(id=name) if scope is not None:
            for node in ast.walk(scope):
                if isinstance(node, ast.Assign) and any(
                    isinstance(to, ast.Name) and to.id == name for to in node.targets
                ):
                    yield from _values(node.value, None)
