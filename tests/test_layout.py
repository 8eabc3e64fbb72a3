"""The shape of the tree: what lies where, what is tested where, and how long a file may be."""

from pathlib import Path

ROOT = Path(__file__).parent.parent
TOP_LEVEL = {
    "CHANGELOG.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "docs",
    "proto",
    "pyproject.toml",
    "systemd",
    "tests",
    "vllmd",
}
MADE_BY_TOOLS = {"build", "dist"}
LONGEST_FILE = 300
GENERATED = ROOT / "vllmd" / "v1"
WITHOUT_TESTS_OF_THEIR_OWN = {"__init__.py", "__main__.py", "ground.py", "backend.py"}
"""The last two only declare what others fill in."""


def modules(package: str) -> list[Path]:
    """Every hand-written Python file below *package*, relative to the root."""
    found = (path for path in (ROOT / package).rglob("*.py") if GENERATED not in path.parents)
    return sorted(path.relative_to(ROOT) for path in found)


def sibling(module: Path) -> Path:
    """Where the tests of *module* lie: vllmd/planner/planning.py is tested by tests/planner/test_planning.py."""
    return Path("tests", *module.parts[1:-1], f"test_{module.name}")


def lines(path: Path) -> int:
    """How many lines *path* has, given relative to the root."""
    return len((ROOT / path).read_text().splitlines())


def test_the_top_level_holds_only_what_belongs_there() -> None:
    """Nothing lies at the top but the few things a newcomer must see; dot-files and build results aside."""
    present = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}

    assert set() == present - TOP_LEVEL - MADE_BY_TOOLS


def test_every_module_has_its_test_file() -> None:
    """Who changes a module knows which file tests it; what is missing is listed by the path it should have."""
    tested = [module for module in modules("vllmd") if module.name not in WITHOUT_TESTS_OF_THEIR_OWN]
    missing = [str(sibling(module)) for module in tested if not (ROOT / sibling(module)).exists()]

    assert not missing, "missing: " + ", ".join(missing)


def test_no_file_is_too_long() -> None:
    """A file over 300 lines holds two concepts; split it by concept."""
    files = [path for package in ("vllmd", "tests") for path in modules(package)]
    long = [f"{path} ({lines(path)} lines)" for path in files if lines(path) > LONGEST_FILE]

    assert not long, "too long: " + ", ".join(long)
