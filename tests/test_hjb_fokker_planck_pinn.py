"""The law's network against laws known in closed form; the learner's promises about files, seeds and what it uses."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from scipy.integrate import simpson  # noqa: E402
from scipy.linalg import solve_continuous_lyapunov  # noqa: E402
from scipy.stats import multivariate_normal, truncnorm  # noqa: E402
from torch.nn.utils import parameters_to_vector, vector_to_parameters  # noqa: E402

from hacontrol_agents import HJBFokkerPlanckPinn  # noqa: E402
from hacontrol_agents.equilibrium.firm_law import FirmLaw, Frame, Motion  # noqa: E402
from hacontrol_agents.equilibrium.industry_learner import IndustryLearner  # noqa: E402
from hacontrol_envs import FirmIndustry, FirmInvestment  # noqa: E402
from hacontrol_envs.errors import CheckpointError, ParameterError  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::hacontrol_envs.errors.ConvergenceWarning")]
"""Most learners here are stopped long before they have learnt."""

REVERSION, VOLATILITY = 0.5, 0.2
PULL, PUSH, REST = -0.7, 0.4, 0.9
"""Growth of log capital: PULL (y - REST) + PUSH z."""
DEVIATION = VOLATILITY / math.sqrt(2 * REVERSION)
FAR = 100.0
"""A bound that productivity does not feel."""


def covariance(pull=PULL):
    """That of (y, z) under the linear motion: M S + S M' + noise = 0."""
    drift = np.array([[pull, PUSH], [0.0, -REVERSION]])
    return solve_continuous_lyapunov(drift, -np.diag([0.0, VOLATILITY**2]))


def frame(spread_y=1.0, spread_z=1.0, slope=1.0, mean_y=0.0, pull=PULL):
    """The frame of the stationary law, its spreads and its slope multiplied, its mean moved by so many spreads."""
    (var_y, between), (_, var_z) = covariance(pull)
    own = math.sqrt(var_y - between**2 / var_z)
    return Frame(REST + mean_y * own, 0.0, spread_y * own, spread_z * math.sqrt(var_z), slope * between / var_z)


def law(bound=FAR, hidden=(24,), seed=0, **wrong):
    """A law in that frame."""
    found = FirmLaw(hidden, bound, seed, "cpu")
    found.frame = frame(**wrong)
    return found


def motion(found, w, pull=PULL):
    """The linear motion at points of a law."""
    y, z = found.frame.back(w)
    return Motion(pull * (y - REST) + PUSH * z, torch.full_like(y, pull), REVERSION, VOLATILITY)


def fitted(found, steps, size=1200, pull=PULL):
    """Fit the law to the linear motion; what is left."""
    points = found.points(np.random.default_rng(0), size)
    left = found.fit(points, motion(found, points[0], pull), steps)
    found.quadrature()
    return left


def scrambled(found, size=0.5):
    """The law with a network of random parameters."""
    rng, parameters = np.random.default_rng(7), found.network.parameters()
    vector_to_parameters(
        torch.as_tensor(size * rng.standard_normal(len(parameters_to_vector(parameters)))), found.network.parameters()
    )
    found.quadrature()
    return found


def lattice(bound=8.0, n=401):
    """y, z and their spacings over this many standard deviations."""
    deviations = np.sqrt(np.diag(covariance()))
    y, z = (np.linspace(-bound * spread, bound * spread, n) for spread in deviations)
    return *np.meshgrid(REST + y, z, indexing="ij"), y[1] - y[0], z[1] - z[0]


def density(found, y, z):
    """The law's, as an array."""
    return found.density(torch.as_tensor(y), torch.as_tensor(z)).numpy()


def residual(found, points):
    """|R| / (1 + |w|^2) at each point, and |current| at each edge point."""
    (rows,) = found._residual(points, motion(found, points[0]))
    inside, on = rows[: len(points[0])], rows[len(points[0]) :]
    return inside.abs() * math.sqrt(len(inside)), on.abs() * math.sqrt(max(len(on), 1))


def test_a_gaussian_law_has_no_residual():
    right = law()
    vector_to_parameters(torch.zeros_like(parameters_to_vector(right.network.parameters())), right.network.parameters())
    points = right.points(np.random.default_rng(0), 500)
    assert len(points[1]) == 0
    assert residual(right, points)[0].max() < 1e-10
    for wrong in ({"spread_y": 1.1}, {"spread_z": 1.1}, {"slope": 0.9}, {"mean_y": 0.1}):
        right.frame = frame(**wrong)
        assert residual(right, points)[0].max() > 1e-2


