from __future__ import annotations

import asyncio
import contextvars

import pytest

from tests.fakes.host import QUICK, Host
from vllmd.api.access import Role
from vllmd.api.callers import Caller, current
from vllmd.api.methods import Methods
from vllmd.api.tokens import Token
from vllmd.errors import Denied, NotFound
from vllmd.scheduler.wish import Wish

ADAPTED = Wish("fake/model", engine_args=QUICK, lora={"ours": "/srv/adapters/a", "theirs": "/home/b"})


def limited(*models: str) -> Caller:
    """Somebody with a token for some models."""
    token = Token(name="ci", digest="", role=Role.USER, models=models)
    return Caller(role=token.role, way="127.0.0.1:1", token=token)


async def test_a_token_is_for_adapters_by_their_paths() -> None:
    """Whoever has loaded them: as models they are files that somebody may be kept from."""
    async with Host() as host:
        entry, lease = await host.load(ADAPTED)
        methods = Methods(host.scheduler)

        async def as_limited() -> None:
            current.set(limited("fake/*", "/srv/adapters/*"))
            methods._check_adapter(lease.id, "", "")
            methods._check_adapter(lease.id, "", "ours")
            methods._check_adapter("", entry.supervisor.id, "ours")
            methods._check_wish(Wish("fake/model", lora={"a": "/srv/adapters/a"}))
            with pytest.raises(Denied, match="/home/b"):
                methods._check_adapter(lease.id, "", "theirs")
            with pytest.raises(Denied, match="/home/b"):
                methods._check_wish(ADAPTED)
            with pytest.raises(Denied, match="other/model"):
                methods._check_wish(Wish("other/model"))

        await asyncio.get_running_loop().create_task(as_limited(), context=contextvars.copy_context())
        methods._check_adapter(lease.id, "", "theirs")
        methods._check_wish(ADAPTED)


async def test_an_adapter_of_nothing_is_not_found() -> None:
    """Whether the lease, the engine or the adapter is what there is not."""
    async with Host() as host:
        entry, lease = await host.load(ADAPTED)
        methods = Methods(host.scheduler)
        for lease_id, engine_id, name, reason in (
            ("none", "", "ours", "LEASE_NOT_FOUND"),
            ("", "none", "ours", "ENGINE_NOT_FOUND"),
            (lease.id, "", "none", "LORA_NOT_FOUND"),
            ("", entry.supervisor.id, "none", "LORA_NOT_FOUND"),
        ):
            with pytest.raises(NotFound) as refused:
                methods._check_adapter(lease_id, engine_id, name)
            assert refused.value.reason == reason
