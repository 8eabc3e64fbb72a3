from __future__ import annotations

from vllmd.scheduler.rate import WINDOW_SECONDS, Rate


def test_nothing_is_known_at_first() -> None:
    """Without samples, or just after the first, the rate is zero rather than a guess."""
    rate = Rate()
    before = rate.per_second(1000, 5.0)
    rate.sample(0, 5.0)

    assert before == 0.0
    assert rate.per_second(1000, 5.1) == 0.0


def test_the_rate_is_over_the_time_since_the_oldest_sample() -> None:
    """A steady stream has its own rate from the first second on."""
    rate = Rate()
    rate.sample(0, 0.0)
    rate.sample(100, 1.0)

    assert rate.per_second(200, 2.0) == 100.0


def test_what_is_longer_ago_than_the_window_is_forgotten() -> None:
    """An engine that has gone quiet is at zero once the window has passed."""
    rate = Rate()
    for second in range(5):
        rate.sample(second * 100, float(second))
    for second in range(5, 30):
        rate.sample(400, float(second))

    assert rate.per_second(400, 30.0) == 0.0


def test_the_window_covers_its_whole_length() -> None:
    """The samples kept reach back at least as far as the window does."""
    rate = Rate()
    for second in range(60):
        rate.sample(second * 10, float(second))
    burst = rate.per_second(590 + 10 * int(WINDOW_SECONDS), 60.0)

    assert 10.0 < burst < 25.0
