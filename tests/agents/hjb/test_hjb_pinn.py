"""HJBPinn against closed forms: LQR, Merton, and the limits of the firm problem in which its value is known."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from scipy.integrate import quad, solve_bvp

import hacontrol_envs  # noqa: F401  (registers the environments)
from hacontrol_agents import HJBPinn
from hacontrol_envs import ControlProblem, Domain, FirmInvestment, SDEEnv
from hacontrol_envs.arrays import namespace
from hacontrol_envs.errors import ParameterError

pytestmark = pytest.mark.filterwarnings("ignore::hacontrol_envs.errors.ConvergenceWarning")
"""Most learners here are stopped long before they have learnt."""


def relative(found, true) -> float:
    return float(np.sqrt(np.mean((found - true) ** 2) / np.mean(true**2)))


def on(problem: ControlProblem) -> SDEEnv:
    return SDEEnv(problem, dt=0.25, scheme="euler", episode_steps=100)


@pytest.mark.slow
@pytest.mark.parametrize(("id", "allowed"), [("LQR-v0", 1e-5), ("Merton-v0", 1e-4)])
def test_closed_forms(id, allowed):
    env = gym.make(id)
    agent = HJBPinn(env=env, seed=0, iterations=12).learn()
    problem = env.unwrapped.problem
    x = problem.state.from_unit(np.linspace(-0.9, 0.9, 50)[:, None])
    optimum = problem.solution()
    assert relative(agent.policy(0.0, x), optimum.policy(0.0, x)) < allowed
    assert relative(agent.value(0.0, x), optimum.value(0.0, x)) < allowed


@pytest.mark.slow
@pytest.mark.parametrize(("optimizer", "iterations", "allowed"), [("l-bfgs", 10, 5e-2), ("adam", 20, 0.3)])
def test_first_order_optimizers(optimizer, iterations, allowed):
    """They learn too, to fewer digits: that is why they are not the default."""
    env = gym.make("LQR-v0")
    agent = HJBPinn(env=env, seed=0, iterations=iterations, optimizer=optimizer).learn()
    x = np.linspace(-1.0, 1.0, 50)[:, None]
    optimum = env.unwrapped.problem.solution()
    assert relative(agent.policy(0.0, x), optimum.policy(0.0, x)) < allowed


@pytest.mark.slow
def test_a_finite_horizon_meets_its_terminal_reward():
    env = gym.make("LQR-v0", horizon=1.0, terminal_cost=0.3, dt=0.05)
    agent = HJBPinn(env=env, seed=0, iterations=15).learn()
    optimum, x = env.unwrapped.problem.solution(), np.linspace(-1.0, 1.0, 20)[:, None]
    for t in (0.0, 0.5, 1.0):
        assert relative(agent.value(t, x), optimum.value(t, x)) < 1e-3


def firm_states(mean: float, spread: float, seed: int = 0):
    rng = np.random.default_rng(seed)
    return np.stack([mean * np.exp(rng.uniform(-0.2, 0.2, 400)), rng.uniform(-spread, spread, 400)], axis=-1)


@pytest.mark.slow
def test_constant_returns_value_is_linear_in_capital():
    """Hayashi (1982): V = q(z) k with (r + delta) q = P e^z + (q-1)^2/(2 theta) - kappa z q' + sigma^2/2 q''."""
    price, L = 0.13, 0.6
    problem = FirmInvestment(
        returns_to_scale=1.0, price=price, adjustment_cost_down=2.0, capital_bounds=(0.01, 100.0), productivity_bound=L
    )

    def slopes(z, y):
        q, q_z = y
        gain = (q - 1) ** 2 / 4
        return np.stack([q_z, ((0.05 + 0.08) * q - price * np.exp(z) - gain + 0.5 * z * q_z) / 0.02])

    mesh = np.linspace(-L, L, 401)
    guess = np.stack([1 + 0.3 * mesh, 0.3 + 0 * mesh])
    exact = solve_bvp(slopes, lambda a, b: np.array([a[1], b[1]]), mesh, guess, tol=1e-9, max_nodes=100_000)
    assert exact.success
    agent = HJBPinn(env=on(problem), seed=0, iterations=25).learn()
    x = firm_states(problem.resting_capital, 0.4)
    q = exact.sol(x[:, 1])[0]
    assert relative(agent.value(0.0, x), q * x[:, 0]) < 1e-3
    assert relative(agent.policy(0.0, x)[:, 0], (q - 1) / 2) < 1e-3


