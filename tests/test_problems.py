"""Every analytic claim about the problems, against computations that share no code with them."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.linalg import expm, solve_discrete_are
from scipy.optimize import minimize, minimize_scalar

from hacontrol_envs import LQR, Domain, Merton
from hacontrol_envs.checks import check_problem
from hacontrol_envs.checks.probe import Points, Probe
from hacontrol_envs.checks.solution import tolerance
from hacontrol_envs.errors import ParameterError

READ_ONLY = "The given NumPy array is not writable"
pytestmark = pytest.mark.filterwarnings(f"ignore:{READ_ONLY}")  # see test_torch_constants_do_not_warn

COUPLED = {
    "state_matrix": [[-0.5, 0.2], [0.1, -0.3]],
    "control_matrix": [[1.0], [0.5]],
    "noise_matrix": [[0.3, 0.1, 0.0], [0.0, 0.2, 0.1]],
    "state_cost": [[1.0, 0.2], [0.2, 0.5]],
    "control_cost": 0.3,
}
THREE_ASSETS = {
    "expected_return": [0.06, 0.07, 0.08],
    "volatility": [[0.2, 0.0, 0.0, 0.05], [0.05, 0.15, 0.0, 0.0], [0.0, 0.02, 0.25, 0.1]],
}
CALIBRATIONS = {
    "LQR": LQR(),
    "LQR 2": LQR(dimension=2),
    "LQR 3": LQR(dimension=3),
    "LQR 10": LQR(dimension=10),
    "LQR short": LQR(horizon=0.05, terminal_cost=2.0),
    "LQR long": LQR(dimension=2, horizon=50.0),
    "LQR terminal cost": LQR(horizon=2.0, terminal_cost=[[3.0, 1.0], [1.0, 1.0]], dimension=2),
    "LQR without noise": LQR(noise_matrix=0.0),
    "LQR without noise or discount": LQR(horizon=2.0, noise_matrix=0.0, discount=0.0, terminal_cost=1.0),
    "LQR unstable": LQR(state_matrix=[[0.5, 0.3], [0.0, 0.2]]),
    "LQR coupled": LQR(**COUPLED),
    "LQR coupled, finite": LQR(**COUPLED, horizon=3.0, terminal_cost=1.0),
    "LQR more controls": LQR(
        dimension=1, control_matrix=[[1.0, 0.4, -0.2]], control_cost=[[1, 0.1, 0], [0.1, 2, 0], [0, 0, 1]]
    ),
    "LQR patient": LQR(discount=1e-4),
    "Merton": Merton(),
    "Merton log": Merton(risk_aversion=1.0),
    "Merton bold": Merton(risk_aversion=0.5, discount=0.2),
    "Merton cautious": Merton(risk_aversion=5.0),
    "Merton three assets": Merton(**THREE_ASSETS),
    "Merton finite": Merton(horizon=10.0, bequest=2.0),
    "Merton finite three assets": Merton(**THREE_ASSETS, horizon=5.0, risk_aversion=1.5),
    "Merton finite log": Merton(horizon=10.0, risk_aversion=1.0, bequest=0.5),
    "Merton short": Merton(horizon=0.1, risk_aversion=3.0),
    "Merton long": Merton(horizon=100.0),
    "Merton negative nu": Merton(risk_aversion=0.5, discount=0.01, horizon=5.0),
    "Merton without discount": Merton(horizon=3.0, discount=0.0, risk_aversion=3.0),
    "Merton short of the risky asset": Merton(expected_return=0.01),
}


@pytest.mark.parametrize("name", CALIBRATIONS)
def test_contract(name):
    check_problem(CALIBRATIONS[name])


def test_contract_at_another_step_and_seed():
    check_problem(LQR(dimension=2, horizon=1.0), dt=0.25, seed=7)
    check_problem(Merton(), dt=0.25, seed=7)


# LQR


def test_lqr_reference_values():
    found = LQR().solution()
    one = np.ones(1)
    assert -2 * (found.value(0.0, one) - found.value(0.0, 0 * one)) == pytest.approx(0.2659750769, abs=5e-11)
    assert found.policy(0.0, one) == pytest.approx(-2.659750769, abs=5e-10)
    assert found.value(0.0, 0 * one) == pytest.approx(-0.1196887846, abs=5e-11)


def riccati_flow(p: LQR, tau: float, P: np.ndarray) -> np.ndarray:
    """P(tau) by the exponential of the Hamiltonian matrix."""
    n, A = len(p.A), p.A - p.discount / 2 * np.eye(len(p.A))
    H = np.block([[-A, p.B @ np.linalg.solve(p.R, p.B.T)], [p.Q, A.T]])
    both = expm(H * tau) @ np.vstack([np.eye(n), P])
    return np.linalg.solve(both[:n].T, both[n:].T).T


def value_matrix(found, n: int, t: float = 0.0) -> np.ndarray:
    """P out of a quadratic value, by polarisation."""

    def level(x):
        return -2 * (found.value(t, x) - found.value(t, 0 * x))

    unit = np.eye(n)
    return np.array([[(level(u + w) - level(u - w)) / 4 for w in unit] for u in unit])


@pytest.mark.parametrize("name", [name for name in CALIBRATIONS if name.startswith("LQR")])
def test_lqr_value_matrix_by_the_hamiltonian_matrix(name):
    p = CALIBRATIONS[name]
    n, horizon = len(p.A), p.horizon or 60.0
    P = p.S if p.horizon else np.zeros((n, n))
    for _ in range(200):
        P = riccati_flow(p, horizon / 200, P)
    np.testing.assert_allclose(value_matrix(p.solution(), n), P, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("t", [0.0, 0.7, 1.9, 2.0])
def test_lqr_constant_by_quadrature(t):
    p = LQR(**COUPLED, horizon=2.0, terminal_cost=2.0)

    def spent(s):
        return np.exp(-p.discount * (s - t)) * np.sum(p.D @ p.D.T * riccati_flow(p, 2.0 - s, p.S)) / 2

    expected = quad(spent, t, 2.0, epsabs=1e-12)[0]
    assert p.solution().value(t, np.zeros(2)) == pytest.approx(-expected, rel=1e-9, abs=1e-12)


def test_lqr_is_the_limit_of_discrete_lqr():
    p = LQR(**COUPLED)
    shifted, exact = p.A - p.discount / 2 * np.eye(2), value_matrix(p.solution(), 2)

    def coarse(dt):
        return solve_discrete_are(np.eye(2) + shifted * dt, p.B * dt, p.Q * dt, p.R * dt)

    gaps = [np.abs(coarse(dt) - exact).max() for dt in (4e-3, 2e-3, 1e-3)]
    assert gaps[0] / gaps[1] == pytest.approx(2, abs=0.05)
    np.testing.assert_allclose(2 * coarse(1e-3) - coarse(2e-3), exact, rtol=1e-4)


def scalar_step(p: LQR, dt: float):
    """F, G, variance, and the step's cost of (x, a) as a function, by formula and quadrature."""
    A, B, D, rho = p.A.item(), p.B.item(), p.D.item(), p.discount

    def mean(s, x, a):
        return np.exp(A * s) * x + (np.exp(A * s) - 1) / A * B * a

    def variance(s):
        return D**2 * (np.exp(2 * A * s) - 1) / (2 * A)

    def cost(x, a):
        def flow(s):
            return np.exp(-rho * s) * (p.Q.item() * (mean(s, x, a) ** 2 + variance(s)) + p.R.item() * a**2) / 2

        return quad(flow, 0, dt, epsabs=1e-14)[0]

    return mean(dt, 1, 0), mean(dt, 0, 1), variance(dt), cost


