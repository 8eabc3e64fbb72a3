"""vllmd/v1 is exactly what `make proto` makes."""

import subprocess
from pathlib import Path

import vllmd.v1

CHECKED_IN = Path(vllmd.v1.__file__).parent
ROOT = CHECKED_IN.parent.parent


def generated(directory: Path) -> dict[str, str]:
    """All generated files in *directory*, by name."""
    return {path.name: path.read_text() for path in directory.glob("*_pb2*.py*") if path.suffix in {".py", ".pyi"}}


def test_the_generated_code_is_what_the_protos_say(tmp_path: Path) -> None:
    """If a proto has changed, or somebody edited what is generated, say which files `make proto` would change."""
    subprocess.run(["make", "--silent", "proto", f"OUT={tmp_path}"], cwd=ROOT, check=True)
    expected, found = generated(tmp_path / "vllmd" / "v1"), generated(CHECKED_IN)

    assert expected, "make proto generates something"
    assert sorted(name for name in expected | found if expected.get(name) != found.get(name)) == []


def test_the_generator_is_the_pinned_one() -> None:
    """The checked-in code names the grpcio-tools of the lock, which sets the oldest grpcio that runs it."""
    lock = (ROOT / "tests" / "locks" / "proto.txt").read_text()
    stubs = generated(CHECKED_IN)["engine_service_pb2_grpc.py"]
    version = stubs.partition("GRPC_GENERATED_VERSION = '")[2].partition("'")[0]

    assert f"grpcio-tools=={version}\n" in lock
    assert f'"grpcio>={version}"' in (ROOT / "pyproject.toml").read_text()
