"""Economy and Equilibrium: what every economy promises, its moments and tables, and calibration."""

from __future__ import annotations

from functools import cache
from typing import ClassVar

import gymnasium as gym
import numpy as np
import pytest
import scipy

from common.marks import slow_where
from hacontrol_agents import DEQN, MarketClearing, SteadyStateAgent
from hacontrol_benchmarks import evaluate
from hacontrol_benchmarks.reporting.compare import economy_figure
from hacontrol_envs import (
    LQR,
    CrossSection,
    Economy,
    Equilibrium,
    FirmIndustry,
    KrusellSmith,
    calibrate,
    registered_economies,
)
from hacontrol_envs.errors import CheckpointError, EquilibriumError, HacontrolError, ParameterError

ECONOMIES = {
    "FirmIndustry": FirmIndustry(),
    "ssj": KrusellSmith("ssj", asset_nodes=120),
    "jedc": KrusellSmith("jedc", asset_nodes=120),
}


@pytest.fixture(scope="module", params=slow_where("FirmIndustry".__eq__, ECONOMIES))
def economy(request):
    return ECONOMIES[request.param]


@cache
def solved(name):
    return ECONOMIES[name].equilibrium()


@pytest.fixture(scope="module")
def equilibrium(economy):
    return solved(next(name for name, one in ECONOMIES.items() if one is economy))


def test_what_is_registered_is_an_economy():
    assert {"FirmIndustry", "KrusellSmith"} <= set(registered_economies())
    assert all(issubclass(kind, Economy) for kind in registered_economies().values())


@pytest.mark.slow
def test_everybody_answers_the_equilibrium_signal_with_the_law_that_confirms_it(economy, equilibrium):
    """`individual`, `respond` and `gap` know nothing of `equilibrium`, nor it of them."""
    assert isinstance(equilibrium, Equilibrium)
    law = economy.respond(equilibrium.signal, equilibrium.solution.policy)
    assert abs(economy.gap(equilibrium.signal, law)) < 1e-6
    assert law.mass.sum() == pytest.approx(1.0, abs=1e-12)
    own = equilibrium.cross_section
    np.testing.assert_allclose(law.mean(law.x), own.mean(own.x), rtol=1e-6, atol=1e-9)
    found = equilibrium.solution
    best = economy.individual(equilibrium.signal).solution()
    x = own.x[own.mass > 1e-6]
    assert np.abs(best.value(0.0, x) - found.value(0.0, x)).max() <= 2e-5 * np.abs(best.value(0.0, x)).max()


@pytest.mark.slow
def test_the_gap_rises_with_the_signal(economy, equilibrium):
    step = min(0.002, 0.3 * (economy.signal_bounds[1] - equilibrium.signal))
    low, high = (
        economy.gap(signal, economy.respond(signal, economy.individual(signal).solution().policy))
        for signal in (equilibrium.signal - step, equilibrium.signal + step)
    )
    assert low < 0 < high


def test_moments_are_those_of_the_individuals(equilibrium):
    """Against NumPy's own statistics of a large draw, and laws that hold in equilibrium."""
    moments, name = equilibrium.moments(), equilibrium.unequal
    rng, mass = np.random.default_rng(0), equilibrium.cross_section.mass
    drawn = rng.choice(len(mass), 400_000, p=mass / mass.sum())
    every = {key: values[drawn] for key, values in equilibrium.individuals.items()}
    for key, values in every.items():
        assert moments[f"mean {key}"] == pytest.approx(values.mean(), abs=6 * values.std() / 600)
        assert moments[f"deviation {key}"] == pytest.approx(values.std(), rel=0.03, abs=1e-9)
    one, other = list(every)[:2]
    correlation = np.corrcoef(every[one], every[other])[0, 1]
    assert moments[f"correlation {one}, {other}"] == pytest.approx(correlation, abs=0.02)
    ordered = np.sort(every[name])
    ranks = np.arange(1, len(ordered) + 1)
    gini = 2 * (ranks @ ordered) / (len(ordered) * ordered.sum()) - (len(ordered) + 1) / len(ordered)
    assert moments[f"gini {name}"] == pytest.approx(gini, rel=0.02)
    top, bottom = ordered[-4_000:].sum() / ordered.sum(), ordered[:200_000].sum() / ordered.sum()
    assert moments[f"share of {name}, top 1 %"] == pytest.approx(top, rel=0.05)
    assert moments[f"share of {name}, bottom 50 %"] == pytest.approx(bottom, rel=0.05)