@pytest.mark.parametrize("dt", [0.02, 0.3, 1.0])
def test_lqr_sampled_against_the_best_constant_gain(dt):
    p = LQR()
    F, G, variance, cost = scalar_step(p, dt)
    gamma, spent = np.exp(-p.discount * dt), cost(0, 0)

    def P(k):
        return 2 * (cost(1, -k) - spent) / (1 - gamma * (F - G * k) ** 2)

    best = minimize_scalar(P, bracket=(0.2, 0.5), tol=1e-12)
    found = p.solution(dt)
    assert found.policy(0.0, np.ones(1)) == pytest.approx(-best.x, rel=1e-6)
    assert value_matrix(found, 1) == pytest.approx(best.fun, rel=1e-9)
    constant = (spent + gamma * variance * best.fun / 2) / (1 - gamma)
    assert found.value(0.0, np.zeros(1)) == pytest.approx(-constant, rel=1e-9)


def test_lqr_sampled_finite_against_optimising_every_step():
    p, dt = LQR(horizon=1.0, terminal_cost=0.5), 0.25
    F, G, variance, cost = scalar_step(p, dt)
    gamma, P, c = np.exp(-p.discount * dt), 0.5, 0.0
    found = p.solution(dt)
    for k in range(3, -1, -1):

        def total(a, x, P=P, c=c):
            return cost(x, a) + gamma * (P * ((F * x + G * a) ** 2 + variance) / 2 + c)

        best = minimize_scalar(total, args=(1.0,), bracket=(-3, 3), tol=1e-12)
        c = total(0.0, 0.0)
        P = 2 * (best.fun - c)
        assert found.policy(k * dt, np.ones(1)) == pytest.approx(best.x, rel=1e-6)
        assert found.value(k * dt, np.ones(1)) == pytest.approx(-P / 2 - c, rel=1e-9)


