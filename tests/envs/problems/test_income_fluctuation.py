"""IncomeFluctuation: the optimum against Bellman's equation, closed forms and simulation, at random parameters."""

from __future__ import annotations

import numpy as np
import pytest

from hacontrol_envs import IncomeFluctuation, SDEEnv, check_problem
from hacontrol_envs.errors import ParameterError, ResetError, TruncationWarning


def drawn(seed: int) -> IncomeFluctuation:
    """A household with legal parameters, far from where solvers were tuned."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 5))
    chain = rng.dirichlet(np.full(n, 0.7), size=n) * 0.98 + 0.02 / n
    beta = float(rng.uniform(0.85, 0.98))
    rate = float(rng.uniform(-0.03, 0.9 * (1 / beta - 1)))
    income = np.sort(rng.uniform(0.2, 2.0, n))
    limit = float(rng.choice([0.0, -0.3]))
    return IncomeFluctuation(
        interest_rate=rate,
        income=tuple(income),
        chain=tuple(map(tuple, chain)),
        discount_factor=beta,
        risk_aversion=float(rng.choice([0.7, 1.0, 2.0, 5.0])),
        borrowing_limit=limit,
        asset_max=60.0,
    )


@pytest.mark.parametrize("seed", range(8))
def test_the_optimum_meets_bellmans_equation_and_nothing_does_better(seed):
    """Deviations of up to a tenth of what can be saved, at states all over the box and near the limit."""
    problem, rng = drawn(seed), np.random.default_rng(100 + seed)
    found, x = problem.solution(), problem.some_states(rng, 400)
    x[:200, 0] = problem.borrowing_limit + rng.uniform(0, 3, 200)
    a = found.policy(0.0, x)
    scale = 1 + np.abs(found.value(0.0, x)).max()
    residual = problem.bellman_residual(x, a, lambda y: found.value(0.0, y))
    assert np.abs(residual).max() < 2e-4 * scale * (1 - problem.discount_factor) + 2e-5 * scale
    for change in np.linspace(-0.1, 0.1, 21):
        other = np.clip(a + change, 0.0, 0.999)
        assert problem.bellman_residual(x, other, lambda y: found.value(0.0, y)).max() < 2e-5 * scale


def test_a_household_almost_without_income_eats_its_cake():
    """Log utility, no income to speak of: c = (1 - beta) m and V' = 1/((1 - beta) a), whatever the interest rate."""
    beta = 0.95
    problem = IncomeFluctuation(
        interest_rate=0.01,
        income=(1e-9, 1e-9),
        discount_factor=beta,
        risk_aversion=1.0,
        asset_max=200.0,
        asset_nodes=600,
    )
    x = np.stack([np.linspace(20.0, 150.0, 50), np.zeros(50)], axis=-1)
    share = problem.solution().policy(0.0, x)[:, 0]
    np.testing.assert_allclose(share, beta, rtol=2e-4)
    value = problem.solution().value(0.0, x)
    slope = np.diff(value) / np.diff(np.log(x[:, 0]))
    np.testing.assert_allclose(slope, 1 / (1 - beta), rtol=2e-3)


@pytest.mark.slow
def test_the_law_is_where_a_simulation_goes():
    problem = IncomeFluctuation()
    policy, rng = problem.solution().policy, np.random.default_rng(0)
    law, x = problem.cross_section(policy), problem.initial_state(rng, 20_000)
    for _ in range(400):
        x = problem.transition(x, policy(0.0, x), rng.standard_normal((len(x), 1)))
    mean, spread = law.mean(law.x), np.sqrt(law.mean((law.x - law.mean(law.x)) ** 2))
    assert np.all(np.abs(x.mean(axis=0) - mean) < 5 * spread / np.sqrt(len(x)) + 2e-3)
    constrained = law.mass[law.x[:, 0] == problem.borrowing_limit].sum()
    assert np.mean(x[:, 0] <= 1e-12) == pytest.approx(constrained, abs=0.01)


def test_it_keeps_every_promise_of_a_problem_and_plays():
    problem = drawn(1)
    check_problem(problem)
    env = SDEEnv(problem, dt=1.0, episode_steps=20)
    env.reset(seed=0)
    assert np.isfinite(env.step(np.zeros(1, dtype=np.float32))[1])


def test_a_grid_that_ends_too_early_is_told():
    problem = IncomeFluctuation(interest_rate=0.04, asset_max=5.0)
    with pytest.warns(TruncationWarning, match="asset_max=5"):
        problem.cross_section(problem.solution().policy)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"discount_factor": 1.0}, "discount_factor must be below 1"),
        ({"interest_rate": 0.05}, "save without bound"),
        ({"borrowing_limit": -60.0}, "nothing to consume"),
        ({"income": (1.0,)}, "at least two numbers"),
        ({"chain": ((0.9, 0.2), (0.1, 0.9))}, "rows of probabilities"),
        ({"chain": ((1.0,), (1.0,))}, "rows of probabilities"),
        ({"risk_aversion": 0.0}, "risk_aversion must be greater than 0"),
        ({"asset_max": -1.0}, "asset_max"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(arguments, said):
    with pytest.raises(ParameterError, match=said):
        IncomeFluctuation(**arguments)


def test_states_that_are_none_are_refused():
    problem = IncomeFluctuation()
    for x in ([[-1.0, 0.0]], [[1.0, 0.5]], [[1.0, 2.0]]):
        with pytest.raises(ResetError):
            problem.refuse_state(np.array(x))
