"""What every problem promises: its contract, other libraries, random parameters, a policy that attains its value."""

from __future__ import annotations

import json
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from hypothesis import given, settings
from hypothesis import strategies as st

from common.calibrations import CALIBRATIONS, COUPLED, THREE_ASSETS
from common.marks import slow_where
from hacontrol_envs import LQR, Merton
from hacontrol_envs.checks import check_problem
from hacontrol_envs.checks.probe import Points, Probe
from hacontrol_envs.checks.solution import tolerance
from hacontrol_envs.errors import ParameterError


@pytest.mark.parametrize("name", slow_where(lambda name: name not in ("LQR", "Merton", "Brock-Mirman"), CALIBRATIONS))
def test_contract(name):
    check_problem(CALIBRATIONS[name])


@pytest.mark.slow
def test_contract_at_another_step_and_seed():
    check_problem(LQR(dimension=2, horizon=1.0), dt=0.25, seed=7)
    check_problem(Merton(), dt=0.25, seed=7)


@pytest.mark.parametrize("name", CALIBRATIONS)
def test_parameters_are_json(name):
    p = CALIBRATIONS[name]
    assert type(p)(**json.loads(json.dumps(p.parameters))).parameters == p.parameters


@pytest.mark.parametrize("p", [LQR(horizon=1.0), Merton(horizon=1.0)])
def test_steps_that_do_not_divide_the_horizon_are_refused(p):
    with pytest.raises(ParameterError, match="dt must divide the horizon"):
        p.solution(0.3)


def test_points_are_reproducible():
    first, second = (Probe(LQR(), 100, 5, None).points(10) for _ in range(2))
    assert all(np.array_equal(*pair) for pair in zip(first, second, strict=True))
    assert isinstance(first, Points)


# Other libraries, other parameters


@pytest.mark.parametrize("name", ["LQR 10", "LQR coupled, finite", "Merton three assets", "Merton finite log"])
def test_torch_computes_the_same_equations(name):
    p = CALIBRATIONS[name]
    at = Probe(p, 100, 0, None).points(100)
    found, tensors = p.solution(), [torch.as_tensor(part) for part in at]
    numpy_jet, torch_jet = found.jet(at.t, at.x), found.jet(*tensors[:2])
    pairs = list(zip(numpy_jet, torch_jet, strict=True))
    pairs += [(f(*at, numpy_jet), f(*tensors, torch_jet)) for f in (p.generator, p.hjb_residual)]
    for expected, result in pairs:
        assert np.abs(result.numpy() - expected).max() <= 1e-12 * np.abs(expected).max()


@pytest.mark.slow
def test_torch_constants_do_not_warn():
    code = "import torch, hacontrol_envs as h; x = torch.ones(1, 1).double(); h.LQR().diffusion(0.0, x, x)"
    subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", code], check=True, capture_output=True)


def residual_is_small(p) -> None:
    probe = Probe(p, 100, 0, None)
    at = probe.points(100)
    found = p.solution()
    at = at._replace(a=found.policy(at.t, at.x))
    jet = found.jet(at.t, at.x)
    excess = np.abs(p.hjb_residual(*at, jet)) / tolerance(probe, at, jet, found.error)
    assert excess.max() <= 1, (p.parameters, excess.max())


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.integers(0, 10**6), st.sampled_from([None, 0.5, 5.0])
)
def test_random_lqrs_solve_the_hjb_equation(n, m, d, seed, horizon):
    rng = np.random.default_rng(seed)
    weights = [M @ M.T + 0.1 * np.eye(len(M)) for M in (rng.normal(size=(n, n)), rng.normal(size=(m, m)))]
    p = LQR(
        state_matrix=rng.normal(size=(n, n)).tolist(),
        control_matrix=rng.normal(size=(n, m)).tolist(),
        state_cost=weights[0].tolist(),
        control_cost=weights[1].tolist(),
        noise_matrix=rng.normal(size=(n, d)).tolist(),
        discount=float(rng.uniform(0.01, 1)),
        horizon=horizon,
    )
    residual_is_small(p)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(1, 3), st.floats(0.3, 8.0), st.integers(0, 10**6), st.sampled_from([None, 0.5, 20.0]))
