from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vllmd.api.changes import Mark, News, Sent, news

IDLE, BUSY = Mark(1, 1), Mark(1, 1, busy=True)
NOTHING = News((), ())


def test_who_has_nothing_gets_all() -> None:
    """In the order of those that there are."""
    assert news({}, {"b": IDLE, "a": BUSY}, 1) == News(("b", "a"), ())


def test_a_new_version_is_news_at_once() -> None:
    """Whatever the beat."""
    assert news({"a": Sent(IDLE, 1)}, {"a": Mark(2, 1)}, 1) == News(("a",), ())


def test_figures_are_news_at_the_next_beat() -> None:
    """And while it is busy also if they are the same; of an idle one that stays so nothing comes."""
    sent = {"a": Sent(IDLE, 1)}

    assert news(sent, {"a": Mark(1, 2)}, 1) == NOTHING
    assert news(sent, {"a": Mark(1, 2)}, 2) == News(("a",), ())
    assert news(sent, {"a": BUSY}, 1) == NOTHING
    assert news(sent, {"a": BUSY}, 2) == News(("a",), ())
    assert news(sent, {"a": IDLE}, 9) == NOTHING


def test_what_is_gone_is_forgotten() -> None:
    """Once; who never had it is not told."""
    assert news({"a": Sent(IDLE, 1)}, {}, 1) == News((), ("a",))
    assert news({}, {}, 1) == NOTHING
    assert not NOTHING


marks = st.builds(Mark, st.integers(1, 3), st.integers(1, 3), st.booleans())
boards = st.dictionaries(st.sampled_from("abc"), marks)


@given(st.lists(st.tuples(boards, st.booleans())))
def test_who_takes_whatever_comes_whenever_has_the_latest(steps: list[tuple[dict[str, Mark], bool]]) -> None:
    """However many changes were passed over: after a beat, what was sent last is what there is."""
    sent: dict[str, Sent] = {}
    for beat, (there, reads) in enumerate(steps):
        if reads:
            found = news(sent, there, beat)
            sent = {key: one for key, one in sent.items() if key not in found.forgotten}
            sent |= {key: Sent(there[key], beat) for key in found.changed}

            assert {key: (one.mark.version, one.mark.count) for key, one in sent.items()} == {
                key: (mark.version, mark.count) for key, mark in there.items()
            }
