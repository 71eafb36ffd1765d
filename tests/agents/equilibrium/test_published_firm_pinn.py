"""The published method's equations against functions with known answers, and its promises about seeds and files."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from scipy.integrate import simpson  # noqa: E402
from scipy.stats import truncnorm  # noqa: E402

from hacontrol_agents import Agent, PublishedFirmPinn  # noqa: E402
from hacontrol_agents.equilibrium.industry_learner import IndustryLearner  # noqa: E402
from hacontrol_agents.equilibrium.published_firm_pinn import (  # noqa: E402
    Box,
    Derivatives,
    capital_growth,
    current,
    density_of,
    derivatives,
    fokker_planck_residual,
    hjb_residual,
)
from hacontrol_envs import FirmIndustry, FirmInvestment, Jet  # noqa: E402
from hacontrol_envs.errors import CheckpointError, ParameterError  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::hacontrol_envs.errors.ConvergenceWarning")
"""Most learners here are stopped long before they have learnt."""

FIRM = FirmInvestment(adjustment="as-published", price=1.3)
TINY = {"hidden": (6, 5), "steps": 3, "points": 20, "boundary_points": 8, "mass_points": 30, "iterations": 3}


def learner(**settings):
    """A small one."""
    return PublishedFirmPinn(FirmIndustry(adjustment="as-published"), **{"seed": 4, **TINY, **settings})


def theta(q):
    """The published cost's steepness at the default parameters."""
    return 2 + (6 - 2) / (1 + np.e ** (5 * q))


def states(size=40, seed=0):
    """States well inside the default box."""
    rng = np.random.default_rng(seed)
    return torch.as_tensor(np.stack([rng.uniform(0.5, 4.0, size), rng.uniform(-1.5, 1.5, size)], axis=1))


def constant(network, level):
    """Make the network one that is `level` everywhere."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.layers[-1].bias.fill_(level)


def test_derivatives_are_those_of_the_network_in_units_of_the_state():
    agent, x, h = learner(), states(), 1e-4
    box = Box.of(FIRM)
    found = derivatives(agent._v, box, x)

    def f(dk, dz):
        return agent._v((x + torch.tensor([dk, dz]) - torch.tensor([2.6, 0.0])) / torch.tensor([2.4, 2.5]))[:, 0]

    wanted = f(0, 0), (f(h, 0) - f(-h, 0)) / (2 * h), (f(0, h) - f(0, -h)) / (2 * h)
    for one, other in zip(found, wanted, strict=False):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(found.f_zz, (f(0, h) - 2 * f(0, 0) + f(0, -h)) / h**2, rtol=1e-4, atol=1e-6)


def test_the_density_is_the_square_of_softplus():
    k, z = states().unbind(-1)

    def g(k, z):
        return 0.3 + 0.8 * k - 0.7 * z - 0.4 * z**2 + 0.2 * k * z

    def m(k, z):
        return np.log1p(np.exp(g(k, z).numpy())) ** 2

    found = density_of(Derivatives(g(k, z), 0.8 + 0.2 * z, -0.7 - 0.8 * z + 0.2 * k, torch.full_like(z, -0.8)))
    h = 1e-4
    np.testing.assert_allclose(found.f, m(k, z), rtol=1e-12)
    np.testing.assert_allclose(found.f_k, (m(k + h, z) - m(k - h, z)) / (2 * h), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(found.f_z, (m(k, z + h) - m(k, z - h)) / (2 * h), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(found.f_zz, (m(k, z + h) - 2 * m(k, z) + m(k, z - h)) / h**2, rtol=1e-4, atol=1e-6)


def test_the_hjb_residual_of_a_quadratic_value():
    """V = 9 + 1.2 k - 0.05 k^2 + 0.3 z^2, term by term and by the problem's own Hamiltonian at its rate and cost."""
    x = states()
    k, z = x.unbind(-1)
    v = Derivatives(9 + 1.2 * k - 0.05 * k**2 + 0.3 * z**2, 1.2 - 0.1 * k, 0.6 * z, torch.full_like(z, 0.6))
    q = 0.2 - 0.1 * k
    wanted = 1.3 * z.exp() * k**0.35 + k * q**2 / (2 * theta(q)) - 0.08 * k * v.f_k
    wanted = wanted - 0.5 * z * v.f_z + 0.02 * v.f_zz - 0.05 * v.f
    found = hjb_residual(FIRM, x, v)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    v_x, v_xx, t = torch.stack([v.f_k, v.f_z], dim=1), torch.zeros(len(x), 2, 2, dtype=x.dtype), 0 * k
    v_xx[:, 1, 1] = v.f_zz
    played = FIRM.maximiser(t, x, v_x, v_xx)
    torch.testing.assert_close(found, FIRM.hjb_residual(t, x, played, Jet(v.f, t, v_x, v_xx)), rtol=1e-9, atol=1e-9)


