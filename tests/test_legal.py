"""Hypothesis over legal parameters: every answer is right by an independent check, or refused by an error of ours."""

from __future__ import annotations

import types

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from hacontrol_benchmarks import measure_legal
from hacontrol_envs.errors import ParameterError

DRAWS = {"krusell_smith": 200, "firm_investment": 3, "firm_industry": 2}
"""Of each subject, 500 where nothing is said: a solution of these takes from half a second to half a minute. Thousands
are drawn by `python -m hacontrol_benchmarks.measure_legal`."""


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
