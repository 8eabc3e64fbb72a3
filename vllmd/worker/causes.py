"""Exceptions as text, which is never empty: many have a type and nothing to say, `TimeoutError` among them."""

from __future__ import annotations


def text_of(error: BaseException) -> str:
    """Say what an exception says, or what it is if it says nothing."""
    return str(error).strip() or _silent(error)


def named(error: BaseException) -> str:
    """Say what an exception is and what it says, as the last line of a traceback does."""
    text = str(error).strip()
    return f"{type(error).__name__}: {text}" if text else _silent(error)


def causes(error: BaseException) -> tuple[str, ...]:
    """List an exception and what caused it, each as `named` says it, outermost first."""
    texts: list[str] = []
    current: BaseException | None = error
    while current is not None:
        texts.append(named(current))
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return tuple(dict.fromkeys(texts))


def _silent(error: BaseException) -> str:
    return f"{type(error).__name__}, which says no more"