def test_points_stay_between_reflecting_edges_and_some_lie_on_them():
    found = law(bound=1.5 * DEVIATION)
    w, on = found.points(np.random.default_rng(0), 800)
    edges = found.frame.back(on)[1]
    assert [int((edges * sign > 0).sum()) for sign in (-1, 1)] == [100, 100]
    torch.testing.assert_close(edges.abs(), torch.full_like(edges, 1.5 * DEVIATION))
    assert found.frame.back(w)[1].abs().max() <= 1.5 * DEVIATION * (1 + 1e-12)


@pytest.mark.parametrize("bound", [FAR, 1.5 * DEVIATION])
def test_the_residual_by_finite_differences_of_the_density(bound):
    """R = [-d_y(growth f) + kappa d_z(z f) + sigma^2/2 f_zz]/f, and the current at edges over f."""
    found = scrambled(law(bound, slope=0.7, spread_y=1.2))
    w = torch.as_tensor(np.random.default_rng(1).uniform(-1.2, 1.2, (50, 2)))
    y, z = (part.numpy() for part in found.frame.back(w))
    h = 1e-4

    def f(dy=0.0, dz=0.0):
        return density(found, y + dy, z + dz)

    def flow(dy):
        return (PULL * (y + dy - REST) + PUSH * z) * f(dy)

    change = -(flow(h) - flow(-h)) / (2 * h) + REVERSION * ((z + h) * f(0, h) - (z - h) * f(0, -h)) / (2 * h)
    change += VOLATILITY**2 / 2 * (f(0, h) - 2 * f() + f(0, -h)) / h**2
    wanted = np.abs(change / f()) / (1 + (w.numpy() ** 2).sum(1))
    current = np.abs(REVERSION * z + VOLATILITY**2 / 2 * (f(0, h) - f(0, -h)) / (2 * h * f()))
    inside, on = residual(found, (w, w))
    np.testing.assert_allclose(inside.numpy(), wanted, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(on.numpy(), current, rtol=1e-4, atol=1e-5)


def test_the_jacobian_by_finite_differences():
    found = scrambled(law(1.5 * DEVIATION, hidden=(5, 4)))
    points = found.points(np.random.default_rng(2), 40)
    assert len(points[1]) > 0
    rows, jacobian = found._residual(points, motion(found, points[0]), jacobian=True)
    at, h = parameters_to_vector(found.network.parameters()).detach().clone(), 1e-5
    assert jacobian.shape == (len(rows), len(at))
    torch.testing.assert_close(rows, found._residual(points, motion(found, points[0]))[0], rtol=0, atol=0)

    def moved(step):
        vector_to_parameters(at + step, found.network.parameters())
        return found._residual(points, motion(found, points[0]))[0]

    for i in range(len(at)):
        step = torch.zeros_like(at)
        step[i] = h
        torch.testing.assert_close(jacobian[:, i], (moved(step) - moved(-step)) / (2 * h), rtol=1e-6, atol=1e-8)


def test_a_gaussian_law_is_recovered_from_a_wrong_frame():
    found = law(spread_y=1.15, spread_z=0.9, slope=0.9, mean_y=0.3)
    fitted(found, 75)
    y, z, dy, dz = lattice()
    true = multivariate_normal([REST, 0.0], covariance()).pdf(np.stack([y, z], axis=-1))
    distance = np.abs(density(found, y, z) - true).sum() * dy * dz / 2
    assert distance < 1e-6
    nodes_y, nodes_z, mass = found.quadrature()
    assert float(mass.sum()) == pytest.approx(1.0, abs=1e-12)
    assert float(mass @ nodes_y) == pytest.approx(REST, abs=1e-6)
    assert float(mass @ (nodes_y * nodes_z)) == pytest.approx(covariance()[0, 1], abs=1e-7)


def test_reflected_productivity_is_a_truncated_normal():
    """Whatever capital does, for productivity moves on its own.

    Capital is slow here. Driven by a bounded productivity it stays within PUSH bound/pull of its rest; where that is
    near, the density falls to zero there and a network for its logarithm does not get far.
    """
    bound, pull = 1.5 * DEVIATION, -0.05
    found = law(bound, hidden=(20, 20), pull=pull)
    fitted(found, 75, 900, pull)
    z = np.linspace(-bound, bound, 61) * (1 - 1e-9)
    y = np.linspace(REST - 3.0, REST + 3.0, 801)
    marginal = simpson(density(found, *np.meshgrid(y, z, indexing="ij")), dx=y[1] - y[0], axis=0)
    np.testing.assert_allclose(marginal, truncnorm(-1.5, 1.5, scale=DEVIATION).pdf(z), rtol=2e-3)
    assert not density(found, np.array([REST, REST]), np.array([-1.01, 1.01]) * bound).any()


@pytest.mark.parametrize("bound", [FAR, 1.5 * DEVIATION])
def test_the_mass_by_another_rule(bound):
    found = scrambled(law(bound, slope=0.7), 0.3)
    y, z, dy, _ = lattice(10.0)
    top = min(bound, float(z.max()))
    z = np.linspace(-top, top, 401)[None] + 0 * y
    mass = simpson(simpson(density(found, y, z), dx=z[0, 1] - z[0, 0]), dx=dy)
    assert mass == pytest.approx(1.0, abs=1e-6)


TINY = {"value_hidden": (16,), "law_hidden": (6,), "firms": 256, "iterations": 2, "steps": 3, "law_steps": 2}


def learner(industry=None, **settings):
    """A small one: two iterations with simulated firms, then two with the law."""
    return HJBFokkerPlanckPinn(industry or FirmIndustry(), **{"seed": 3, "law_points": 200, **TINY, **settings})


@pytest.fixture(autouse=True)
def _coarse_steps(monkeypatch):
    """Simulated firms take eight times as long a step as they should: they need not go anywhere in particular."""
    monkeypatch.setattr("hacontrol_agents.equilibrium.hjb_fokker_planck_pinn.STEP", 0.8)


def weights(agent):
    """All that was learnt."""
    return torch.cat([part.flatten() for _, part in sorted(agent._tensors().items())])


def test_an_interrupted_run_ends_with_the_same_weights(tmp_path):
    """Killed after every iteration, in both stages."""
    stages = []
    whole = learner().learn(callback=lambda agent: stages.append("law" in agent.history[-1]))
    path = tmp_path / "checkpoint.safetensors"
    for i in range(len(stages)):
        resumed = learner().learn(checkpoint=path, callback=lambda agent: False)
        assert len(resumed.history) == i + 1
    assert set(stages) == {False, True}
    assert stages.count(False) >= 2
    assert stages.count(True) >= 2
    assert torch.equal(weights(whole), weights(resumed))
    assert (whole.price, whole.output, whole.capital) == (resumed.price, resumed.output, resumed.capital)
    assert [row["price"] for row in whole.history] == [row["price"] for row in resumed.history]
    loaded = IndustryLearner.load(path)
    k, z = np.array([1.5, 2.0, 2.5]), np.array([-0.2, 0.0, 0.3])
    for name in ("value", "policy", "density"):
        np.testing.assert_array_equal(getattr(loaded, name)(k, z), getattr(whole, name)(k, z))
    assert (loaded.price, loaded.output, loaded.capital) == (whole.price, whole.output, whole.capital)
    for other in (learner(seed=4), learner(steps=4), learner(FirmIndustry(demand_elasticity=0.9))):
        with pytest.raises(CheckpointError, match="was saved with"):
            other.learn(checkpoint=path)


def test_it_is_not_told_the_equilibrium(monkeypatch):
    def forbidden(*_, **__):
        raise AssertionError("the learner asked for what it should find")

    for owner, name in (
        (FirmIndustry, "equilibrium"),
        (FirmIndustry, "first_guess"),
        (FirmIndustry, "_at_first_guess"),
        (FirmIndustry, "_clear"),
        (FirmInvestment, "solution"),
        (FirmInvestment, "_numerical"),
    ):
        monkeypatch.setattr(owner, name, forbidden)
    with pytest.raises(AssertionError, match="asked"):
        FirmIndustry().equilibrium()
    agent = learner(settled=10.0).learn(callback=lambda agent: "law" not in agent.history[-1])
    assert "law" in agent.history[-1]


@pytest.mark.parametrize(
    ("name", "given"),
    [(name, 0) for name in ("start_price", "settled", "margin", "firms", "iterations", "steps", "law_steps")]
    + [("law_points", 0), ("value_hidden", (0,)), ("law_hidden", (0,)), ("seed", -1), ("start_price", math.nan)],
)
def test_settings_that_make_no_sense_are_refused(name, given):
    with pytest.raises(ParameterError):
        learner(**{name: given})


def test_an_industry_is_asked_for():
    with pytest.raises(ParameterError, match="FirmIndustry"):
        HJBFokkerPlanckPinn(FirmInvestment(), seed=0)
