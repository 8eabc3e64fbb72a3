from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest

from tests.fakes import safetensors
from vllmd.errors import InvalidRequest, NotFound, VllmdError
from vllmd.models import adapters


def adapter(path: pathlib.Path, weights: str = "adapter_model.safetensors", **config: Any) -> pathlib.Path:
    """An adapter's directory."""
    path.mkdir(parents=True)
    (path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 8} | config))
    safetensors.write(path / weights, {"base_model.model.a.lora_A.weight": ("F32", 64)})
    return path


async def test_the_largest_rank_of_all_adapters_counts(tmp_path: pathlib.Path) -> None:
    """Of all matrices, since some may have ranks of their own."""
    plain = adapter(tmp_path / "plain", r=4)
    mixed = adapter(tmp_path / "mixed", "adapter_model.bin", r=4, rank_pattern={"q_proj": 24})

    assert await adapters.largest_rank({}) == 0
    assert await adapters.largest_rank({"a": str(plain)}) == 4
    assert await adapters.largest_rank({"a": str(plain), "b": str(mixed)}) == 24


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"r": 0}, "ranks"),
        ({"r": "8"}, "ranks"),
        ({"r": True}, "ranks"),
        ({"r": None}, "ranks"),
        ({"rank_pattern": {"q": 1.5}}, "ranks"),
        ({"rank_pattern": [1]}, "rank_pattern is no object"),
        ({"peft_type": "IA3"}, "peft_type is IA3"),
    ],
)
async def test_what_is_no_lora_is_refused(tmp_path: pathlib.Path, config: dict[str, Any], why: str) -> None:
    """With what is wrong, and which adapter it is."""
    path = adapter(tmp_path / "a", **config)
    with pytest.raises(InvalidRequest, match=why) as refused:
        await adapters.largest_rank({"sql": str(path)})

    assert refused.value.reason == "INVALID_LORA"
    assert refused.value.metadata == {"lora": "sql", "path": str(path)}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("adapter_config.json", "{"),
        ("adapter_config.json", "[]"),
        ("adapter_config.json", "[" * 10_000),
        ("adapter_config.json", " " * (2 << 20)),
        ("adapter_model.safetensors", "version https://git-lfs.github.com/spec/v1"),
        ("adapter_model.safetensors", ""),
    ],
)
async def test_files_that_are_not_what_they_are_called_are_refused(
    tmp_path: pathlib.Path, name: str, content: str
) -> None:
    """Vllm would find out once the model is loaded."""
    path = adapter(tmp_path / "a")
    (path / name).write_text(content)
    with pytest.raises(InvalidRequest) as refused:
        await adapters.largest_rank({"sql": str(path)})

    assert refused.value.reason == "INVALID_LORA"


@pytest.mark.parametrize(
    ("left", "why"),
    [
        (None, "no directory"),
        ((), "no LoRA adapter: there is no adapter_config.json"),
        (("config.json",), "a model, and no LoRA adapter"),
        (("adapter_config.json",), "no weights"),
    ],
)
async def test_what_is_not_there_is_told(tmp_path: pathlib.Path, left: tuple[str, ...] | None, why: str) -> None:
    """And what is there in its place."""
    path = tmp_path / "a"
    if left is not None:
        path.mkdir()
        for name in left:
            (path / name).write_text("{}")
    with pytest.raises(NotFound, match=why) as refused:
        await adapters.largest_rank({"sql": str(path)})

    assert refused.value.reason == "LORA_NOT_FOUND"


async def test_a_path_that_can_be_none_is_not_found() -> None:
    """However it is written."""
    for path in ("/no\0where", "/" + "x" * 300, "/dev/null"):
        with pytest.raises(VllmdError) as refused:
            await adapters.largest_rank({"sql": path})
        assert refused.value.reason == "LORA_NOT_FOUND"
