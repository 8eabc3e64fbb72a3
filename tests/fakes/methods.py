"""Every RPC that the daemon has, by the descriptors of its services."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from vllmd.v1 import engine_service_pb2, host_service_pb2

FILES: tuple[Any, ...] = (
    engine_service_pb2.DESCRIPTOR,
    host_service_pb2.DESCRIPTOR,
    health_pb2.DESCRIPTOR,
    reflection_pb2.DESCRIPTOR,
)


def methods() -> Iterator[str]:
    """List them as gRPC calls them."""
    for file in FILES:
        for service in file.services_by_name.values():
            yield from (f"/{service.full_name}/{method.name}" for method in service.methods)