def test_lqr_sampled_tends_to_continuous():
    """Value at first order, because noise goes unanswered within a step; P at second order; the gain at first."""
    p, x = LQR(**COUPLED), np.array([0.7, -0.4])
    steps = [0.04, 0.02, 0.01, 0.005]
    value = [p.solution().value(0.0, x) - p.solution(dt).value(0.0, x) for dt in steps]
    matrix = [np.abs(value_matrix(p.solution(dt), 2) - value_matrix(p.solution(), 2)).max() for dt in steps]
    gain = [np.abs(p.solution(dt).policy(0.0, x) - p.solution().policy(0.0, x)).max() for dt in steps]
    assert min(value) > 0
    for gaps, order in ((value, 1), (matrix, 2), (gain, 1)):
        assert np.log2(gaps[-2] / gaps[-1]) == pytest.approx(order, abs=0.1)


# Merton


def test_merton_reference_values():
    p = Merton()
    np.testing.assert_allclose(p.solution().policy(0.0, np.ones(1)), [0.625, 0.0478125], rtol=1e-14)
    assert p.riskless_equivalent == pytest.approx(0.045625, rel=1e-14)
    assert p.solution().value(0.0, np.array([2.0])) == pytest.approx(-(0.0478125**-2) / 2, rel=1e-13)


@pytest.mark.parametrize("risk_aversion", [0.5, 1.0, 2.0, 5.0])
def test_merton_is_the_best_constant_policy(risk_aversion):
    p = Merton(risk_aversion=risk_aversion, discount=0.2)
    x = np.array([1.7])
    options = {"xatol": 1e-9, "fatol": 1e-15}
    best = minimize(lambda a: -p.constant_action_value(x, a), [0.2, 0.06], method="Nelder-Mead", options=options)
    np.testing.assert_allclose(p.solution().policy(0.0, x), best.x, rtol=1e-5)
    assert p.solution().value(0.0, x) == pytest.approx(-best.fun, rel=1e-12)


