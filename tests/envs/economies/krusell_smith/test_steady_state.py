"""The Krusell-Smith economy and its steady state, against published figures and against other ways to compute them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from common.krusell_smith_economies import economy
from hacontrol_envs.economies.krusell_smith.economy import KrusellSmith
from hacontrol_envs.errors import EquilibriumError, ParameterError
from hacontrol_envs.numerics.transport import Transport

CALIBRATIONS = ["ssj", "jedc"]


@pytest.fixture(params=CALIBRATIONS)
def one(request: pytest.FixtureRequest) -> KrusellSmith:
    return economy(request.param)


def test_income_and_insurance_balance(one):
    """Earnings after tax and insurance are all that labour earns, in every state of Z."""
    shares = one.joint_law / one.joint_law.sum(axis=1, keepdims=True)
    np.testing.assert_allclose((shares * one.earnings).sum(axis=1), one.labour, rtol=1e-13)
    np.testing.assert_allclose(one.joint_law.sum(axis=1) @ one.productivity, 1, rtol=1e-13)


def test_published_incomes():
    unemployed, employed = economy("jedc").earnings.T
    np.testing.assert_allclose(unemployed, 0.15)
    np.testing.assert_allclose(employed, [(1 - 0.15 * 0.1 / 1.0) / 0.9, (1 - 0.15 * 0.04 / (0.96 / 0.9)) / 0.9])
    np.testing.assert_allclose(economy("jedc").labour, [1.0, 0.96 / 0.9])
    np.testing.assert_allclose(economy("jedc").joint_law, [[0.05, 0.45], [0.02, 0.48]], atol=1e-15)


def test_factors_are_paid_their_product_and_torch_agrees(one):
    K, z = np.linspace(20, 50, 7)[:, None], np.arange(len(one.productivity))
    prices, alpha = one.prices(K, z), one.capital_share
    made = one.productivity * K**alpha * one.labour ** (1 - alpha)
    np.testing.assert_allclose((prices.interest_rate + one.depreciation) * K + prices.wage * one.labour, made)
    same = one.prices(torch.from_numpy(K), torch.from_numpy(z))
    np.testing.assert_allclose(same.wage.numpy(), prices.wage, rtol=1e-15)
    cash = one.cash(one.assets, 1, z[:, None], 40.0)
    K, z = 40.0, np.arange(len(one.productivity))[:, None]
    as_torch = torch.from_numpy(one.assets.copy()), 1, torch.from_numpy(z), torch.tensor(K).double()
    np.testing.assert_allclose(one.cash(*as_torch).numpy(), cash, rtol=1e-14)
    earned = one.prices(K, z).wage * one.earnings[:, 1:2]
    np.testing.assert_allclose(cash - earned, (1 + one.prices(K, z).interest_rate) * one.assets, atol=1e-12)


@pytest.mark.parametrize("elasticity", [1.0, 0.5, 1 / 3])
def test_utility(elasticity):
    one, c, step = KrusellSmith("ssj", intertemporal_elasticity=elasticity), np.linspace(0.2, 5, 20), 1e-6
    slope = (one.utility(c + step) - one.utility(c - step)) / (2 * step)
    np.testing.assert_allclose(one.marginal_utility(c), slope, rtol=1e-7)
    np.testing.assert_allclose(one.inverse_marginal_utility(one.marginal_utility(c)), c, rtol=1e-13)
    np.testing.assert_allclose(one.utility(torch.from_numpy(c)).numpy(), one.utility(c), rtol=1e-14)


def test_parameters_survive_json():
    one = KrusellSmith("jedc", unemployment_rates=np.array([0.1, 0.05]), asset_nodes=np.int64(50), discount_factor=0.98)
    again = KrusellSmith(**json.loads(json.dumps(one.parameters)))
    assert again.parameters == one.parameters
    np.testing.assert_array_equal(again.earnings, one.earnings)
    np.testing.assert_array_equal(again.assets, one.assets)


BAD = [
    ({"calibration": "sjj"}, "did you mean 'ssj'"),
    ({"calibration": None}, "calibration must be one of"),
    ({"discount_factr": 0.9}, "did you mean 'discount_factor'"),
    (
        {"calibration": "jedc", "productivity_persistence": 0.9},
        "unexpected keyword argument 'productivity_persistence'",
    ),
    ({"discount_factor": 1.0}, "discount_factor must be below 1"),
    ({"discount_factor": "0.9"}, "must be a number"),
    ({"intertemporal_elasticity": 0.0}, "greater than 0"),
    ({"capital_share": 0.0}, "capital_share must be greater than 0"),
    ({"depreciation": 1.5}, "at most 1"),
    ({"income_persistence": 1.0}, "below 1"),
    ({"income_states": 0}, "at least 1"),
    ({"productivity_states": 2.5}, "whole number"),
    ({"asset_nodes": 3}, "at least 10"),
    ({"borrowing_limit": 500.0}, "asset_max must be greater than"),
    ({"calibration": "jedc", "unemployment_rates": (0.1,)}, "two numbers"),
    ({"calibration": "jedc", "unemployment_rates": (0.1, 0.0)}, "between 0 and 1"),
    ({"calibration": "jedc", "insurance": 20.0}, "tax"),
    ({"calibration": "jedc", "productivity_duration": 1.0}, "greater than 1"),
]


@pytest.mark.parametrize(("parameters", "message"), BAD)
def test_bad_parameters_are_refused(parameters, message):
    with pytest.raises(ParameterError, match=message):
        KrusellSmith(**parameters)


def test_published_steady_state():
    """Mathematics: K 33.1302, r .0133141, w 2.256631, 5.34 % of households at the constraint."""
    found = KrusellSmith("ssj").steady_state()
    assert abs(found.capital - 33.1302) <= 5e-4
    assert abs(found.interest_rate - 0.0133141) <= 1e-6
    assert abs(found.wage - 2.256631) <= 1e-4
    assert abs(found.share_constrained - 0.0534) <= 1e-4
    assert found.share_at_top < 1e-12


def test_steady_state_is_one(one):
    """Markets clear, the law stays, budgets hold."""
    found = one.steady_state()
    assert abs(found.clearing_error) < 1e-8
    np.testing.assert_allclose(found.law.sum(), 1, atol=1e-12)
    np.testing.assert_allclose(one.capital_of(found.law), found.capital, rtol=1e-12)
    transport = Transport(one.assets, found.saving, found.averages.chain)
    assert abs(found.law @ transport - found.law).sum() < 1e-11
    income = found.wage * found.averages.earnings[:, None]
    np.testing.assert_allclose(found.consumption + found.saving, (1 + found.interest_rate) * one.assets + income)
    assert np.all(np.diff(found.consumption) > 0)
    # The same law from any other, 2^16 quarters later.
    matrix = transport.matrix().toarray()
    for _ in range(16):
        matrix = matrix @ matrix
    np.testing.assert_allclose(matrix[7], found.law.ravel(), atol=1e-10)


def test_euler_equation_at_the_steady_state(one):
    """Off the nodes, where the policy is interpolated."""
    found, R = one.steady_state(), 1 + one.steady_state().interest_rate
    a, e = np.linspace(0.0, 100.0, 401), np.arange(len(one.skill))[:, None]
    c, saving = found.consumption_at(a, e), found.saving_at(a, e)
    then = np.stack([found.consumption_at(saving, f) for f in range(len(one.skill))])
    expected = np.einsum("ef,fea->ea", found.averages.chain, one.marginal_utility(then))
    implied = one.inverse_marginal_utility(one.discount_factor * R * expected)
    free = saving > 1e-9
    np.testing.assert_allclose(c[free], implied[free], rtol=2e-3)
    assert np.mean(np.abs(c / implied - 1)[free]) < 3e-5
    assert np.all(c[~free] <= implied[~free] * (1 + 1e-6))


def test_steady_state_policy_is_that_of_value_iteration():
    """At the same prices, the best of equidistant choices; the value linear between nodes, each policy kept a while."""
    one, found, step = economy("ssj"), economy("ssj").steady_state(), 0.04
    states, choices = 100 * np.linspace(0, 1, 150) ** 1.5, np.arange(0, 100 + 1e-9, step)
    cash = (1 + found.interest_rate) * states + found.wage * one.earnings[0][:, None]
    left = cash[..., None] - choices
    utility = np.where(left > 0, one.utility(np.where(left > 0, left, 1.0)), -1e10)
    below = np.clip(np.searchsorted(states, choices, side="right") - 1, 0, len(states) - 2)
    share = (choices - states[below]) / (states[below + 1] - states[below])
    value, row = one.utility(cash) / 0.04, np.arange(3)[:, None]
    for _ in range(25):
        mean = found.averages.chain @ value
        ahead = (1 - share) * mean[:, below] + share * mean[:, below + 1]
        best = (utility + one.discount_factor * ahead[:, None, :]).argmax(axis=-1)
        now = np.take_along_axis(utility, best[..., None], axis=-1)[..., 0]
        for _ in range(40):
            mean = found.averages.chain @ value
            ahead = (1 - share[best]) * mean[row, below[best]] + share[best] * mean[row, below[best] + 1]
            value = now + one.discount_factor * ahead
    gap = np.abs(choices[best] - found.saving_at(states, row))[:, states < 25]
    assert gap.max() < step
    assert gap.mean() < step / 3


def test_lorenz_curve_and_gini(one):
    found = one.steady_state()
    people, wealth = found.lorenz()
    for shares in (people, wealth):
        assert shares[0] == 0
        np.testing.assert_allclose(shares[-1], 1)
    masses, a = found.law.sum(axis=0), one.assets
    direct = masses @ np.abs(a[:, None] - a) @ masses / (2 * masses @ a)
    np.testing.assert_allclose(found.gini, direct, rtol=1e-10)


def test_less_risk_brings_the_interest_rate_to_impatience():
    patience = 1 / 0.98 - 1
    gaps = []
    for deviation in (0.5, 0.2, 0.08):
        one = KrusellSmith("ssj", income_deviation=deviation, asset_nodes=150)
        gaps.append(patience - one.steady_state().interest_rate)
    assert gaps[0] > 3 * gaps[1] > 9 * gaps[2] > 0
    for none in ({"income_deviation": 0.0}, {"income_states": 1}):
        with pytest.raises(EquilibriumError, match=r"1/discount_factor - 1 = 0\.0204082"):
            KrusellSmith("ssj", **none).steady_state()


def test_debt():
    free, bound = (KrusellSmith("ssj", borrowing_limit=limit, asset_nodes=150).steady_state() for limit in (-2.0, 0.0))
    assert free.economy.assets[0] == -2
    assert free.interest_rate > bound.interest_rate  # less reason to save
    assert free.share_constrained < bound.share_constrained
    with pytest.raises(EquilibriumError, match="nothing to consume"):
        KrusellSmith("ssj", borrowing_limit=-80.0, asset_nodes=150).steady_state()


def test_policy_takes_any_batch(one):
    found, rng = one.steady_state(), np.random.default_rng(0)
    assets, e = rng.uniform(0, 60, (4, 5, 3)), rng.integers(0, len(one.skill), (4, 5, 3))
    chosen = found.policy(
        assets, e, np.zeros((4, 5), dtype=np.int64), np.broadcast_to(found.law, (4, 5, *found.law.shape))
    )
    assert chosen.shape == (4, 5, 3)
    assert chosen[2, 3, 1] == found.policy(assets[2, 3, 1:2], e[2, 3, 1:2], 0, found.law)[0]
    n_e = len(one.skill)
    every = np.tile(one.assets, n_e), np.repeat(np.arange(n_e), len(one.assets))
    np.testing.assert_array_equal(found.policy(*every, 0, found.law).reshape(n_e, -1), found.saving)
