"""KrusellSmith-v0 and KrusellSmithCloud-v0: one household among many, and all of them."""

from __future__ import annotations

import json

import gymnasium as gym
import numpy as np
import pytest

from hacontrol_agents import PPOAgent
from hacontrol_envs import DiscreteProblem, check_problem
from hacontrol_envs.economies.krusell_smith.household import KrusellSmithHousehold
from hacontrol_envs.economies.krusell_smith.planner import KrusellSmithPlanner
from hacontrol_envs.economies.krusell_smith.policies import on_grid, split
from hacontrol_envs.errors import ParameterError, ResetError
from hacontrol_envs.numerics.states import draw, nearest

SMALL = {"asset_nodes": 60, "asset_max": 300.0}
CALIBRATIONS = ["ssj", "jedc"]


def household(calibration: str = "ssj", **parameters) -> KrusellSmithHousehold:
    return KrusellSmithHousehold(calibration, **{"others": "steady state", **SMALL, **parameters})


@pytest.mark.slow
@pytest.mark.parametrize("calibration", CALIBRATIONS)
@pytest.mark.parametrize("observe", ["moments", "histogram"])
def test_contract_of_the_household(calibration, observe):
    check_problem(household(calibration, observe=observe))


@pytest.mark.parametrize("calibration", CALIBRATIONS)
def test_contract_of_the_planner(calibration):
    check_problem(KrusellSmithPlanner(calibration, **SMALL))


@pytest.mark.slow
def test_contract_beside_the_reference_population():
    p = household(others="reference")
    assert p.solution().kind == "numerical"
    check_problem(p)


@pytest.mark.slow
@pytest.mark.parametrize("calibration", CALIBRATIONS)
def test_many_households_are_the_population(calibration):
    """20 000 households that follow the population's own policy, drawn from its law, stay distributed by its law."""
    p, n, rng = household(calibration), 20_000, np.random.default_rng(0)
    economy, policy = p.economy, p.economy.steady_state().policy
    x = np.repeat(p.initial_state(rng, 1), n, axis=0)
    cell = draw(
        np.broadcast_to(p.law(x[:1]).reshape(1, -1), (n, p.law(x).shape[1] * len(economy.assets))), rng.normal(size=n)
    )
    x[:, 1], x[:, 0] = cell // len(economy.assets), economy.assets[cell % len(economy.assets)]
    for _ in range(6):
        law, z = p.law(x), p.aggregate(x)
        saved = policy(x[:, :1], x[:, 1:2].astype(int), z, law)[:, 0]
        limit = economy.borrowing_limit
        cash = economy.cash(x[:, 0], x[:, 1].astype(int), z, economy.capital_of(law))
        shocks = np.stack([np.full(n, rng.normal()), rng.normal(size=n)], axis=-1)  # one aggregate shock for all
        x = p.transition(x, ((saved - limit) / (cash - limit))[:, None], shocks)
    law = p.law(x)[0]
    assert np.ptp(p.law(x), axis=0).max() == 0
    for name, drawn, wanted in (
        ("assets", x[:, 0], (law * economy.assets).sum()),
        ("share of the lowest income", x[:, 1] == 0, law[0].sum()),
    ):
        error = np.std(drawn) / np.sqrt(n)
        assert abs(np.mean(drawn) - wanted) < 4 * error, name


def test_the_population_does_not_heed_one_household():
    p, rng = household(), np.random.default_rng(0)
    x, noise = p.initial_state(rng, 5), rng.normal(size=(5, 2))
    low, high = (p.transition(x, np.full((5, 1), share), noise) for share in (0.1, 0.9))
    assert np.array_equal(low[:, 1:], high[:, 1:])
    assert np.all(low[:, 0] < high[:, 0])


def test_the_reward_is_utility_of_what_is_not_saved():
    p = household("jedc", intertemporal_elasticity=0.5)
    x, a = p.some_states(np.random.default_rng(0), 50), np.random.default_rng(1).uniform(0, 0.99, (50, 1))
    K = (p.law(x) * p.economy.assets).sum(axis=(1, 2))
    z, e = x[:, 2].astype(int), x[:, 1].astype(int)
    Z, L = p.economy.productivity[z], p.economy.labour[z]
    r, w = 0.36 * Z * (K / L) ** -0.64 - 0.025, 0.64 * Z * (K / L) ** 0.36
    c = (1 - a[:, 0]) * ((1 + r) * x[:, 0] + w * p.economy.earnings[z, e])
    np.testing.assert_allclose(p.reward(x, a), -1 / c, rtol=1e-12)
    saved = p.transition(x, a, np.zeros((50, 2)))[:, 0]
    np.testing.assert_allclose(saved + c, (1 + r) * x[:, 0] + w * p.economy.earnings[z, e], rtol=1e-12)