@pytest.mark.parametrize("risk_aversion", [0.5, 1.0, 3.0])
def test_merton_constant_policy_by_simulation(risk_aversion):
    p, rng = Merton(risk_aversion=risk_aversion, discount=0.4), np.random.default_rng(1)
    dt, n, horizon = 0.1, 20_000, 40.0
    x, a = np.full((n, 1), 1.3), np.array([0.5, 0.1])
    lump = np.zeros(n)
    for k in range(round(horizon / dt)):
        after = p.exact_step(0.0, x, np.broadcast_to(a, (n, 2)), dt, rng.standard_normal((n, 1)))
        flows = [np.exp(-p.discount * (k + j) * dt) * p.reward(0.0, y, a) for j, y in enumerate((x, after))]
        lump, x = lump + dt / 2 * sum(flows), after
    expected = p.constant_action_value(np.array([1.3]), a)
    assert abs(lump.mean() - expected) < 4 * lump.std() / np.sqrt(n) + 3e-4 * abs(expected)


@pytest.mark.parametrize("risk_aversion", [0.5, 1.0, 3.0])
def test_merton_sampled_against_optimising_every_step(risk_aversion):
    p, dt = Merton(risk_aversion=risk_aversion, horizon=6.0, bequest=0.7), 1.5
    g, gamma, found = risk_aversion, np.exp(-p.discount * dt), p.solution(dt)
    drift, vol, rho = 0.05, 0.2, p.discount

    def step(a, x, slope, level):
        """Of V(t+dt, x) = slope u(x) + level: what the action a is worth, by quadrature over the step."""
        growth, variance = 0.03 + a[0] * drift - a[1], (a[0] * vol) ** 2

        def utility(s, scale):
            """E u(scale X_s)."""
            if g == 1:
                return np.log(scale * x) + (growth - variance / 2) * s
            return (scale * x) ** (1 - g) / (1 - g) * np.exp((1 - g) * (growth - g * variance / 2) * s)

        flow = quad(lambda s: np.exp(-rho * s) * utility(s, a[1]), 0, dt, epsabs=1e-14)[0]
        return flow + gamma * (slope * utility(dt, 1.0) + level)

    slope, level = 0.7, 0.0
    for k in range(3, -1, -1):
        options = {"xatol": 1e-9, "fatol": 1e-14}
        best, far = (
            minimize(
                lambda a, x=x, c=(slope, level): -step(a, x, *c), [0.5, 0.2], method="Nelder-Mead", options=options
            )
            for x in (1.0, np.e)
        )
        np.testing.assert_allclose(found.policy(k * dt, np.ones(1)), best.x, rtol=1e-4)
        slope, level = (best.fun - far.fun, -best.fun) if g == 1 else (-best.fun * (1 - g), 0.0)
        for x, result in ((1.0, best), (np.e, far)):
            assert found.value(k * dt, np.array([x])) == pytest.approx(-result.fun, rel=1e-8)


@pytest.mark.parametrize("risk_aversion", [1.0, 3.0])
def test_merton_sampled_tends_to_continuous(risk_aversion):
    p, x = Merton(risk_aversion=risk_aversion, horizon=8.0), np.array([1.4])
    gaps = [p.solution().value(0.0, x) - p.solution(dt).value(0.0, x) for dt in (1.0, 0.5, 0.25)]
    assert min(gaps) > 0
    assert np.log2(gaps[-2] / gaps[-1]) == pytest.approx(2, abs=0.1)


def test_merton_infinite_horizon_is_the_limit():
    x = np.array([0.8])
    np.testing.assert_allclose(
        Merton(horizon=800.0).solution().value(0.0, x), Merton().solution().value(0.0, x), rtol=1e-12
    )
    far, near = Merton(horizon=400.0, risk_aversion=1.0), Merton(risk_aversion=1.0)
    np.testing.assert_allclose(far.solution().value(0.0, x), near.solution().value(0.0, x), rtol=1e-6)


