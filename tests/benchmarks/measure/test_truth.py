"""The measurement of the closed forms passes true ones and notices planted errors."""

import dataclasses

import numpy as np
import pytest

from hacontrol_benchmarks.judging.attained import attained
from hacontrol_benchmarks.measure.truth import dynkin, measure, residuals, torch_gap
from hacontrol_envs import LQR, Merton
from hacontrol_envs.checks.probe import Probe


@pytest.mark.slow
@pytest.mark.parametrize("name", ["LQR, n = 2, T", "Merton, 3 assets, risk aversion 0.5, T"])
def test_true_closed_forms_meet_every_target(name):
    (row,) = measure(points=50, paths=500, starts=2, rows=64, only=name)
    assert row["met"], row


@pytest.mark.slow
@pytest.mark.parametrize(("p", "h"), [(LQR(), 0.04), (Merton(), 0.25)])
def test_a_wrong_value_is_noticed(p, h):
    """V times 1.05: the HJB equation, and the value attained."""
    true = p.solution

    def planted(dt=None):
        found = true(dt)
        jet = found.jet and (lambda t, x: type(found.jet(t, x))(*(1.05 * part for part in found.jet(t, x))))
        return dataclasses.replace(found, value=lambda t, x: 1.05 * found.value(t, x), jet=jet)

    object.__setattr__(p, "solution", planted)
    assert residuals(Probe(p, 0, 0, None), 100)["residual"] > 1e-3
    row = attained(p, h, 0, 512)
    assert min(abs(row["sampled"]), abs(row["continuous"])) > 4, row


def test_a_wrong_drift_is_noticed_by_dynkin(monkeypatch):
    """The drift used by the generator off by 2 % of the control; the exact law is not."""
    drift = LQR.drift
    monkeypatch.setattr(LQR, "drift", lambda self, t, x, a: drift(self, t, x, 1.02 * a))
    assert abs(dynkin(Probe(LQR(), 20_000, 0, None), 5)["dynkin"]) > 4


def test_a_gap_between_libraries_is_noticed(monkeypatch):
    reward = LQR.reward
    off = 1e-11
    monkeypatch.setattr(
        LQR, "reward", lambda self, t, x, a: reward(self, t, x, a) + off * (not isinstance(x, np.ndarray))
    )
    found = torch_gap(Probe(LQR(), 0, 0, None), 20)
    assert found["gap"] > 1e-12
    assert found["gap_of"] in ("reward", "hamiltonian", "hjb_residual")