@pytest.mark.slow
def test_firms_replace_what_wears_out_and_their_investment_does_not_depend_on_their_size():
    """E[iota k] = delta E[k] and E[iota] = delta where the law of log k rests: so their correlation is nothing."""
    moments = solved("FirmIndustry").moments()
    assert moments["mean investment rate"] == pytest.approx(0.08, rel=1e-9)
    assert abs(moments["correlation capital, investment rate"]) < 1e-8
    assert moments["mean productivity"] == pytest.approx(np.exp(0.2**2 / 2), rel=1e-6)
    assert moments["deviation productivity"] == pytest.approx(np.exp(0.2**2 / 2) * np.sqrt(np.expm1(0.2**2)), rel=1e-5)


def test_tables_hold_every_individual_and_every_moment(equilibrium):
    frame, latex = equilibrium.to_frame(), equilibrium.to_latex()
    assert list(frame) == ["mass", *equilibrium.individuals]
    assert frame["mass"].sum() == pytest.approx(1.0)
    moments = equilibrium.moments()
    rows = [line for line in latex.splitlines() if line.endswith(r"\\")][1:]
    assert len(rows) == len(moments)
    assert r"top 1 \%" in latex
    for row, value in zip(rows, moments.values(), strict=True):
        assert float(row.split("&")[1].rstrip("\\ ")) == pytest.approx(value, rel=1e-3, abs=1e-12)


def test_a_figure_has_a_panel_for_every_variable(equilibrium):
    axes = equilibrium.plot().axes
    assert len(axes) == len(equilibrium.individuals) + 1
    assert all(panel.lines for panel in axes)


@pytest.mark.slow
def test_the_reference_solution_is_an_equilibrium_too():
    found = KrusellSmith("jedc", asset_nodes=60, asset_max=300.0).reference_solution()
    moments, law = found.moments(), found.cross_section
    assert isinstance(found, Equilibrium)
    assert moments["mean assets"] == pytest.approx(moments["capital"], rel=1e-10)
    used = moments["mean consumption"] + moments["mean saving"] - (1 - found.economy.depreciation) * moments["capital"]
    assert used == pytest.approx(moments["output"], rel=1e-6)
    x = law.x[law.mass > 1e-6][:100]
    saved = found.saving(x[:, 0], x[:, 1].astype(int), x[:, 2].astype(int), x[:, 3])
    np.testing.assert_array_equal(found.solution.policy(0.0, x)[:, 0], saved)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["FirmIndustry", "ssj"])
def test_market_clearing_finds_the_signal_of_any_economy(name):
    """To the accuracy of the individual's own solution, which is not clustered around the law."""
    economy = ECONOMIES[name]
    agent = MarketClearing(economy, seed=0).learn()
    assert agent.converged
    assert agent.signal == pytest.approx(solved(name).signal, rel=1e-6)
    if name == "FirmIndustry":
        found = evaluate(agent, economy)
        assert found["density_error"] is None
        assert max(found[key] for key in ("price_error", "output_error", "capital_error", "value_error_visited")) < 1e-6
        assert found["policy_error_visited"] < 1e-5


class Workshop(Economy):
    """Workers who hold a machine near zero; what moving it costs rises with how restless all machines are.

    Each solves `LQR(control_cost=s)` by a = -k(s) x, so that x is normal with variance v; in equilibrium s v = 1.
    """

    parameters: ClassVar = {}

    def first_guess(self):
        return 10.0

    signal_bounds = (0.0, np.inf)

    def individual(self, signal):
        return LQR(control_cost=float(signal))

    def respond(self, signal, policy):
        gain = -float(policy(0.0, np.ones((1, 1)))[0, 0])
        nodes, weights = np.polynomial.hermite_e.hermegauss(20)
        problem = LQR()
        drift = float(np.asarray(problem.drift(0.0, np.ones((1, 1)), np.zeros((1, 1))))[0, 0])
        noise = float(np.asarray(problem.diffusion(0.0, np.ones((1, 1)), np.zeros((1, 1))))[0, 0, 0])
        deviation = noise / np.sqrt(2 * (gain - drift))
        return CrossSection(deviation * nodes[:, None], weights / weights.sum())

    def gap(self, signal, law):
        return float(np.log(signal) + np.log(law.mean(law.x[:, 0] ** 2)))

    def equilibrium(self):
        raise EquilibriumError("by hand, in the test")