@pytest.mark.slow
def test_without_noise_a_firm_rests_where_marginal_value_is_the_cost_of_replacement():
    problem = FirmInvestment(volatility=0.0, price=0.75, productivity_bound=1.0)
    agent = HJBPinn(env=on(problem), seed=0, iterations=25).learn()
    k, delta, theta, r = problem.resting_capital, 0.08, 2.0, 0.05
    x = np.array([[k, 0.0]])
    value = (0.75 * k**0.35 - (delta + theta * delta**2 / 2) * k) / r
    assert agent.value(0.0, x)[0] == pytest.approx(value, rel=1e-3)
    assert agent.jet(0.0, x).v_x[0, 0] == pytest.approx(1 + theta * delta, rel=1e-3)
    assert agent.policy(0.0, x)[0, 0] == pytest.approx(delta, rel=1e-3)


class Replacement(ControlProblem):
    """A firm that replaces what wears out: dz = -z/2 dt + 0.2 dW, r = e^z - a^2; the action is of no use."""

    state = Domain(["z"], [-1.0], [1.0])
    action = Domain(["a"], [-1.0], [1.0])
    noise_dim, discount, horizon, controlled_diffusion = 1, 0.05, None, False

    def drift(self, t, x, a):
        return -x / 2

    def diffusion(self, t, x, a):
        return 0.2 * namespace(x).ones_like(x[..., None])

    def reward(self, t, x, a):
        return namespace(x).exp(x[..., 0]) - a[..., 0] ** 2

    def initial_state(self, rng, size):
        return 0.2 * rng.standard_normal((size, 1))


@pytest.mark.slow
def test_the_replacement_policy_is_worth_its_expected_revenue():
    """E e^{z_t} = exp(z e^{-t/2} + sd^2 (1 - e^{-t})/2), sd = 0.2: no maximiser is declared, so Newton finds a = 0."""
    agent = HJBPinn(env=on(Replacement()), seed=0, iterations=15).learn()
    for z in (-0.5, 0.0, 0.4):
        true, _ = quad(lambda t, z=z: np.exp(-t / 20 + z * np.exp(-t / 2) + 0.02 * -np.expm1(-t)), 0, np.inf)
        assert agent.value(0.0, np.array([[z]]))[0] == pytest.approx(true, rel=1e-6)
        assert abs(agent.policy(0.0, np.array([[z]]))[0, 0]) < 1e-6


class Reflected(Replacement):
    """The same, reflected where paths often are."""

    state = Domain(["z"], [-0.25], [0.25], "linear", "reflecting")


@pytest.mark.slow
def test_a_reflecting_edge_has_its_boundary_condition():
    """(rho V = e^z - z V'/2 + 0.02 V'') with V'(+-0.25) = 0, by collocation, against the network."""

    def slopes(z, y):
        return np.stack([y[1], (0.05 * y[0] - np.exp(z) + z * y[1] / 2) / 0.02])

    mesh = np.linspace(-0.25, 0.25, 101)
    exact = solve_bvp(slopes, lambda a, b: np.array([a[1], b[1]]), mesh, np.stack([20 + 0 * mesh, 0 * mesh]), tol=1e-9)
    agent = HJBPinn(env=on(Reflected()), seed=0, iterations=20).learn()
    x = np.linspace(-0.25, 0.25, 41)[:, None]
    assert np.abs(agent.value(0.0, x) / exact.sol(x[:, 0])[0] - 1).max() < 1e-5
    assert np.abs(agent.jet(0.0, x[[0, -1]]).v_x).max() < 1e-2 * np.abs(exact.sol(x[:, 0])[1]).max()


@pytest.mark.slow
def test_a_resumed_run_is_bitwise_the_same(tmp_path):
    def fresh() -> HJBPinn:
        return HJBPinn(env=gym.make("LQR-v0"), seed=3, iterations=4)

    whole = fresh().learn()
    fresh().learn(callback=lambda agent: len(agent.history) < 2, checkpoint=tmp_path / "half")
    resumed = fresh().learn(checkpoint=tmp_path / "half")
    x = np.linspace(-1.0, 1.0, 9)[:, None]
    assert np.array_equal(whole.value(0.0, x), resumed.value(0.0, x))
    loaded = HJBPinn.load(resumed.save(tmp_path / "saved"))
    assert np.array_equal(loaded.policy(0.0, x), resumed.policy(0.0, x))


@pytest.mark.parametrize(
    ("given", "message"),
    [({"optimizer": "sgd"}, "optimizer must be one of"), ({"steps": 0}, "steps"), ({"adaptive": 2.0}, "share")],
)
def test_bad_hyperparameters_are_refused(given, message):
    with pytest.raises(ParameterError, match=message):
        HJBPinn(env=gym.make("LQR-v0"), **given)
