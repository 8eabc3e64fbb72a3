from __future__ import annotations

from vllmd.config import Rules, Settings
from vllmd.configuration.catalog import BY_RESTART, BY_UPGRADE, SECTIONS


def test_every_setting_is_in_one_section_and_changes_in_one_way() -> None:
    """Those of `Rules` by a reload, each other one by an upgrade or a restart."""
    listed = [name for names in SECTIONS.values() for name in names]

    assert sorted(listed) == sorted(Settings.model_fields)
    assert not BY_UPGRADE & BY_RESTART
    assert set(Settings.model_fields) - set(Rules.model_fields) == BY_UPGRADE | BY_RESTART
