from __future__ import annotations

from pathlib import Path

import pytest

from vllmd.errors import Denied
from vllmd.models.roots import check, is_path


def test_without_a_root_all_may_be_read(tmp_path: Path) -> None:
    """As on a host of one's own."""
    check(str(tmp_path), ())
    check("/nowhere", ())


def test_what_lies_below_a_root(tmp_path: Path) -> None:
    """The root itself too, and under whatever name; it need not be there, which others tell."""
    root = tmp_path / "models"
    (root / "a").mkdir(parents=True)
    (tmp_path / "link").symlink_to(root)
    (root / "inside").symlink_to(root / "a")

    for path in (root, root / "a", root / "none", root / "inside", tmp_path / "link" / "a", root / "a" / ".." / "a"):
        check(str(path), (Path("/elsewhere"), root))
        check(str(path), (tmp_path / "link",))


def test_what_does_not(tmp_path: Path) -> None:
    """By no link and no climbing, and by no name that only begins like the root's; there or not, the answer is one."""
    root = tmp_path / "models"
    root.mkdir()
    (tmp_path / "models-of-others").mkdir()
    (root / "out").symlink_to(tmp_path)
    (root / "loop").symlink_to(root / "loop")
    outside = [
        root / "out" / "models-of-others",
        root / ".." / "models-of-others",
        tmp_path / "models-of-others",
        tmp_path / "none",
        tmp_path,
        Path("/"),
    ]
    for path in outside:
        with pytest.raises(Denied, match="outside of what this host loads") as denied:
            check(str(path), (root,))
        assert denied.value.reason == "MODEL_PATH_NOT_ALLOWED"
    with pytest.raises(Denied):
        check("/a\0b", (root,))


def test_names_on_the_hub_are_no_paths() -> None:
    """So no root is for them."""
    assert is_path("/models/a")
    assert not is_path("Qwen/Qwen3-8B")
