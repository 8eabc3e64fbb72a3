"""What the journal keeps: fields to search by, priorities, and no secret."""

from __future__ import annotations

import hashlib

from tests.systemd.unit import BY_PIP, entries, unit
from vllmd.v1 import engine_service_pb2
from vllmd.v1.engine_service_pb2_grpc import EngineServiceStub


def test_events_are_found_by_engine_model_and_lease() -> None:
    """By systemd-python: every step of an engine's life, and a lease by a digest that does not give it away."""
    with unit() as started:
        loaded = started.load("its/model")
        name, lease = loaded.engine.name.removeprefix("engines/"), loaded.lease.name
        request = engine_service_pb2.ReleaseRequest(lease=lease)
        EngineServiceStub(started.channel).Release(request, timeout=30)
        started.systemctl("stop")
        digest = hashlib.sha256(lease.removeprefix("leases/").encode()).hexdigest()[:12]
        of_engine, of_lease = entries(f"ENGINE={name}"), entries(f"LEASE={digest}")
        everything = str(entries("_SYSTEMD_UNIT=vllmd.service"))
        gpu = next(entry["GPU"] for entry in of_engine if "GPU" in entry)

        assert {entry["MODEL"] for entry in of_engine if "MODEL" in entry} == {"its/model"}
        assert next(entry["EVENT"] for entry in of_engine if "EVENT" in entry) == "ENGINE"
        assert {entry["SYSLOG_IDENTIFIER"] for entry in of_engine} == {"vllmd"}
        assert any("STARTING -> READY" in entry["MESSAGE"] for entry in of_engine)
        assert gpu.startswith("GPU-SIM-")
        assert [entry["MESSAGE"].partition(": ")[2] for entry in of_lease] == [
            f"there is a new lease on engine {name}",
            f"a lease on engine {name} was released",
        ]
        assert lease.removeprefix("leases/") not in everything


def test_lines_have_priorities_without_a_library() -> None:
    """The journal takes them off the lines."""
    with unit("--log-level debug", programs=BY_PIP) as started:
        started.load("plain/model")
        written = entries("_SYSTEMD_UNIT=vllmd.service", f"_PID={started.pid}")

        assert {entry["PRIORITY"] for entry in written} >= {"6", "7"}
        assert not [entry for entry in written if str(entry["MESSAGE"]).startswith("<")]
        assert any(
            "plain/model" in str(entry["MESSAGE"]) or "STARTING -> READY" in entry["MESSAGE"] for entry in written
        )
