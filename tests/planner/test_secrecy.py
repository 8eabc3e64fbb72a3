from __future__ import annotations

import pytest

from vllmd.planner.secrecy import is_secret, visible


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("hf_token", True),
        ("api_key", True),
        ("apikey", True),
        ("aws_secret_access", True),
        ("max_num_batched_tokens", False),
        ("tokenizer_mode", False),
        ("tokenizer_auth_token", True),
        ("seed", False),
    ],
)
def test_what_is_called_so_is_a_secret(name: str, secret: bool) -> None:
    """Tokens that are counted are none."""
    assert is_secret(name) is secret


def test_secrets_are_hidden_however_deep() -> None:
    """And all else is as it was."""
    shown = visible({"hf_token": "a", "loader": {"password": "b", "level": 3}, "list": [{"api_key": "c"}, 1]})

    assert shown == {
        "hf_token": "(hidden)",
        "loader": {"password": "(hidden)", "level": 3},
        "list": [{"api_key": "(hidden)"}, 1],
    }
