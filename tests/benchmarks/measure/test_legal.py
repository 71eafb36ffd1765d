"""Hypothesis over legal parameters: every answer is right by an independent check, or refused by an error of ours."""

from __future__ import annotations

import types

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from hacontrol_benchmarks.measure import legal as measure_legal
from hacontrol_envs.errors import ParameterError

DRAWS = {"krusell_smith": 200, "firm_investment": 3, "firm_industry": 2}
"""Of each subject, 500 where nothing is said: a solution of these takes up to seconds. More are drawn by
`python -m hacontrol_benchmarks.measure.legal`."""


@pytest.mark.slow
@pytest.mark.parametrize("subject", measure_legal.subjects())
def test_every_legal_parameter_is_answered_rightly_or_refused(subject):
    @settings(
        max_examples=DRAWS.get(subject, 500),
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate],
    )
    @given(data=st.data())
    def judge(data):
        drawn = measure_legal.draw(subject, lambda: data.draw(st.floats(0.0, 1.0)))
        end = measure_legal.ending(subject, drawn)
        assert end.way in ("answered", "refused"), f"{end.way}: {drawn}\n{end.message}"

    judge()


UNSTABILISABLE = [(1, i) for i in (1005, 1263, 2679, 6254, 9546, 9875, 10839, 13157, 15849, 15979, 17510)]
"""Draws in which a state that a cost sees grows, and rounding alone lets control reach it."""
CANCELLING = [(0, 17947), *((1, i) for i in (6815, 8065, 8204, 10652, 10845, 11973, 14248, 14552, 15253))]
CANCELLING += [(3, i) for i in (85, 1782, 1960, 8485, 14418, 15466, 16230, 18981)]
"""Draws in which what no cost sees, or hardly, hides in sums that cancel."""


@pytest.mark.parametrize(
    ("drawn", "way"),
    [*((drawn, "refused") for drawn in UNSTABILISABLE), *((drawn, "answered") for drawn in CANCELLING)],
)
def test_lqr_where_rounding_would_decide(drawn, way):
    end = measure_legal.ending("lqr", measure_legal.draw("lqr", np.random.default_rng(drawn).random))
    assert end.way == way, end.message


@pytest.mark.parametrize(
    ("raised", "way"),
    [
        (measure_legal.WrongAnswer("planted"), "wrong"),
        (KeyError("planted"), "crashed"),
        (RuntimeWarning("planted"), "crashed"),
        (ParameterError("planted"), "refused"),
        (None, "answered"),
    ],
)
def test_every_ending_is_told_from_the_others(monkeypatch, raised, way):
    def judge(parameters):
        if raised is not None:
            raise raised

    monkeypatch.setattr(measure_legal.importlib, "import_module", lambda name: types.SimpleNamespace(judge=judge))
    assert measure_legal.ending("any", {}).way == way


def test_a_late_answer_is_noticed(monkeypatch):
    clock = iter([0.0, measure_legal.LIMIT + 1])
    monkeypatch.setattr(measure_legal.importlib, "import_module", lambda name: types.SimpleNamespace(judge=dict))
    monkeypatch.setattr(measure_legal.time, "process_time", lambda: next(clock))
    assert measure_legal.ending("any", {}).way == "slow"