def test_random_mertons_solve_the_hjb_equation(assets, risk_aversion, seed, horizon):
    rng = np.random.default_rng(seed)
    mu, sigma = (
        rng.uniform(0.0, 0.1, assets),
        0.15 * np.eye(assets, assets + 1) + rng.uniform(-0.04, 0.04, (assets, assets + 1)),
    )
    common = {"expected_return": mu.tolist(), "volatility": sigma.tolist(), "risk_aversion": risk_aversion}
    growth = Merton(**common, horizon=1.0).riskless_equivalent
    least = max((1 - risk_aversion) * growth, 0.0)
    residual_is_small(Merton(**common, discount=least + float(rng.uniform(0.01, 0.2)), horizon=horizon))


# The analytic policy attains the analytic value, and others do not


def play(p, policy, dt: float, steps: int, x0, paths: int = 4000) -> np.ndarray:
    """Discounted rewards of a policy on paths of the exact law, and the optimal value of where they end."""
    rng = np.random.default_rng(3)
    x, total = np.tile(x0, (paths, 1)), np.zeros(paths)
    for k in range(steps):
        t, z = np.full(paths, k * dt), rng.standard_normal((paths, p.exact_noise_dim))
        a = policy(t, x)
        total += np.exp(-p.discount * k * dt) * p.exact_reward(t, x, a, dt)
        x = p.exact_step(t, x, a, dt, z)
    end = p.terminal_reward(x) if p.horizon else p.solution(dt).value(0.0, x)
    return total + np.exp(-p.discount * steps * dt) * end


@pytest.mark.parametrize(
    ("p", "dt", "x0"),
    [
        (LQR(horizon=1.0, terminal_cost=0.3), 0.1, [0.8]),
        (LQR(**COUPLED), 0.1, [0.8, -0.5]),
        (Merton(), 0.5, [1.2]),
        (Merton(risk_aversion=1.0, horizon=10.0), 1.0, [1.2]),
        (Merton(**THREE_ASSETS, risk_aversion=0.7, discount=0.2), 0.5, [1.2]),
    ],
)
def test_sampled_policy_attains_the_sampled_value(p, dt, x0):
    found, steps = p.solution(dt), round((p.horizon or 20 * dt) / dt)
    best = play(p, found.policy, dt, steps, x0)
    assert abs(best.mean() - found.value(0.0, np.array(x0))) < 3 * best.std() / np.sqrt(len(best)) + 1e-12
    for factor in (0.7, 1.4):
        loss = best - play(p, lambda t, x, c=factor: c * found.policy(t, x), dt, steps, x0)
        assert loss.mean() > 3 * loss.std() / np.sqrt(len(loss))


@pytest.mark.parametrize(("p", "x0"), [(LQR(horizon=1.0, terminal_cost=0.3), [0.8]), (Merton(horizon=4.0), [1.2])])
def test_continuous_policy_attains_the_continuous_value(p, x0):
    found, dt = p.solution(), p.horizon / 400
    best = play(p, found.policy, dt, 400, x0)
    assert abs(best.mean() - found.value(0.0, np.array(x0))) < 3 * best.std() / np.sqrt(len(best))
    loss = best - play(p, lambda t, x: 1.3 * found.policy(t, x), dt, 400, x0)
    assert loss.mean() > 3 * loss.std() / np.sqrt(len(loss))


@pytest.mark.parametrize(
    ("id", "kwargs"), [("LQR-v0", {"horizon": 1.0, "dt": 0.1}), ("Merton-v0", {"horizon": 5.0, "dt": 0.5})]
)
def test_env_pays_the_sampled_value(id, kwargs):
    """Through Gymnasium, terminal reward included."""
    env = gym.make_vec(id, num_envs=4000, autoreset_mode=AutoresetMode.DISABLED, **kwargs)
    found = env.problem.solution(kwargs["dt"])
    env.reset(seed=0)
    start, total, k, over = found.value(0.0, env.state), 0.0, 0, np.zeros(1, dtype=bool)
    while not over.any():
        _, reward, over, _, _ = env.step(env.from_physical(found.policy(env.time, env.state)))
        total, k = total + env.gamma**k * reward, k + 1
    gap = total - start
    assert k == kwargs["horizon"] / kwargs["dt"]
    assert abs(gap.mean()) < 3 * gap.std() / np.sqrt(len(gap))
