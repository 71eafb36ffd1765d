"""LQR where it is easily wrong: what no cost sees, stiff and unstable systems, short steps, endless horizons."""

from __future__ import annotations

import time
from decimal import Decimal, localcontext

import gymnasium as gym
import numpy as np
import pytest
from scipy.linalg import expm

from hacontrol_benchmarks.judging.regret import regret
from hacontrol_envs import LQR
from hacontrol_envs.errors import NumericalError, ParameterError
from hacontrol_envs.numerics import riccati


def turned(angle):
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def one(p, x, dt=None, t=0.0):
    """Value and action at a state."""
    found = p.solution(dt)
    return float(found.value(t, np.asarray(x, float))), np.asarray(found.policy(t, np.asarray(x, float)))


@pytest.mark.parametrize("dt", [None, 0.1, 1e-9])
def test_where_nothing_costs_nothing_is_done(dt):
    assert one(LQR(state_matrix=1.0, state_cost=0.0, noise_matrix=0.0), [1.0], dt) == (0.0, np.zeros(1))


def test_the_optimum_that_costs_nothing_loses_nothing_and_others_infinitely_more():
    p = LQR(state_matrix=1.0, state_cost=0.0, noise_matrix=0.0)
    best, worse = (regret(p, lambda t, x, k=k: -k * x, 0.1, paths=8, max_steps=50, seed=0) for k in (0.0, 1.9))
    assert (best.regret, best.loss) == (0.0, 0.0)
    assert (worse.loss, worse.loss_error) == (np.inf, 0.0)
    assert worse.regret > 0


