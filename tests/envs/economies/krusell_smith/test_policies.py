"""Translations of household policies: each is what it says, and pairs undo each other."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from hacontrol_envs import BrockMirman, IncomeFluctuation, KrusellSmithHousehold, KrusellSmithPlanner
from hacontrol_envs.economies.krusell_smith.policies import (
    MOST_SAVED,
    of_agent,
    of_observations,
    on_grid,
    saving_of_share,
    share_of_saving,
    split,
    to_observations,
    to_shares,
)
from hacontrol_envs.errors import ParameterError

SMALL = {"asset_nodes": 30, "asset_max": 200.0, "others": "steady state"}
CASES = pytest.mark.parametrize(
    "household",
    [
        KrusellSmithHousehold(observe="moments", **SMALL),
        KrusellSmithHousehold("jedc", observe="histogram", borrowing_limit=-0.05, **SMALL),
    ],
    ids=["moments", "histogram"],
)


def cash(economy, assets, e, z, capital):
    """m = (1 + r) a + w y from the marginal products of Z K^alpha L^(1 - alpha)."""
    alpha, labour = economy.capital_share, economy.labour[z]
    product = economy.productivity[z] * capital**alpha * labour ** (1 - alpha)
    r, w = alpha * product / capital - economy.depreciation, (1 - alpha) * product / labour
    return (1 + r) * assets + w * economy.earnings[z, e]


def rule(assets, e, z, capital):
    """Savings that depend on all they may, and are feasible."""
    return 0.5 * assets * (1 + 0.1 * e) + 0.02 * z + 0.002 * capital


def by_law(economy):
    """The same as a household policy."""
    return lambda assets, e, z, law: rule(assets, e, z[..., None], economy.capital_of(law)[..., None])


@CASES
def test_shares_are_of_cash_on_hand_above_the_limit(household):
    economy, rng = household.economy, np.random.default_rng(0)
    at = rng.uniform(0.0, 50.0, 40), rng.integers(0, 2, 40), rng.integers(0, 2, 40), rng.uniform(20.0, 50.0, 40)
    share, above = rng.uniform(0.0, MOST_SAVED, 40), cash(economy, *at) - economy.borrowing_limit
    saved = saving_of_share(economy, share, *at)
    np.testing.assert_allclose(saved, economy.borrowing_limit + share * above, rtol=1e-13)
    np.testing.assert_allclose(share_of_saving(economy, saved, *at), share, rtol=1e-12, atol=1e-15)
    assert np.array_equal(share_of_saving(economy, economy.borrowing_limit - 1 + 0 * saved, *at), 0 * saved)
    assert np.array_equal(share_of_saving(economy, 1e6 + saved, *at), MOST_SAVED + 0 * saved)


@CASES
def test_observations_decode_to_what_they_show(household):
    x = household.some_states(np.random.default_rng(0), 20)
    point, law = household.decode_observation(household.observe(x))
    np.testing.assert_allclose(point[:, :3], x[:, :3], rtol=1e-14, atol=1e-14)
    np.testing.assert_allclose(point[:, 3], (household.law(x) * household.economy.assets).sum(axis=(1, 2)), rtol=1e-14)
    assert (law is None) == (household.observed_law == "moments")
    if law is not None:
        np.testing.assert_allclose(law, household.law(x), rtol=1e-14)


def test_masses_shown_in_single_precision_are_a_law():
    household = KrusellSmithHousehold(observe="histogram", **SMALL)
    y = household.observe(household.some_states(np.random.default_rng(6), 20)).astype(np.float32).astype(np.float64)
    assert np.abs(y[:, 3:].sum(axis=1) - 1).max() > 1e-9
    point, law = household.decode_observation(y)
    np.testing.assert_allclose(law.sum(axis=(1, 2)), 1.0, rtol=1e-14)
    np.testing.assert_allclose(point[:, 3], (law * household.economy.assets).sum(axis=(1, 2)), rtol=1e-13)


@CASES
def test_a_rule_comes_back_from_observations(household):
    """Saving -> actions at observations -> savings at the cells of laws."""
    economy, x = household.economy, household.some_states(np.random.default_rng(1), 4)
    there = of_observations(household, to_observations(household, rule))
    z, law = household.aggregate(x), household.law(x)
    wanted = np.clip(on_grid(economy, by_law(economy), z, law), economy.borrowing_limit, None)
    np.testing.assert_allclose(on_grid(economy, there, z, law), wanted, rtol=1e-12, atol=1e-13)


@CASES
def test_a_grid_is_every_cell_of_the_law(household):
    economy, x = household.economy, household.some_states(np.random.default_rng(2), 3)
    z, law = household.aggregate(x), household.law(x)
    found = on_grid(economy, by_law(economy), z, law)
    for i, e, node in ((0, 0, 0), (1, 1, 7), (2, 1, 29)):
        assert found[i, e, node] == rule(economy.assets[node], e, z[i], economy.capital_of(law[i]))


def test_the_planner_plays_what_households_save():
    planner = KrusellSmithPlanner(asset_nodes=30, asset_max=200.0)
    economy, x = planner.economy, planner.some_states(np.random.default_rng(3), 3)
    shares = to_shares(economy, by_law(economy))(0.0, planner.observe(x)).reshape(3, *planner.shape)
    z, law, e = planner.aggregate(x), planner.law(x), np.arange(planner.shape[0])[:, None]
    capital = economy.capital_of(law)[:, None, None]
    saved = shares * cash(economy, economy.assets, e, z[:, None, None], capital)  # the limit is zero
    np.testing.assert_allclose(saved, on_grid(economy, by_law(economy), z, law), rtol=1e-12)


class Playing:
    """An agent with a policy of observations."""

    def policy(self, t, y):
        return 0.7 + 0.1 * np.tanh(y[..., :1] - 30.0)


class Saving(Playing):
    """An agent with a household policy besides."""

    def saving(self, assets, e, z, law):
        return 0.9 * assets


@CASES
def test_an_agent_is_asked_for_savings_first(household):
    economy, x = household.economy, household.some_states(np.random.default_rng(4), 2)
    z, law = household.aggregate(x), household.law(x)
    grids = [on_grid(economy, of_agent(one, economy, household), z, law) for one in (Saving(), Playing())]
    np.testing.assert_allclose(grids[0], np.broadcast_to(0.9 * economy.assets, law.shape))
    y = household.observe(np.concatenate([np.array([[economy.assets[5], 1.0]]), x[:1, 2:]], axis=1))
    share, capital = float(Playing().policy(0.0, y)[0, 0]), economy.capital_of(law[0])
    limit, m = economy.borrowing_limit, cash(economy, economy.assets[5], 1, z[0], capital)
    assert grids[1][0, 1, 5] == pytest.approx(limit + share * (m - limit), rel=1e-12)
    with pytest.raises(ParameterError, match="Playing has neither `saving`"):
        of_agent(Playing(), economy)


def test_who_has_learnt_a_steady_state_saves_as_there():
    economy = KrusellSmithHousehold(**SMALL).economy
    steady = economy.steady_state(cut=True)
    law = steady.law[None]
    found = on_grid(economy, of_agent(steady_agent(steady), economy), np.array([0]), law)[0]
    np.testing.assert_allclose(found, steady.saving, atol=1e-6)


def steady_agent(steady):
    return type("Learnt", (), {"signal": steady.signal, "solution": steady.solution})()


def test_policies_of_observations_can_be_pickled():
    household = KrusellSmithHousehold(**SMALL)
    there = household.household_policy(Playing().policy)
    again = pickle.loads(pickle.dumps(there))
    x = household.some_states(np.random.default_rng(0), 2)
    at = household.economy, household.aggregate(x), household.law(x)
    assert np.array_equal(on_grid(at[0], there, *at[1:]), on_grid(at[0], again, *at[1:]))


def test_a_household_at_constant_prices_knows_what_its_actions_save():
    problem, rng = IncomeFluctuation(borrowing_limit=-0.3), np.random.default_rng(0)
    x, a = problem.some_states(rng, 30), rng.uniform(0.0, 0.99, (30, 1))
    saved = problem.saving_of_action(x, a)
    m = 1.02 * x[:, 0] + np.array([0.5, 1.5])[x[:, 1].astype(int)]
    np.testing.assert_allclose(saved, -0.3 + a[:, 0] * (m + 0.3), rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(problem.action_of_saving(x, saved), a, rtol=1e-12)


def test_split_reads_points():
    a, e, z, capital = split(np.array([[1.5, 2.0, 1.0, 40.0], [0.0, 0.0, 3.0, 30.0]]))
    assert a.tolist() == [1.5, 0.0]
    assert e.tolist() == [2, 0]
    assert z.tolist() == [1, 3]
    assert capital.tolist() == [40.0, 30.0]
    assert e.dtype == z.dtype == np.int64


@pytest.mark.parametrize(
    "problem",
    [KrusellSmithHousehold(**SMALL), KrusellSmithPlanner(asset_nodes=30, asset_max=200.0), BrockMirman()],
    ids=["household", "planner", "BrockMirman"],
)
def test_a_period_is_transition_and_reward(problem):
    rng = np.random.default_rng(5)
    x = problem.some_states(rng, 6)
    a = problem.action.from_unit(rng.uniform(-1, 1, (6, problem.action.dimension)))
    noise = rng.standard_normal((6, problem.noise_dim))
    moved, paid = problem.exact_transition(0.0, x, a, 1.0, noise)
    assert np.array_equal(moved, problem.transition(x, a, noise))
    assert np.array_equal(paid, problem.reward(x, a))
    with pytest.raises(ParameterError, match="dt must be 1"):
        problem.exact_transition(0.0, x, a, 0.5, noise)