def test_the_growth_of_capital_and_its_derivative():
    x, h = states(), 1e-5
    k = x[:, 0]

    def growth(k):
        return k * ((0.2 - 0.1 * k) / theta(0.2 - 0.1 * k) - 0.08)

    found, slope = capital_growth(FIRM, x, 1.2 - 0.1 * k, torch.full_like(k, -0.1))
    torch.testing.assert_close(found, growth(k), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(slope, (growth(k + h) - growth(k - h)) / (2 * h), rtol=1e-7, atol=1e-9)


def stationary(x, spread):
    """m = g(z)/(growth of k) with the normal density g, growth = 1 + k^2/10, and that growth."""
    k, z = x.unbind(-1)
    growth, growth_k = 1 + k**2 / 10, k / 5
    law = truncnorm(-2.5 / spread, 2.5 / spread, scale=spread)
    m = torch.as_tensor(law.pdf(z.numpy())) / growth
    bend = m * (z**2 / spread**4 - spread**-2)
    return growth, growth_k, Derivatives(m, -m * growth_k / growth, -m * z / spread**2, bend)


def test_a_stationary_density_has_no_residual():
    """Along z the truncated normal one of an Ornstein-Uhlenbeck process, along k one whose current is constant."""
    x = states()
    right, wrong = FIRM.productivity_deviation, 1.2 * FIRM.productivity_deviation
    growth, growth_k, m = stationary(x, right)
    assert fokker_planck_residual(FIRM, x, growth, growth_k, m).abs().max() < 1e-12
    assert fokker_planck_residual(FIRM, x, *stationary(x, wrong)).abs().max() > 1e-3
    along_k, along_z = current(FIRM, x, growth, m)
    assert along_z.abs().max() < 1e-12  # in detailed balance
    torch.testing.assert_close(along_k, growth * m.f)
    still = Derivatives(m.f * growth, 0 * m.f, m.f_z * growth, m.f_zz * growth)  # uniform in capital, which rests
    assert fokker_planck_residual(FIRM, x, 0 * growth, 0 * growth, still).abs().max() < 1e-12


def test_the_residual_is_minus_the_divergence_of_the_current():
    x, h = states(), 1e-5
    agent = learner()

    def at(dk, dz):
        moved = x + torch.tensor([dk, dz])
        with torch.no_grad():
            return current(FIRM, moved, 1 + moved[:, 0] ** 2 / 10, agent._density(moved))

    divergence = (at(h, 0)[0] - at(-h, 0)[0]) / (2 * h) + (at(0, h)[1] - at(0, -h)[1]) / (2 * h)
    found = fokker_planck_residual(FIRM, x, 1 + x[:, 0] ** 2 / 10, x[:, 0] / 5, agent._density(x))
    torch.testing.assert_close(found.detach(), -divergence, rtol=1e-6, atol=1e-8)


def test_the_law_loss_of_constant_networks():
    """V constant: all sell at -1/theta(-1). m constant: every term of the loss is known, wherever points fall."""
    agent = learner()
    constant(agent._v, 7.0)
    constant(agent._m, -2.0)
    m, growth = np.log1p(np.exp(-2.0)) ** 2, -1 / theta(-1.0) - 0.08
    residual = (0.5 - growth) * m
    across = [0.2 * growth * m, 5.0 * growth * m, 0.5 * 2.5 * m, 0.5 * 2.5 * m]
    mass = 4.8 * 5.0 * m
    wanted = residual**2 + np.mean(np.square(across)) + (mass - 1) ** 2
    assert float(agent._density_loss(torch.Generator().manual_seed(0)).detach()) == pytest.approx(wanted, rel=1e-12)


def test_the_value_loss_of_a_constant_network():
    agent = learner(points=100_000)
    constant(agent._v, 7.0)
    k, weight_k = np.polynomial.legendre.leggauss(60)
    k, z = np.meshgrid(2.6 + 2.4 * k, 2.5 * k, indexing="ij")
    residual = np.exp(z) * k**0.35 + k / (2 * theta(-1.0)) - 0.05 * 7.0
    wanted = (weight_k[:, None] * weight_k * residual**2).sum() / 4
    assert float(agent._value_loss(torch.Generator().manual_seed(0)).detach()) == pytest.approx(wanted, rel=0.03)


def test_moments_are_divided_by_the_mass():
    agent = learner(mass_points=400_000)
    constant(agent._m, -2.0)
    output = np.sinh(2.5) / 2.5 * (5.0**1.35 - 0.2**1.35) / (1.35 * 4.8)
    assert agent.mass == pytest.approx(24.0 * np.log1p(np.exp(-2.0)) ** 2, rel=1e-12)
    assert agent.capital == pytest.approx(2.6, rel=1e-12)
    assert agent.output == pytest.approx(output, rel=1e-9)
    agent._log_price = 0.4
    moved = agent._cleared(torch.Generator().manual_seed(0))
    assert moved == pytest.approx(0.3 * 0.4 - 0.7 * np.log(output), abs=0.01)


def test_the_mass_by_another_rule():
    agent, n = learner(hidden=(16, 16)), 201
    with torch.no_grad():
        agent._m.layers[-1].weight.mul_(4.0)
    k, z = np.meshgrid(np.linspace(0.2, 5.0, n), np.linspace(-2.5, 2.5, n), indexing="ij")
    density = agent.density(k, z)
    wanted = simpson(simpson(density, dx=5.0 / (n - 1)), dx=4.8 / (n - 1))
    assert density.min() >= 0
    assert agent.mass == pytest.approx(wanted, rel=1e-5)
    assert not agent.density(np.array([0.1, 5.1, 1.0]), np.array([0.0, 0.0, 2.6])).any()


def test_the_policy_is_the_published_control_within_the_rates_allowed():
    agent, h = learner(), 1e-5
    k, z = states(400).numpy().T
    q = (agent.value(k + h, z) - agent.value(k - h, z)) / (2 * h) - 1
    wanted = np.clip(q / theta(q), agent.firm.action.low[0], agent.firm.action.high[0])
    np.testing.assert_allclose(agent.policy(k, z), wanted, atol=1e-7)
    assert agent.policy(1.0, np.zeros((2, 3))).shape == (2, 3)


def test_edge_points_lie_on_all_edges():
    k, z = learner(boundary_points=43)._on_edges(torch.Generator().manual_seed(0)).unbind(-1)
    distances = k - 0.2, k - 5.0, z + 2.5, z - 2.5
    assert [int((distance.abs() < 1e-12).sum()) for distance in distances] == [10, 10, 10, 10]
    assert k.unique().numel() == 22
    assert z.unique().numel() == 22


def weights(agent):
    """All that was learnt."""
    return torch.cat([*agent._tensors().values(), torch.tensor([agent.price], dtype=torch.float64)])


def test_an_interrupted_run_ends_with_the_same_weights(tmp_path):
    whole = learner().learn()
    path = tmp_path / "checkpoint.safetensors"
    learner().learn(checkpoint=path, callback=lambda agent: False)
    assert len(rows_in(path)) == 1
    resumed = learner().learn(checkpoint=path)
    assert torch.equal(weights(whole), weights(resumed))
    assert [row["price"] for row in resumed.history] == [row["price"] for row in whole.history]
    loaded = IndustryLearner.load(path)
    assert isinstance(loaded, PublishedFirmPinn)
    assert torch.equal(weights(loaded), weights(whole))
    with pytest.raises(CheckpointError, match="seed"):
        learner(seed=5).learn(checkpoint=path)
    with pytest.raises(CheckpointError, match="not a"):
        Agent.load(path)


def rows_in(path):
    """The learning curve in a file."""
    return IndustryLearner.load(path).history


@pytest.mark.slow
def test_the_seed_decides_and_nothing_else():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = learner().learn()
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    assert torch.equal(weights(one), weights(learner().learn()))
    assert not torch.equal(weights(one), weights(learner(seed=5).learn()))


def test_history_and_when_it_stops():
    agent = learner().learn()
    assert len(agent.history) == 3
    assert {"price", "change", "loss", "law", "mass", "evaluations", "seconds"} == set(agent.history[0])
    assert agent.history[-1]["evaluations"] == 3 * 3 * (2 * 20 + 8)
    assert agent.history[-1]["price"] == agent.price
    assert agent.history[-1]["mass"] == agent.mass
    assert agent.history[0]["change"] == pytest.approx(abs(np.log(agent.history[0]["price"])), rel=1e-12)
    assert len(learner(tolerance=1e9).learn().history) == 1


@pytest.mark.parametrize("adjustment", ["kinked", "smoothed"])
def test_other_costs_are_refused(adjustment):
    with pytest.raises(ParameterError, match="as-published"):
        PublishedFirmPinn(FirmIndustry(adjustment=adjustment), seed=0)


@pytest.mark.parametrize(
    ("name", "given"),
    [("steps", 0), ("points", 0), ("boundary_points", 3), ("mass_points", 0), ("iterations", 0), ("hidden", (0,))]
    + [(name, 0.0) for name in ("learning_rate", "gradient_clip", "damping", "tolerance", "start_price")],
)
def test_settings_that_make_no_sense_are_refused(name, given):
    with pytest.raises(ParameterError):
        learner(**{name: given})
