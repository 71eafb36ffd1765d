"""The figure of a learnt equilibrium, and the residuals that it maps against finite differences of what was learnt."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("matplotlib")

from hacontrol_agents import HJBFokkerPlanckPinn, PublishedFirmPinn  # noqa: E402
from hacontrol_agents.equilibrium.industry_figure import _Scene, industry_figure  # noqa: E402
from hacontrol_envs import FirmIndustry  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::hacontrol_envs.errors.ConvergenceWarning")
"""Most learners here are stopped long before they have learnt."""

TITLES = ["value", "investment rate", "density of firms", "price", "HJB residual", "Fokker-Planck residual"]
STEP = 1e-4


def gaussian(mean_y, spread_y, spread_z):
    """A density per unit of capital: log capital and log productivity independent and normal."""

    def density(k, z):
        square = ((np.log(k) - mean_y) / spread_y) ** 2 + (z / spread_z) ** 2
        return np.exp(-square / 2) / (2 * np.pi * spread_y * spread_z * k)

    return density


TRUTH = SimpleNamespace(
    price=0.7,
    value=lambda k, z: 10 + k + z,
    policy=lambda k, z: 0.08 - 0.1 * np.log(k / 2) + 0.1 * z,
    density=gaussian(np.log(2.0), 0.1, 0.2),
)


@pytest.fixture(scope="module")
def learnt():
    """One that has met the law: an iteration with simulated firms and one with the law."""
    tiny = {"value_hidden": (16,), "law_hidden": (6,), "firms": 256, "iterations": 1, "steps": 4, "law_steps": 1}
    return HJBFokkerPlanckPinn(FirmIndustry(), seed=1, law_points=200, settled=10.0, **tiny).learn()


@pytest.fixture(scope="module")
def published():
    tiny = {"hidden": (6,), "steps": 2, "points": 20, "boundary_points": 8, "mass_points": 20, "iterations": 2}
    return PublishedFirmPinn(FirmIndustry(adjustment="as-published"), seed=0, **tiny).learn()


def titles(figure):
    """Those of the panels, colour bars apart."""
    return [axes.get_title() for axes in figure.axes if axes.get_title()]


@pytest.mark.slow
@pytest.mark.parametrize("which", ["learnt", "published"])
@pytest.mark.parametrize("truth", [None, TRUTH])
def test_every_panel_is_drawn(which, truth, request, tmp_path):
    learner = request.getfixturevalue(which)
    figure = learner.plot(truth)
    figure.savefig(tmp_path / "figure.png", dpi=40)
    assert len(titles(figure)) == len(TITLES)
    assert all(part in title for part, title in zip(TITLES, titles(figure), strict=True))
    value, price = figure.axes[0], next(axes for axes in figure.axes if axes.get_title() == "price")
    np.testing.assert_array_equal(price.lines[0].get_ydata(), [row["price"] for row in learner.history])
    dashed = [line for line in value.lines if line.get_linestyle() == "--"]
    if truth is None:
        assert not dashed
        assert len(price.lines) == 1
    else:
        assert set(price.lines[1].get_ydata()) == {0.7}
        for line, place in zip(dashed, (-2, 0, 2), strict=True):
            np.testing.assert_allclose(line.get_ydata(), 10 + line.get_xdata() + place * 0.2)


def test_what_a_learner_cannot_tell_is_left_out():
    fresh = HJBFokkerPlanckPinn(FirmIndustry(), seed=0, firms=16)
    assert titles(fresh.plot()) == [*TITLES[:3], "log10 of relative HJB residual"]


def test_maps_show_where_either_law_is():
    learner = SimpleNamespace(industry=FirmIndustry(), price=1.0, density=gaussian(0.3, 0.05, 0.1))
    alone = _Scene(learner, None)
    ends = [np.log(alone.k[[0, -1], 0]), alone.z[0, [0, -1]]]
    np.testing.assert_allclose(ends, [[0.05, 0.55], [-0.5, 0.5]], atol=1e-6)
    both = _Scene(learner, TRUTH)
    ends = [np.log(both.k[[0, -1], 0]), both.z[0, [0, -1]]]
    np.testing.assert_allclose(ends, [[0.05, np.log(2.0) + 0.5], [-1.0, 1.0]], atol=1e-6)


def test_inaction_is_hatched():
    def rate(k, z):
        return np.maximum(z, 0.0)

    parts = {"price": 1.0, "name": "by hand", "history": [], "value": TRUTH.value, "density": TRUTH.density}
    nothing = {"hjb_error": lambda k, z: None, "law_error": lambda k, z: None}
    figure = industry_figure(SimpleNamespace(industry=FirmIndustry(), policy=rate, **parts, **nothing))
    assert titles(figure) == ["value", "investment rate (hatched: inaction)", "density of firms"]


def firms(learner, size=60):
    """Capital and log productivity where firms are."""
    rng, scale = np.random.default_rng(3), learner.firm.productivity_deviation
    return learner.capital * np.exp(0.1 * rng.standard_normal(size)), scale * rng.standard_normal(size)


@pytest.mark.slow
@pytest.mark.parametrize("which", ["learnt", "published"])
def test_the_hjb_error_by_finite_differences(which, request):
    learner = request.getfixturevalue(which)
    (k, z), firm, h, v = firms(learner), learner.firm, STEP, learner.value
    v_k = (v(k + h, z) - v(k - h, z)) / (2 * h)
    v_z, v_zz = (v(k, z + h) - v(k, z - h)) / (2 * h), (v(k, z + h) - 2 * v(k, z) + v(k, z - h)) / h**2
    revenue = firm.price * np.exp(z) * k**0.35
    if which == "learnt":
        rate = learner.policy(k, z)
        reward = revenue - k * firm.cost(rate)
        gain, size = reward + (rate - 0.08) * k * v_k, np.abs(reward) + 0.05 * np.abs(v(k, z))
    else:
        q = v_k - 1
        gain = revenue + k * q**2 / (4 + 8 / (1 + np.exp(5 * q))) - 0.08 * k * v_k
        size = revenue + 0.05 * np.abs(v(k, z))
    wanted = np.abs(gain - 0.5 * z * v_z + 0.02 * v_zz - 0.05 * v(k, z)) / size
    np.testing.assert_allclose(learner.hjb_error(k, z), wanted, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("which", ["learnt", "published"])
def test_the_law_error_by_finite_differences(which, request):
    """Relative to kappa (1 + the squared distance from the law's middle); the control is where it is not cut."""
    learner = request.getfixturevalue(which)
    (k, z), h = firms(learner), STEP
    if which == "learnt":
        w = learner._law.coordinates(torch.as_tensor(np.stack([k, z], axis=1))).numpy()
        reach = 1 + (w**2).sum(-1)
    else:
        reach = 1 + (z / 0.2) ** 2

    def flow(k, z):
        if which == "learnt":
            rate = learner._firms.policy(0.0, np.stack([k, z], axis=1))[:, 0]  # that of V, also far from the law
        else:
            q = (learner.value(k + h, z) - learner.value(k - h, z)) / (2 * h) - 1
            rate = q / (2 + 4 / (1 + np.exp(5 * q)))
        return (rate - 0.08) * k * learner.density(k, z)

    m = learner.density
    inflow = -(flow(k + h, z) - flow(k - h, z)) / (2 * h)
    inflow += 0.5 * ((z + h) * m(k, z + h) - (z - h) * m(k, z - h)) / (2 * h)
    inflow += 0.02 * (m(k, z + h) - 2 * m(k, z) + m(k, z - h)) / h**2
    wanted = np.abs(inflow) / (0.5 * reach * m(k, z))
    np.testing.assert_allclose(learner.law_error(k, z), wanted, rtol=1e-2, atol=2e-4)