# What is refused


def test_infeasible_merton_is_refused_with_the_inequality():
    with pytest.raises(ParameterError, match=r"discount - \(1 - risk_aversion\) \* M > 0 is violated.*= -0\.0\d+"):
        Merton(risk_aversion=0.5, discount=0.01)
    Merton(risk_aversion=0.5, discount=0.01, horizon=1.0)


BAD_MERTONS = [
    ({"risk_aversion": 0.0}, "risk_aversion"),
    ({"risk_aversion": -1.0}, "risk_aversion"),
    ({"risk_aversion": "2"}, "risk_aversion"),
    ({"risk_aversion": True}, "risk_aversion"),
    ({"risk_aversion": np.nan}, "risk_aversion"),
    ({"discount": -0.1}, "discount"),
    ({"discount": None}, "discount"),
    ({"discount": np.inf}, "discount"),
    ({"horizon": 0.0}, "horizon"),
    ({"horizon": -1}, "horizon"),
    ({"bequest": 0.0, "horizon": 1.0}, "bequest"),
    ({"volatility": 0.0}, "volatility"),
    ({"volatility": np.nan}, "volatility"),
    ({"volatility": [0.2, 0.1]}, "volatility"),
    ({"expected_return": [0.06, 0.07], "volatility": [[0.2, 0.1], [0.2, 0.1]]}, "row rank"),
    ({"expected_return": [0.06, 0.07, 0.08], "volatility": [[0.2, 0.1], [0.1, 0.1], [0.0, 0.3]]}, "row rank"),
    ({"expected_return": [[0.06]]}, "expected_return"),
    ({"expected_return": []}, "expected_return"),
    ({"expected_return": "0.08"}, "expected_return"),
    ({"risk_free_rate": None}, "risk_free_rate"),
]
BAD_LQRS = [
    ({"discount": 0.0}, "discount"),
    ({"discount": -0.1, "horizon": 1.0}, "discount"),
    ({"horizon": 0.0}, "horizon"),
    ({"horizon": np.nan}, "horizon"),
    ({"dimension": 0}, "dimension"),
    ({"dimension": 2.0}, "dimension"),
    ({"dimension": True}, "dimension"),
    ({"dimension": 3, "state_matrix": [[0.0, 1.0], [0.0, 0.0]]}, "contradicts"),
    ({"state_matrix": [[0.0, 1.0]]}, "square"),
    ({"state_matrix": [[0.0, 1.0], [0.0]]}, "state_matrix"),
    ({"control_matrix": [[1.0], [1.0]]}, "control_matrix"),
    ({"state_cost": -1.0}, "semidefinite"),
    ({"state_cost": [[1.0, 2.0], [0.0, 1.0]], "dimension": 2}, "symmetric"),
    ({"control_cost": 0.0}, "positive definite"),
    ({"noise_matrix": [[np.inf]]}, "noise_matrix"),
    ({"terminal_cost": -1.0, "horizon": 1.0}, "terminal_cost"),
    ({"state_matrix": 1.0, "control_matrix": 0.0}, "stabilisable"),
]


@pytest.mark.parametrize(
    ("kind", "bad", "words"), [(Merton, *bad) for bad in BAD_MERTONS] + [(LQR, *bad) for bad in BAD_LQRS]
)
def test_bad_parameters_are_refused(kind, bad, words):
    with pytest.raises(ParameterError, match=words):
        kind(**bad)


@pytest.mark.parametrize("p", [LQR(horizon=1.0), Merton(horizon=1.0)])
def test_steps_that_do_not_divide_the_horizon_are_refused(p):
    with pytest.raises(ParameterError, match="dt must divide the horizon"):
        p.solution(0.3)


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


# Parameters and domains


@pytest.mark.parametrize("name", CALIBRATIONS)
def test_parameters_are_json(name):
    p = CALIBRATIONS[name]
    assert type(p)(**json.loads(json.dumps(p.parameters))).parameters == p.parameters


