from __future__ import annotations

import pytest

from tests.fakes.samples import seconds
from vllmd.cli.output.progress import describe, deserves_line, percent
from vllmd.v1.engine_pb2 import LoadProgress


def test_words_of_the_daemon_come_first() -> None:
    """The daemon's own message says more than the phase; without one, the phase stands in."""
    assert describe(LoadProgress(phase=LoadProgress.PHASE_COMPILING, message="compiling 3/9")) == "compiling 3/9"
    assert describe(LoadProgress(phase=LoadProgress.PHASE_COMPILING)) == "compiling"


def test_percent_only_where_known() -> None:
    """No share is invented where vLLM does not say, none at all is one, and it is one of the weights alone."""
    weights, graphs = LoadProgress.PHASE_LOADING_WEIGHTS, LoadProgress.PHASE_CAPTURING_GRAPHS

    assert percent(LoadProgress(phase=weights)) == ""
    assert percent(LoadProgress(phase=weights, weights_fraction=0.0)) == "0%"
    assert percent(LoadProgress(phase=weights, weights_fraction=0.426)) == "43%"
    assert percent(LoadProgress(phase=graphs, weights_fraction=1.0)) == ""


@pytest.mark.parametrize(
    ("phase", "message", "elapsed", "deserves"),
    [
        (LoadProgress.PHASE_COMPILING, "compiling", 5.1, True),
        (LoadProgress.PHASE_CAPTURING_GRAPHS, "graph 2", 14.9, False),
        (LoadProgress.PHASE_CAPTURING_GRAPHS, "graph 2", 15.0, True),
        (LoadProgress.PHASE_CAPTURING_GRAPHS, "graph 1", 60.0, False),
    ],
)
def test_what_deserves_a_line(
    phase: LoadProgress.Phase.ValueType, message: str, elapsed: float, deserves: bool
) -> None:
    """A new phase does at once, other words after ten seconds, and the time alone never."""
    last = LoadProgress(phase=LoadProgress.PHASE_CAPTURING_GRAPHS, message="graph 1", elapsed=seconds(5))

    assert deserves_line(last, None)
    assert deserves_line(LoadProgress(phase=phase, message=message, elapsed=seconds(elapsed)), last) is deserves