@pytest.mark.slow
def test_the_individual_can_be_solved_by_an_agent(tmp_path):
    """Neural policy iteration stands in for the known solution; the right signal solves one equation in k(s)."""
    economy = Workshop()
    agent = MarketClearing(economy, solver="npi", seed=0, tolerance=1e-2).learn()

    def gap(log_signal):
        signal = float(np.exp(log_signal))
        return economy.gap(signal, economy.respond(signal, LQR(control_cost=signal).solution().policy))

    assert agent.converged
    assert agent.signal == pytest.approx(np.exp(scipy.optimize.brentq(gap, -5, 5)), rel=1e-2)
    agent.save(tmp_path / "agent.safetensors")
    with pytest.raises(CheckpointError, match="no registered one is called 'Workshop'"):
        MarketClearing.load(tmp_path / "agent.safetensors")
    loaded = MarketClearing.load(tmp_path / "agent.safetensors", env=economy)
    x = np.linspace(-1, 1, 11)[:, None]
    np.testing.assert_array_equal(loaded.solution.policy(0.0, x), agent.solution.policy(0.0, x))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [({"solver": "nobody"}, "no agent is called"), ({"solver": "hjb-fp-pinn"}, "an agent of environments")],
)
def test_a_solver_that_is_none_is_refused(arguments, said):
    with pytest.raises(HacontrolError, match=said):
        MarketClearing(ECONOMIES["FirmIndustry"], seed=0, **arguments)


def test_something_else_than_an_economy_is_refused():
    with pytest.raises(ParameterError, match="economy must be a Economy"):
        MarketClearing("FirmIndustry", seed=0)


@pytest.mark.slow
def test_calibration_inverts_what_the_economy_does():
    """The moments of an economy lead back to its parameters."""
    truth = KrusellSmith("ssj", asset_nodes=60, asset_max=400.0, discount_factor=0.975)
    target = truth.equilibrium().capital
    start = KrusellSmith("ssj", asset_nodes=60, asset_max=400.0)
    found = calibrate(start, {"capital": target}, {"discount_factor": (0.97, 0.985)})
    assert found.parameters["discount_factor"] == pytest.approx(0.975, abs=1e-7)
    assert abs(found.errors["capital"]) < 1e-5
    assert found.economy.parameters["discount_factor"] == found.parameters["discount_factor"]


@pytest.mark.slow
def test_two_parameters_meet_two_targets():
    truth = KrusellSmith("ssj", asset_nodes=60, asset_max=400.0, discount_factor=0.975, intertemporal_elasticity=0.8)
    moments = truth.equilibrium().moments()
    targets = {name: moments[name] for name in ("interest rate", "gini assets")}
    start = KrusellSmith("ssj", asset_nodes=60, asset_max=400.0)
    ranges = {"discount_factor": (0.97, 0.985), "intertemporal_elasticity": (0.6, 1.6)}
    found = calibrate(start, targets, ranges)
    assert max(map(abs, found.errors.values())) < 1e-5
    assert found.parameters == pytest.approx({"discount_factor": 0.975, "intertemporal_elasticity": 0.8}, rel=1e-3)
    again = found.economy.equilibrium().moments()
    assert all(again[name] == pytest.approx(target, rel=1e-5) for name, target in targets.items())


@pytest.mark.parametrize(
    ("targets", "parameters", "error", "said"),
    [
        ({"capital": 30.0}, {}, ParameterError, "1 targets need as many parameters, got 0"),
        ({"capital": 30.0}, {"discount_factor": (0.99, 0.97)}, ParameterError, "must increase"),
        ({"capitol": 30.0}, {"discount_factor": (0.97, 0.98)}, ParameterError, "no moment 'capitol'.*'capital'"),
        ({"capital": 900.0}, {"discount_factor": (0.97, 0.98)}, EquilibriumError, "900 is not between"),
        ({"capital": 30.0}, {"discout": (0.97, 0.98)}, ParameterError, "discount_factor"),
    ],
)
def test_calibration_refuses_what_cannot_be(targets, parameters, error, said):
    with pytest.raises(error, match=said):
        calibrate(KrusellSmith("ssj", asset_nodes=60, asset_max=400.0), targets, parameters)


@pytest.mark.slow
def test_households_are_judged_on_the_economy_as_on_its_environment(tmp_path):
    """Deep equilibrium nets and a learnt steady state, by the metrics of `KrusellSmith-v0`."""
    given = {"asset_nodes": 60, "asset_max": 300.0}
    economy, env = KrusellSmith("ssj", **given), gym.make("KrusellSmith-v0", **given)
    at_rest = evaluate(MarketClearing(economy, seed=0).learn(), economy)
    known = evaluate(SteadyStateAgent(env=env), env)
    for name in ("path_error", "welfare_gain", "capital", "den_haan"):
        assert at_rest[name] == pytest.approx(known[name], rel=1e-4, abs=1e-7)
    agent = DEQN(economy, seed=0, iterations=3).learn(total_timesteps=200_000)
    assert evaluate(agent, economy)["path_error"] < at_rest["path_error"]
    figure = economy_figure({"deqn": agent}, economy)
    assert len(figure.axes) > 3
