from __future__ import annotations

import re
from pathlib import Path

import pytest

from vllmd.config import Settings
from vllmd.configuration import show
from vllmd.configuration.reading import Reading, Sources


def reading(tmp_path: Path, text: str, **environment: str) -> Reading:
    path = tmp_path / "vllmd.toml"
    path.write_text(text)
    return Sources(path=path, environment={"XDG_RUNTIME_DIR": "/run/user/7", **environment}).read()


EVERYTHING = """\
socket = "/a/s"
socket_mode = "660"
socket_group = "users"
admin_group = "admins"
tls_certificate = "/t/c"
tls_key = "/t/k"
tls_client_ca = "/t/a"
token_file = "/t/t"
listen = "127.0.0.1:1"
runtime_dir = "/a"
state_dir = "/b"
cache_dir = "/c"
engine_python = "python3"
backend = "fake"
simulate = "2xL4"
containment = "session"
engine_memory_max = "1GiB"
idle_timeout = 0.25
lease_ttl = 1
adoption_timeout = 2
load_timeout = 3
stop_grace = 4
reclaim_timeout = 5
drain_timeout = 6
restart_limit = 7
restart_window = 8
stall_timeout = 9
watchdog_interval = 10
foreign_orphans = "ignore"
orphan_grace = 11
log_level = "debug"
log_limit_bytes = 100000
use_case = "debate"
model_roots = ["/m", "/n"]
pass_environment = ["AWS_*"]
allowed_engine_args = ["a", "b"]
[engine_args]
seed = 1
text = "quotes \\" and \\\\, lines\\nand \\u007f"
nested = { "a b" = [1.5, true], c = {} }
"""


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_says_what_it_is_for_and_why_it_is_so(name: str) -> None:
    """Whole sentences, in the one place where it is described; one that has no default has an example."""
    assert re.fullmatch(r"[A-Z].{15,}\.", show.summary(name))
    assert re.fullmatch(r"[a-zA-Z0-9].{10,}\.", show.reason(name))
    assert show.default(name)
    assert show.default(name) != "not set" or show.example(name)


def test_what_is_shown_can_be_read_again(tmp_path: Path) -> None:
    """Everything set comes back as it was."""
    before = reading(tmp_path, EVERYTHING)
    shown = show.file(before, defaults=False, origin=False)

    assert [name for name, origin in before.origins.items() if origin == "default"] == ["engine_args"]  # but each of it
    assert reading(tmp_path, shown).settings == before.settings


def test_defaults_are_commented_out_and_are_what_counts_anyway(tmp_path: Path) -> None:
    """A file to begin with: nothing changes until something is uncommented, and then it is right."""
    nothing = reading(tmp_path, "")
    template = show.file(nothing, defaults=True, origin=False)
    uncommented = re.sub(r"(?m)^#(?=[a-z\[])", "", template)
    with_engine = reading(tmp_path, uncommented.replace('backend = "vllm"', 'backend = "fake"'))

    assert reading(tmp_path, template).settings == nothing.settings
    assert {key.partition(".")[0] for key, origin in with_engine.origins.items() if origin != "default"} == set(
        Settings.model_fields
    )


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_among_the_defaults(tmp_path: Path, name: str) -> None:
    """With its reason above it."""
    template = show.file(reading(tmp_path, ""), defaults=True, origin=False)

    assert re.search(rf"(?m)^#\[?{name}\b", template)
    assert show.reason(name).split(".")[0][:50] in template.replace("\n# ", " ")


def test_the_origin_stands_behind_each_value(tmp_path: Path) -> None:
    """And the file stays one that can be read."""
    found = reading(tmp_path, "\nlease_ttl = 60\n[engine_args]\nseed = 1\n", VLLMD_IDLE_TIMEOUT="5")
    shown = show.file(found, defaults=True, origin=True)

    assert f"lease_ttl = 60  # {tmp_path}/vllmd.toml:2\n" in shown
    assert f"seed = 1  # {tmp_path}/vllmd.toml:4\n" in shown
    assert "idle_timeout = 5  # $VLLMD_IDLE_TIMEOUT\n" in shown
    assert "#load_timeout = 3600  # default\n" in shown
    assert reading(tmp_path, shown).settings == found.settings


def test_secrets_are_never_shown(tmp_path: Path) -> None:
    """Wherever they come from and however deep; what only counts tokens is none."""
    text = '[engine_args]\nhf_token = "hf_one"\nmax_num_batched_tokens = 5\ntokenizer_mode = "slow"\n[engine_args.x]\n'
    found = reading(tmp_path, text + 'list = [{ api_key = "key_two" }]\n', VLLMD_ENGINE_ARGS__PASSWORD="pass_three")
    shown = show.file(found, defaults=True, origin=True)

    assert not [secret for secret in ("hf_one", "key_two", "pass_three") if secret in shown]
    assert 'hf_token = "(hidden)"' in shown
    assert "max_num_batched_tokens = 5" in shown
    assert 'tokenizer_mode = "slow"' in shown


def test_nothing_that_is_set_is_told(tmp_path: Path) -> None:
    """An empty page would look like a mistake."""
    assert show.file(reading(tmp_path, ""), defaults=False, origin=True).startswith("# Nothing is set")
