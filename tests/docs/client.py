"""docs/client-reference.md, made of the docstrings of what `vllmd.client` exports."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import is_dataclass
from types import ModuleType
from typing import Any

from google.protobuf.message import Message

import vllmd.client

_WIDTH = 100
_INTRO = """\
# Client reference

<!-- Made of the docstrings of vllmd.client: make docs -->

What `vllmd.client` exports. The reasons of errors are in [errors.md](errors.md), what engines and leases are in
[concepts.md](concepts.md).
"""
_MESSAGES = """\
## Messages

Those of the daemon's own that come most often, by the name that they have in the API. Their fields that are one of
several values are numbers, which the message names: `engine.state == Engine.STATE_READY`.
"""


def page(module: ModuleType = vllmd.client) -> str:
    """Write the page: the module's own words, then classes, functions and the rest, each by name."""
    home = module.__name__.partition(".")[0] + "."
    things = {name: getattr(module, name) for name in sorted(module.__all__)}
    messages = [name for name, thing in things.items() if inspect.isclass(thing) and issubclass(thing, Message)]
    own = [
        name
        for name, thing in things.items()
        if inspect.isclass(thing) and thing.__module__.startswith(home) and name not in messages
    ]
    classes = [name for name in own if not _is_error(things[name])]
    errors = [name for name, thing in things.items() if _is_error(thing)]
    functions = [name for name, thing in things.items() if inspect.isfunction(thing)]
    rest = [name for name in things if name not in {*classes, *errors, *functions, *messages}]
    parts = [_INTRO, _text(module)]
    parts += [part for name in classes for part in _class(name, things[name], home)]
    parts += [_function("##", name, things[name]) for name in functions]
    parts += ["## Errors\n"] * bool(errors) + [
        part for name in errors for part in _class(name, things[name], home, "###")
    ]
    parts += [_MESSAGES] * bool(messages) + [
        f"### {name}\n\n[`vllmd.v1.{name}`](api.md#{name.lower()})\n" for name in messages
    ]
    parts += ["## Types\n"] * bool(rest) + [_alias(name, things[name]) for name in rest]
    return "\n".join(parts)


def _is_error(thing: object) -> bool:
    return inspect.isclass(thing) and issubclass(thing, BaseException)


def _class(name: str, kind: type, home: str, level: str = "##") -> Iterator[str]:
    bases = [base.__name__ for base in kind.__bases__ if base.__module__.startswith(home)]
    kin = f"A kind of {', '.join(f'`{base}`' for base in bases)}.\n\n" if bases else ""
    makes = vars(kind).get("__init__")
    # A dataclass has one without source: its fields say it.
    shown = f"```\n{name}{_signature(makes)}\n```\n" if makes is not None and not is_dataclass(kind) else ""
    yield "\n".join(filter(None, [f"{level} {name}\n", shown, kin + _text(kind)]))
    if fields := list(_fields(kind)):
        yield "\n".join(["| field | type | |", "|---|---|---|", *fields, ""])
    for member, thing in inspect.getmembers(kind, lambda one: not isinstance(one, type)):
        if (
            member.startswith("_")
            or member not in _own(kind, home)
            or _raw(kind, member).__class__.__name__ == "member_descriptor"
        ):
            continue
        if isinstance(thing, property):
            yield f"{level}# {name}.{member}\n\n{_text(thing)}"
        elif inspect.isroutine(thing):
            yield _function(f"{level}#", f"{name}.{member}", thing)


def _own(kind: type, home: str) -> set[str]:
    """Name what a class has of the package's own, its bases there included."""
    return {name for base in kind.__mro__ if base.__module__.startswith(home) for name in vars(base)}


def _raw(kind: type, name: str) -> object:
    return next(vars(base)[name] for base in kind.__mro__ if name in vars(base))


def _function(level: str, name: str, function: Any) -> str:
    word = "async " if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function) else ""
    call = name.rpartition(".")[2] if "." in name else name
    return f"{level} {name}\n\n```\n{word}{call}{_signature(function)}\n```\n\n{_text(function)}"


