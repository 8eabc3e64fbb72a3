from __future__ import annotations

import copy
import inspect
import pickle
from types import ModuleType

import grpc
import pytest

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


EVERYTHING = errors.EngineFailed(
    grpc.StatusCode.INTERNAL,
    "ENGINE_DIED",
    "it died",
    {"engine": "a-1"},
    1.5,
    log_lines=("no memory",),
    violations=(("text", "is empty"),),
)
UNREACHABLE = errors.DaemonUnreachable("unix:/s", "it is away", request_sent=False, was_there=True)


@pytest.mark.parametrize("error", [EVERYTHING, UNREACHABLE], ids=repr)
def test_copy_says_the_same(error: errors.VllmdError) -> None:
    """Whatever is known of it, and not where it was raised; it goes to another process as well."""
    with pytest.raises(type(error)) as caught:
        raise error

    for other in (copy.copy(caught.value), pickle.loads(pickle.dumps(caught.value))):
        assert type(other) is type(error)
        assert (str(other), vars(other)) == (str(error), vars(error))
        assert (other.__traceback__, other.__context__) == (None, None)