@pytest.mark.parametrize("calibration", CALIBRATIONS)
def test_the_planner_under_a_policy_is_the_population_under_it(calibration):
    one, all_ = household(calibration), KrusellSmithPlanner(calibration, **SMALL)
    rng = np.random.default_rng(0)
    x = one.initial_state(rng, 4)
    noise = rng.normal(size=(4, 2))
    moved = one.transition(x, np.full((4, 1), 0.5), noise)
    common = x[:, 2:]
    shares = all_.play(one.economy.steady_state().policy)(0.0, all_.observe(common))
    after = all_.transition(common, shares, noise[:, :1])
    np.testing.assert_allclose(after, moved[:, 2:], atol=1e-12)


def test_the_planner_earns_what_its_households_earn():
    """The reward of the planner is the mean over households of u(c)."""
    one, all_ = household("ssj"), KrusellSmithPlanner("ssj", **SMALL)
    x = all_.initial_state(np.random.default_rng(0), 1)
    shares = all_.play(one.economy.steady_state().policy)(0.0, all_.observe(x))
    n_e, n_a = all_.shape
    rows = np.repeat(x, n_e * n_a, axis=0)
    own = np.stack([np.tile(all_.economy.assets, n_e), np.repeat(np.arange(n_e), n_a)], axis=-1)
    rewards = one.reward(np.concatenate([own, rows], axis=-1), shares[0][:, None])
    assert float(all_.reward(x, shares)[0]) == pytest.approx(float(rewards @ x[0, 1:]), rel=1e-12)


@pytest.mark.parametrize("observe", ["moments", "histogram"])
def test_an_agents_policy_as_the_population(observe):
    """A policy of observations, turned into what households do, is that policy at every cell."""
    p = household(observe=observe)
    steady = p.economy.steady_state().policy

    def policy(t, y):  # an agent that has found the steady state's policy, from what it observes
        assets, e, z, capital = split(p.decode_observation(y).x)
        saved = steady(assets[..., None], e[..., None], z, None)[..., 0]
        limit = p.economy.borrowing_limit
        return ((saved - limit) / (p.economy.cash(assets, e, z, capital) - limit))[..., None]

    x = p.some_states(np.random.default_rng(0), 3)
    lifted = on_grid(p.economy, p.household_policy(policy), p.aggregate(x), p.law(x))
    np.testing.assert_allclose(lifted, on_grid(p.economy, steady, p.aggregate(x), p.law(x)), atol=1e-9)
    among = p.among(p.household_policy(policy))
    noise = np.zeros((3, 2))
    a = np.full((3, 1), 0.5)
    np.testing.assert_allclose(among.transition(x, a, noise), p.transition(x, a, noise), atol=1e-12)
    assert among.parameters["others"] == "given"
    assert among.solution() is None


def test_what_is_seen_is_what_is():
    for observe in ("moments", "histogram"):
        p = household("jedc", observe=observe)
        x = p.some_states(np.random.default_rng(0), 30)
        env = gym.make("KrusellSmith-v0", calibration="jedc", others="steady state", observe=observe, **SMALL).unwrapped
        _, y = env.from_observation(env.to_observation(0.0, x))
        assets, e, z, capital = split(p.decode_observation(y).x)
        np.testing.assert_allclose(assets, x[:, 0], rtol=1e-4, atol=1e-4)
        assert np.array_equal(e, x[:, 1])
        assert np.array_equal(z, x[:, 2])
        np.testing.assert_allclose(capital, p.economy.capital_of(p.law(x)), rtol=1e-5)


def test_an_agent_of_sb3_plays_and_may_be_the_population():
    env = gym.make("KrusellSmith-v0", others="steady state", **SMALL)
    agent = PPOAgent(env=env, seed=0, num_envs=2, settings={"n_steps": 8, "batch_size": 16}).learn(16)
    p, (observation, _) = env.unwrapped.problem, env.reset(seed=0)
    action, _ = agent.predict(observation, deterministic=True)
    _, y = env.unwrapped.from_observation(observation)
    np.testing.assert_allclose(env.unwrapped.from_physical(agent.policy(0.0, y)), action, atol=1e-6)
    others = p.among(p.household_policy(agent.policy))
    x = others.initial_state(np.random.default_rng(0), 2)
    assert np.isfinite(others.transition(x, np.full((2, 1), 0.5), np.zeros((2, 2)))).all()