def _signature(function: Any) -> str:
    """Show how it is called, as its source says it, with one parameter a line where it would be long."""
    node = _source(inspect.unwrap(function))
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    back = f" -> {ast.unparse(node.returns)}" if node.returns is not None else ""
    parts = [part for part in _parameters(node.args) if part not in ("self", "cls")]
    line = f"({', '.join(parts)}){back}"
    return line if len(line) < _WIDTH else "(\n" + "".join(f"    {part},\n" for part in parts) + f"){back}"


def _parameters(given: ast.arguments) -> Iterator[str]:
    """List parameters as they stand between the brackets, the marks between them included."""
    plain = [*given.posonlyargs, *given.args]
    defaults = [*[None] * (len(plain) - len(given.defaults)), *given.defaults]
    for number, (one, default) in enumerate(zip(plain, defaults, strict=True)):
        yield _parameter(one, default)
        if number + 1 == len(given.posonlyargs):
            yield "/"
    if given.vararg is not None:
        yield f"*{ast.unparse(given.vararg)}"
    elif given.kwonlyargs:
        yield "*"
    yield from map(_parameter, given.kwonlyargs, given.kw_defaults)
    if given.kwarg is not None:
        yield f"**{ast.unparse(given.kwarg)}"


def _parameter(one: ast.arg, default: ast.expr | None) -> str:
    if default is None:
        return ast.unparse(one)
    return f"{ast.unparse(one)} = {ast.unparse(default)}" if one.annotation else f"{one.arg}={ast.unparse(default)}"


def _source(thing: Any) -> ast.stmt:
    return ast.parse(textwrap.dedent(inspect.getsource(thing))).body[0]


def _fields(kind: type) -> Iterator[str]:
    """List the attributes that a class declares, each with the words below it."""
    try:
        tree = _source(kind)
    except (OSError, TypeError):
        return
    assert isinstance(tree, ast.ClassDef)
    inits = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "__init__"]
    for body in (tree.body, *(init.body for init in inits)):
        for node, after in zip(body, [*body[1:], None], strict=True):
            name, kind_of = _declared(node)
            words = _words(after)
            # What `__init__` sets is told of where it says what it is; the rest are its parameters.
            if name and not name.startswith("_") and (words or body is tree.body):
                cells = [f"`{name}`", f"`{kind_of}`" if kind_of else "", words]
                yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _declared(node: ast.stmt) -> tuple[str, str]:
    """Tell which attribute a statement declares, and as what; nothing if it declares none."""
    match node:
        case ast.AnnAssign(target=ast.Name(id=name), annotation=kind):
            return name, ast.unparse(kind)
        case ast.AnnAssign(target=ast.Attribute(value=ast.Name(id="self"), attr=name), annotation=kind):
            return name, ast.unparse(kind)
        case ast.Assign(targets=[ast.Attribute(value=ast.Name(id="self"), attr=name)]):
            return name, ""
    return "", ""


def _words(node: ast.stmt | None) -> str:
    said = node.value if isinstance(node, ast.Expr) else None
    return " ".join(said.value.split()) if isinstance(said, ast.Constant) and isinstance(said.value, str) else ""


def _alias(name: str, thing: object) -> str:
    shown = inspect.formatannotation(thing)
    return f"### {name}\n\n```\n{name} = {shown}\n```\n"


def _text(thing: Any) -> str:
    """Its docstring as Markdown: what is set in is code, but for the sections that say what goes in and what comes."""
    said = inspect.getdoc(thing) if not inspect.ismodule(thing) else inspect.cleandoc(thing.__doc__ or "")
    blocks, section = [], ""
    for line in (said or "").splitlines():
        if line in ("Args:", "Raises:", "Returns:", "Yields:", "Attributes:"):
            section = line
            blocks += [f"**{line.removesuffix(':')}**", ""]
        elif section and line.startswith("    "):
            deeper = line.startswith("     ")
            head, colon, rest = line.strip().partition(": ")
            is_item = not deeper and colon and section not in ("Returns:", "Yields:")
            blocks.append(f"  {line.strip()}" if deeper else f"* `{head}`: {rest}" if is_item else line.strip())
        else:
            section = "" if line else section
            blocks.append(line)
    return "\n".join(blocks).rstrip() + "\n"
