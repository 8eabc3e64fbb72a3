from __future__ import annotations

import inspect
from types import ModuleType

import vllmd.client
import vllmd.errors
from vllmd.client import errors


def classes(module: ModuleType) -> dict[str, type]:
    """The classes that a module defines, by name."""
    return {
        name: value
        for name, value in vars(module).items()
        if inspect.isclass(value) and value.__module__ == module.__name__
    }


def test_names_are_those_of_the_daemon() -> None:
    """Whatever the daemon raises, the client raises by the same name, and two more of its own."""
    assert classes(errors).keys() - classes(vllmd.errors).keys() == {"DaemonUnreachable", "DeadlineExceeded"}
    assert classes(vllmd.errors).keys() <= classes(errors).keys()


def test_all_are_of_one_family() -> None:
    """`except VllmdError` catches every one, and all can be imported from where people look."""
    for name, error in classes(errors).items():
        assert issubclass(error, errors.VllmdError)
        assert getattr(vllmd.client, name) is error

    assert issubclass(errors.DaemonUnreachable, errors.Unavailable)