def test_states_that_are_none_are_refused():
    env = gym.make("KrusellSmith-v0", others="steady state", **SMALL).unwrapped
    env.reset(seed=0)
    good = env.state
    for place, value, message in (
        (0, -1.0, "borrowing limit"),
        (1, 0.5, "income state"),
        (2, 7.0, "aggregate state"),
        (3, good[3] - 0.1, "masses"),
        (3, good[3] + 0.1, "masses"),
    ):
        bad = good.copy()
        bad[place] = value
        with pytest.raises(ResetError, match=message):
            env.reset(options={"state": bad})
        assert np.array_equal(env.state, good)
    env.reset(options={"state": good})
    with pytest.raises(ResetError, match="masses"):
        gym.make("KrusellSmithCloud-v0", **SMALL).reset(options={"state": np.zeros(181)})


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"others": "others"}, "others must be"),
        ({"observe": "everything"}, "observe must be"),
        ({"asset_nodse": 3}, "asset_nodes"),
        ({"discount_factor": 1.2}, "discount_factor"),
        ({"calibration": "ks"}, "calibration"),
        ({"discount_factor": np.ones(3) > 0}, "numbers, strings and lists"),
    ],
)
def test_bad_parameters(parameters, message):
    with pytest.raises(ParameterError, match=message):
        gym.make("KrusellSmith-v0", **parameters)


def test_parameters_rebuild_the_problem_and_the_economy_is_shared():
    p = household(observe="histogram", discount_factor=0.97)
    twin = KrusellSmithHousehold(**json.loads(json.dumps(p.parameters)))
    assert twin.parameters == p.parameters
    assert twin.economy is p.economy
    assert isinstance(p, DiscreteProblem)
    assert KrusellSmithPlanner("jedc", **SMALL).parameters == {"calibration": "jedc", **SMALL}


def test_drawing_numbers():
    odds = np.array([[0.2, 0.0, 0.5, 0.3]])
    rng = np.random.default_rng(0)
    drawn = draw(np.broadcast_to(odds, (100_000, 4)), rng.normal(size=100_000))
    share = np.bincount(drawn, minlength=4) / 100_000
    assert share[1] == 0
    assert np.abs(share - odds[0]).max() < 4 * np.sqrt(0.25 / 100_000)
    assert draw(odds, np.array([40.0])) == 3
    assert draw(odds, np.array([-40.0])) == 0
    assert np.array_equal(nearest(np.array([1.0, 0.3, 2.0]), np.array([0.9, -5.0, 9.0, 0.6])), [0, 1, 2, 1])


def perturbed(policy, rng: np.random.Generator):
    """A policy that consumes more, or less, by factors that vary smoothly with assets, income and productivity."""
    size, slope, phase = rng.choice([-1, 1]) * rng.uniform(0.05, 0.2), rng.normal(size=3), rng.uniform(0, 2 * np.pi)

    def other(t, y):
        wave = np.sin(phase + slope[0] * np.log(y[:, 0]) + slope[1] * y[:, 1] + 10 * slope[2] * (y[:, 2] - 1))
        return 1 - (1 - policy(t, y)) * np.exp(size * (1 + wave))[:, None]

    return other


def welfare(env, policy, quarters: int) -> np.ndarray:
    """Discounted rewards, and what the reference's own value makes of where they end."""
    env.reset(seed=5)
    total, gamma = np.zeros(env.num_envs), env.gamma
    for k in range(quarters):
        a = policy(0.0, env.problem.observe(env.state))
        total += gamma**k * env.step(env.from_physical(a))[1]
    return total + gamma**quarters * env.problem.solution().value(0.0, env.problem.observe(env.state))


@pytest.mark.slow
def test_the_reference_beats_twenty_others():
    """In the environment, at the same prices and shocks, 20 perturbed policies earn less, beyond 3 standard errors."""
    env = gym.make_vec("KrusellSmith-v0", 256, autoreset_mode="Disabled", episode_steps=None, **SMALL)
    policy, rng = env.problem.solution().policy, np.random.default_rng(0)
    best = welfare(env, policy, 150)
    for _ in range(20):
        loss = best - welfare(env, perturbed(policy, rng), 150)
        assert loss.mean() > 3 * loss.std() / np.sqrt(len(loss))
