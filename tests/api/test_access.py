from __future__ import annotations

import pytest

from tests.fakes.methods import methods
from vllmd.api.access import RULES, Role, check, needed
from vllmd.errors import Denied

STOP = "/vllmd.v1.HostService/StopEngine"


def test_every_method_has_a_rule() -> None:
    """Who adds an RPC decides whose it is; a rule for none is a slip of the pen."""
    known = {*methods(), "/grpc.health.v1.Health/List"}  # which the oldest gRPC that we run with has not

    assert known == set(RULES)


def test_what_users_may() -> None:
    """All of EngineService, and of HostService what only reads and quotes nobody."""
    of_users = {name.rpartition("/")[2] for name, role in RULES.items() if role is Role.USER and "HostService" in name}

    assert all(role is Role.USER for name, role in RULES.items() if "HostService" not in name)
    assert of_users == {"GetStatus", "ListGpus", "ListGpuProcesses", "ListProfiles"}


@pytest.mark.parametrize("method", sorted(RULES))
def test_operators_may_all(method: str) -> None:
    """A role has what those before it have."""
    check(method, Role.OPERATOR, "admin.sock", "")


def test_a_denial_says_what_to_do() -> None:
    """Which method it is about, what one is and by what, and where it would work."""
    with pytest.raises(Denied, match=r"StopEngine is for operators, .* vllmd.sock is a user. Use the other.") as denied:
        check(STOP, Role.USER, "vllmd.sock", "Use the other.")

    assert denied.value.reason == "OPERATOR_NEEDED"
    assert denied.value.metadata == {
        "method": "StopEngine",
        "role": "user",
        "needed": "operator",
        "way": "vllmd.sock",
    }


def test_what_has_no_rule_is_closed() -> None:
    """To users: a method that somebody forgot, or that is none."""
    assert needed("/vllmd.v1.HostService/New") is Role.OPERATOR


def test_roles_are_found_by_their_names() -> None:
    """As people write them."""
    assert [Role.named(str(role)) for role in Role] == [Role.USER, Role.OPERATOR]
    with pytest.raises(KeyError):
        Role.named("god")