DOMAINS = [
    Domain(["x"], [-1.0], [3.0]),
    Domain(["w"], [0.1], [10.0], "log"),
    Domain(["w", "x", "k"], [0.1, -2.0, 1e-3], [10.0, 5.0, 1.0], ["log", "linear", "log"]),
]


@pytest.mark.parametrize("domain", DOMAINS, ids=repr)
@pytest.mark.parametrize("convert", [np.asarray, partial(torch.as_tensor, dtype=torch.float64)], ids=["numpy", "torch"])
def test_unit_coordinates_invert(domain, convert):
    u = np.random.default_rng(0).uniform(-1.5, 1.5, (200, domain.dimension))
    x = domain.from_unit(convert(u))
    assert np.abs(np.asarray(domain.to_unit(x)) - u).max() < 1e-13
    ends = np.asarray(domain.to_unit(convert(np.stack([domain.low, domain.high]))))
    np.testing.assert_allclose(ends, [[-1.0] * domain.dimension, [1.0] * domain.dimension], rtol=1e-13)


@pytest.mark.parametrize("domain", DOMAINS, ids=repr)
def test_unit_derivatives_are_derivatives(domain):
    x = domain.from_unit(np.random.default_rng(0).uniform(-1, 1, (100, domain.dimension)))
    h = 1e-4 * np.where(domain.log, x, 1.0)
    up, here, down = (domain.to_unit(x + s * h) for s in (1, 0, -1))
    first, second = domain.unit_derivatives(x)
    np.testing.assert_allclose(first, (up - down) / (2 * h), rtol=1e-7)
    np.testing.assert_allclose(second, (up - 2 * here + down) / h**2, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("domain", DOMAINS, ids=repr)
def test_ito_against_moments_of_a_short_step(domain):
    """E[u(X_h) - u(x)]/h and Cov/h for X_h = x + b h + sigma sqrt(h) z, by quadrature, extrapolated to h = 0."""
    rng, n = np.random.default_rng(0), domain.dimension
    x = domain.from_unit(rng.uniform(-1, 1, n))
    b, sigma = x * rng.normal(size=n), x[:, None] * 0.5 * rng.normal(size=(n, 2))
    nodes, weights = np.polynomial.hermite_e.hermegauss(9)
    z = np.array([(p, q) for p in nodes for q in nodes])
    w = np.outer(weights, weights).ravel() / weights.sum() ** 2

    def rates(h):
        du = domain.to_unit(x + b * h + np.sqrt(h) * z @ sigma.T) - domain.to_unit(x)
        return w @ du / h, np.einsum("k,ki,kj->ij", w, du, du) / h

    coarse, fine = rates(2e-4), rates(1e-4)
    drift, diffusion = domain.ito(x, b, sigma)
    np.testing.assert_allclose(2 * fine[0] - coarse[0], drift, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(2 * fine[1] - coarse[1], diffusion @ diffusion.T, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "bad",
    [
        ([], [], []),
        (["x"], [0.0], [0.0]),
        (["x"], [1.0], [0.0]),
        (["x"], [0.0], [np.inf]),
        (["x"], [np.nan], [1.0]),
        (["x"], [0.0], [1.0], "log"),
        (["x"], [-1.0], [1.0], "log"),
        (["x", "y"], [0.0], [1.0]),
        (["x"], [0.0, 1.0], [1.0, 2.0]),
        (["x"], [0.1], [1.0], ["log", "log"]),
    ],
)
def test_bad_domains_are_refused(bad):
    with pytest.raises(ParameterError):
        Domain(*bad)


def test_points_are_reproducible():
    first, second = (Probe(LQR(), 100, 5, None).points(10) for _ in range(2))
    assert all(np.array_equal(*pair) for pair in zip(first, second, strict=True))
    assert isinstance(first, Points)