@pytest.mark.parametrize("dt", [None, 0.1])
@pytest.mark.parametrize("angle", [0.0, 0.3, 1.0, np.pi / 2, 2.5])
def test_a_state_that_no_cost_sees_is_left_alone_in_any_coordinates(angle, dt):
    """Against the scalar problem of the state that is seen, and a long horizon, which says the same."""
    U = turned(angle)
    given = {
        "state_matrix": U @ np.diag([-0.5, 1.0]) @ U.T,
        "state_cost": U @ np.diag([1.0, 0.0]) @ U.T,
        "control_matrix": U,
        "noise_matrix": 0.3 * U,
    }
    value, action = one(LQR(state_matrix=-0.5), [1.0], dt)
    for horizon in (None, 400.0):
        found = one(LQR(**given, horizon=horizon), U @ np.ones(2), dt)
        assert found[0] == pytest.approx(value, rel=1e-12)
        np.testing.assert_allclose(found[1], [action.item(), 0.0], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("growth", [0.01, 0.05, 0.2, 3.0])
def test_long_horizons_tend_to_the_least_solution(growth):
    """By steps of the Hamiltonian matrix from a terminal cost of zero."""
    A, B, Q = np.array([[-0.4, 0.3], [0.0, growth]]), np.eye(2), np.diag([0.0, 0.0])
    p = LQR(state_matrix=A.T, control_matrix=B, state_cost=np.diag([1.0, 0.0]), control_cost=0.2)
    shifted = p.A - p.discount / 2 * np.eye(2)
    U, P = expm(0.25 * np.block([[-shifted, np.eye(2) / 0.2], [p.Q, shifted.T]])), Q
    for _ in range(300):
        both = U @ np.vstack([np.eye(2), P])
        P = np.linalg.solve(both[:2].T, both[2:].T)
    np.testing.assert_allclose(-p.solution().jet(0.0, np.zeros(2)).v_xx, P, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("weight", [1e-6, 1e-14, 1e-100])
def test_a_cost_however_small_is_seen(weight):
    """The stabilising solution of the second state is (1.9 + sqrt(1.9^2 + 40 weight)) / 20."""
    p = LQR(state_matrix=np.diag([-0.5, 1.0]), state_cost=np.diag([1.0, weight]))
    right = (1.9 + np.sqrt(1.9**2 + 40 * weight)) / 20
    assert -p.solution().jet(0.0, np.zeros(2)).v_xx[1, 1] == pytest.approx(right, rel=1e-14)
    linked = LQR(state_matrix=[[-0.5, weight], [0.0, 1.0]], state_cost=np.diag([1.0, 0.0]))
    assert -linked.solution().jet(0.0, np.zeros(2)).v_xx[1, 1] == pytest.approx(0.19, rel=1e-3)


def test_what_rounding_would_decide_is_refused():
    U = np.array([[0.8, -0.6], [0.6, 0.8]])
    with pytest.raises(NumericalError, match="decided by rounding"):
        LQR(state_matrix=U @ np.diag([-0.5, 1.0]) @ U.T, state_cost=U @ np.diag([1.0, 1e-14]) @ U.T)


def test_a_state_that_no_control_reaches_is_refused_only_where_it_costs_without_end():
    given = {"state_matrix": np.diag([-0.5, 1.0]), "control_matrix": [[1.0], [0.0]]}
    alone = one(LQR(state_matrix=-0.5), [1.0])
    found = one(LQR(**given, state_cost=np.diag([1.0, 0.0]), noise_matrix=np.diag([0.3, 0.3])), [1.0, 1.0])
    assert found[0] == pytest.approx(alone[0], rel=1e-13)
    with pytest.raises(ParameterError, match="no control keeps the discounted cost finite"):
        LQR(**given)


def test_growth_at_half_the_discount_rate_is_the_edge():
    """Without control P = Q / (rho - 2 A)."""
    with pytest.raises(ParameterError, match="finite"):
        LQR(state_matrix=0.05, control_matrix=0.0)
    A = np.nextafter(0.05, 0)
    P = 1 / (2 * (0.05 - A))  # neighbours: their difference is exact
    found = LQR(state_matrix=A, control_matrix=0.0).solution()
    assert -found.jet(0.0, np.zeros(1)).v_xx.item() == pytest.approx(P, rel=1e-14)


def scalar_riccati(a, s, q):
    """The least root of q + 2 a P - s P^2, in 60 decimals."""
    with localcontext() as context:
        context.prec = 60
        a, s, q = (Decimal(part) for part in (a, s, q))
        root = (a * a + s * q).sqrt()
        return float((a + root) / s if a > 0 else q / (root - a))


def test_the_riccati_equation_is_solved_to_rounding_over_many_scales():
    rng = np.random.default_rng(0)
    for _ in range(300):
        a = rng.choice([-1, 1]) * 10 ** rng.uniform(-8, 8)
        q, r = 10 ** rng.uniform(-8, 8), 2.0 ** rng.integers(-40, 40)
        parts = [np.array([[part]]) for part in (a, 1.0, q, r, 0.0)]
        found = riccati.continuous(*parts, 0.0625)
        assert found.P.item() == pytest.approx(scalar_riccati(a - 0.03125, 1 / r, q), rel=2e-15)


def held_scalar(a, b, q, r, d, rho, dt):
    """F, G, variance, M_xx, M_xa, M_aa, constant, and P and c of the sampled problem, in 80 decimals."""
    with localcontext() as context:
        context.prec = 80
        a, b, q, r, d, rho, dt = (Decimal(float(part)) for part in (a, b, q, r, d, rho, dt))
        e = lambda c: ((c * dt).exp() - 1) / c  # noqa: E731
        i0, i1, i2 = e(-rho), e(a - rho), e(2 * a - rho)
        F, G, C, gamma = (a * dt).exp(), e(a) * b, e(2 * a) * d * d, (-rho * dt).exp()
        M = [q * i2, q * b * (i2 - i1) / a, q * b * b * (i2 - 2 * i1 + i0) / a**2 + r * i0]
        constant = q * d * d * (i2 - i0) / (2 * a)
        c2 = gamma * G * G * (1 - gamma * F * F) + gamma**2 * F * F * G * G
        c1 = M[2] * (1 - gamma * F * F) - M[0] * gamma * G * G + 2 * M[1] * gamma * F * G
        c0 = M[1] ** 2 - M[0] * M[2]
        root = (c1 * c1 - 4 * c2 * c0).sqrt()
        P = (root - c1) / (2 * c2) if c1 < 0 else -2 * c0 / (c1 + root)
        return [float(part) for part in (F, G, C, *M, constant, P, (constant + gamma * C * P) / 2 / (1 - gamma))]


def test_a_held_action_keeps_its_digits_from_short_steps_to_stiff_ones():
    """rate dt from 1e-12 to 600 where the state decays, to 8 where it grows."""
    rng, judged = np.random.default_rng(1), 0
    while judged < 200:
        dt, a = 10 ** rng.uniform(-12, 2), rng.choice([-1, 1]) * 10 ** rng.uniform(-6, 3)
        b, q, r, rho = 10 ** rng.uniform(-3, 3, size=4)
        if not (-600 < a * dt < 8 and rho * dt < 600):
            continue
        parts = [np.array([[part]]) for part in (a, b, q, r, 0.3)]
        held = riccati.hold(*parts, rho, dt)
        found = riccati.sampled(held)
        got = [held.F, held.G, held.covariance, held.M[0, 0], held.M[0, 1], held.M[1, 1], held.constant]
        right = held_scalar(a, b, q, r, 0.3, rho, dt)
        np.testing.assert_allclose([float(np.squeeze(part)) for part in got], right[:7], rtol=2e-13, atol=1e-300)
        allowed = max(2e-13, 2 * found.error)
        np.testing.assert_allclose([found.P.item(), float(found.c)], right[7:], rtol=allowed)
        judged += 1


def test_a_short_step_is_the_continuous_problem():
    """V differs by c_1 dt, which at dt = 1e-11 is 4e-11 of V."""
    exact, short, shorter = (one(LQR(), [1.0], dt)[0] for dt in (None, 1e-9, 1e-11))
    assert abs(short / exact - 1) < 1e-8
    assert abs(shorter / exact - 1) < 1e-10
    assert (exact - short) / (exact - shorter) == pytest.approx(100, rel=1e-3)


STIFF = {"state_matrix": [[-50.0, 49.9], [49.9, -50.0]]}


@pytest.mark.parametrize("rate", [30.0, 100.0, 1e4])
def test_a_stiff_step_has_the_covariance_of_its_modes(rate):
    """Along (1, 1) and (1, -1) the system is two scalar ones, with rates 0.1 and `rate`."""
    A = np.array([[-0.1 - rate, rate - 0.1], [rate - 0.1, -0.1 - rate]]) / 2
    held = riccati.hold(A, np.eye(2), np.eye(2), np.eye(2), 0.3 * np.eye(2), 0.1, 1.0)
    slow, fast = (0.09 * -np.expm1(-2 * pace) / (2 * pace) for pace in (0.1, rate))
    right = np.array([[slow + fast, slow - fast], [slow - fast, slow + fast]]) / 2
    np.testing.assert_allclose(held.covariance, right, rtol=1e-12)


@pytest.mark.parametrize("scheme", ["exact", "milstein"])
@pytest.mark.parametrize(
    "parameters",
    [
        {**STIFF, "dt": 1.0},
        {"control_cost": 1e-40},
        {"state_matrix": 1000.0},
        {"state_matrix": 3.0, "state_cost": 0.0},
    ],
)
def test_no_step_pays_for_a_cost_or_ends_in_nan(parameters, scheme):
    env = gym.make_vec("LQR-v0", num_envs=4, scheme=scheme, **parameters)
    env.reset(seed=0)
    env.action_space.seed(0)
    explodes = parameters.get("state_matrix") == 1000.0 or (scheme != "exact" and parameters.get("dt") == 1.0)
    for _ in range(400):
        action = env.action_space.sample()
        if explodes and np.abs(env.unwrapped.state).max() > 1e130:
            with pytest.raises(NumericalError, match="beyond what floats can hold"):
                [env.step(action) for _ in range(90)]
            return
        reward = env.step(action)[1]
        assert np.isfinite(reward).all()
        assert (reward <= 0).all()
    assert not explodes


def test_a_step_over_which_the_state_outgrows_floats_is_refused():
    with pytest.raises(ParameterError, match="too long a step"):
        gym.make("LQR-v0", state_matrix=1000.0, dt=0.5)
    with pytest.raises(NumericalError, match="shorter step"):
        LQR(state_matrix=10.0).solution(4.0)


@pytest.mark.parametrize(
    ("parameters", "to_go"),
    [
        ({"control_cost": 1e-8, "horizon": 100.0}, 100.0),
        ({"control_cost": 1e-8, "horizon": 100.0}, 1e-5),
        ({"terminal_cost": 1e8, "horizon": 3.0}, 1e-9),
        ({"terminal_cost": 1e8, "horizon": 3.0}, 0.7),
        ({"state_matrix": -1e6, "horizon": 2.0}, 1e-7),
        ({"state_matrix": 40.0, "state_cost": 1e-10, "horizon": 10.0}, 0.3),
    ],
)
def test_stiff_horizons_against_the_hyperbolic_tangent(parameters, to_go):
    started = time.process_time()
    p = LQR(**parameters)
    P = -p.solution().jet(p.horizon - to_go, np.zeros(1)).v_xx.item()
    assert time.process_time() - started < 5
    a, s, q, end = p.A.item() - p.discount / 2, 1 / p.R.item(), p.Q.item(), p.S.item()
    with localcontext() as context:
        context.prec = 60
        a, s, q, end, tau = (Decimal(part) for part in (a, s, q, end, p.horizon - (p.horizon - to_go)))
        root = (a * a + s * q).sqrt()
        fade = (-2 * root * tau).exp()
        up, down = root * (1 + fade), 1 - fade
        right = float((end * (up + a * down) + q * down) / (up - a * down + s * end * down))
    assert pytest.approx(right, rel=1e-11) == P


@pytest.mark.parametrize("horizon", [1e4, 1e30])
def test_an_endless_horizon_is_the_infinite_one(horizon):
    started = time.process_time()
    assert one(LQR(horizon=horizon), [1.0])[0] == pytest.approx(one(LQR(), [1.0])[0], rel=1e-12)
    assert time.process_time() - started < 5
    with pytest.raises(ParameterError, match="too short a step"):
        LQR(horizon=1e30).solution(0.1)


def test_the_constant_of_a_long_horizon_is_that_of_all_its_noise():
    """Without control P(tau) = (1 - e^{-k tau}) / k, k = rho - 2 A, and c is an integral of exponentials."""
    p = LQR(state_matrix=-30.0, control_matrix=0.0, horizon=80.0)
    k, rho = 60.1, 0.1
    for to_go in (80.0, 3.0, 0.01):
        right = 0.045 / k * (-np.expm1(-rho * to_go) / rho - (np.exp(-rho * to_go) - np.exp(-k * to_go)) / (k - rho))
        assert -p.solution().value(80.0 - to_go, np.zeros(1)) == pytest.approx(right, rel=1e-11, abs=1e-18)


@pytest.mark.parametrize(
    "parameters", [{"control_cost": 5e-324}, {"noise_matrix": 1e200}, {"state_cost": 1e300}, {"state_matrix": 1e200}]
)
def test_what_floats_cannot_hold_is_refused(parameters):
    with pytest.raises((ParameterError, NumericalError)):
        LQR(**parameters)
