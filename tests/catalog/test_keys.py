from __future__ import annotations

from vllmd import catalog


def test_each_key_is_explained_and_used() -> None:
    """Of what calls bring; what is only printed says itself what it is about."""
    used = {key for entry in catalog.SENT for key in entry.metadata}

    assert sorted(used - set(catalog.KEYS)) == []
    assert sorted(set(catalog.KEYS) - used) == []


def test_no_entry_names_a_key_twice() -> None:
    """Lists that several share overlap with nothing that one adds."""
    twice = [entry.reason for entry in catalog.SENT if len(set(entry.metadata)) < len(entry.metadata)]

    assert twice == []
