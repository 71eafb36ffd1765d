"""The martingale conditions of q-learning on LQR with entropy, whose value and rate are known in closed form."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parameters_to_vector

from hacontrol_agents.q_learning import martingale
from hacontrol_agents.q_learning.fitted_reward import FittedReward
from hacontrol_agents.q_learning.martingale import Clock, Moments, NewtonSteps, Transitions, increments, precision
from hacontrol_agents.q_learning.value_and_rate import ValueAndRate, triangle
from hacontrol_envs import LQR, Merton
from hacontrol_envs.numerics import riccati
from hacontrol_envs.simulation.env import SDEVectorEnv

TEMPERATURE = 0.05
PATHS = 64
COUPLED = {"dimension": 2, "control_matrix": [[1.0, 0.3], [0.0, 1.0]], "control_cost": [[0.1, 0.02], [0.02, 0.2]]}
CASES = [({}, 0.1), ({}, 0.01), (COUPLED, 0.05)]


class Quadratic(nn.Module):
    """All products of two observations, and a constant."""

    def __init__(self, n):
        super().__init__()
        self.pairs = torch.triu_indices(n, n)
        self.weight = nn.Parameter(torch.zeros(self.pairs.shape[1] + 1, dtype=torch.float64))

    def forward(self, s):
        products = s[:, self.pairs[0]] * s[:, self.pairs[1]]
        return (products @ self.weight[:-1] + self.weight[-1])[:, None]


class Feedback(nn.Module):
    """m = -K s."""

    def __init__(self, n, m):
        super().__init__()
        self.gain = nn.Parameter(torch.zeros(m, n, dtype=torch.float64))

    def forward(self, s):
        return -s @ self.gain.T


class Constant(nn.Module):
    """The same everywhere."""

    def __init__(self, size):
        super().__init__()
        self.number = nn.Parameter(torch.zeros(size, dtype=torch.float64))

    def forward(self, s):
        return self.number.expand(len(s), -1)


class Given(nn.Module):
    """A function without parameters."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, s):
        return self.function(s)


def linear_pair(problem):
    n, m = problem.state.dimension, problem.action.dimension
    pair = ValueAndRate(Quadratic(n), Feedback(n, m), Constant(triangle(m)), m, bounded=False)
    pair.temperature = TEMPERATURE
    return pair


def true_parameters(problem, dt=None):
    """(V, q) with entropy, in the coordinates of the environment; with `dt` those of the sampled-data problem.

    q = -1/2 (a + Kx)'H(a + Kx) + rho c - spent, with H = R and spent = tr(DD'P)/2, or over a step H = H_aa/kappa and
    spent = (constant + gamma tr(noise noise'P))/(2 kappa). In unit actions, whose curvature is C, int exp(q/lam) du = 1
    gives rho c = spent - lam/2 (m log(2 pi lam) - log det C).
    """
    n, rho = problem.state.dimension, problem.discount
    if dt is None:
        found = riccati.continuous(problem.A, problem.B, problem.Q, problem.R, problem.D, rho)
        H, spent = problem.R, np.trace(problem.D.T @ found.P @ problem.D) / 2
    else:
        held, gamma = riccati.hold(problem.A, problem.B, problem.Q, problem.R, problem.D, rho, dt), math.exp(-rho * dt)
        found, kappa = riccati.sampled(held), (1 - gamma) / rho
        H = (held.M[n:, n:] + gamma * held.G.T @ found.P @ held.G) / kappa
        spent = (held.constant + gamma * np.sum(held.noise @ held.noise.T * found.P)) / (2 * kappa)
    X, U = (np.diag(box.half_width) for box in (problem.state, problem.action))
    P, C, K = X @ found.P @ X, U @ H @ U, np.linalg.solve(U, found.K @ X)
    m = len(C)
    c = (spent - TEMPERATURE / 2 * (m * math.log(2 * math.pi * TEMPERATURE) - np.linalg.slogdet(C)[1])) / rho
    i, j = np.triu_indices(n)
    L = np.linalg.cholesky(C)
    weight = [*np.where(i == j, -P[i, j] / 2, -P[i, j]), -c]
    factor = [*np.log(np.diag(L)), *L[np.tril_indices(m, -1)]]
    return np.concatenate([weight, K.ravel(), factor])


def set_parameters(pair, values):
    nn.utils.vector_to_parameters(torch.as_tensor(values, dtype=torch.float64), pair.parameters())
    return pair


@cache
def played(case, policy, time=2000.0, seed=1):
    """Transitions of a case under uniformly random actions or exp(q/lam), and the clock."""
    parameters, dt = CASES[case]
    problem = LQR(**parameters)
    env = SDEVectorEnv(problem, PATHS, dt=dt, episode_steps=round(5 / dt), autoreset_mode="SameStep")
    rng, pair = np.random.default_rng(seed), set_parameters(linear_pair(problem), true_parameters(problem, dt))
    s, _ = env.reset(seed=seed)
    rows = []
    for _ in range(round(time / dt / PATHS)):
        if policy == "random":
            u = rng.uniform(-1, 1, (PATHS, problem.action.dimension))
        else:
            u = np.clip(pair.sample(torch.as_tensor(s, dtype=torch.float64), rng).numpy(), -1, 1)
        s_next, reward, over, cut, infos = env.step(u)
        last = s_next.copy()
        for row in np.flatnonzero(cut):
            last[row] = infos["final_obs"][row]
        rows.append((s, u, reward, last, over, cut))
        s = s_next
    columns = (np.stack(column) for column in zip(*rows, strict=True))
    batch = Transitions(*(torch.as_tensor(x if x.dtype == bool else x.astype(float)) for x in columns))
    return problem, batch, Clock(dt, env.gamma)


def deviations(pair, batch, clock):
    """Sums of zeta delta in standard errors, for test functions of the state, the action and the past."""
    s, u = batch.s, batch.u
    delta = increments(pair, batch, clock)
    past = torch.cat([torch.zeros_like(delta[:1]), torch.sign(delta[:-1])])
    states = [torch.ones_like(delta), past, *s.unbind(-1), *(s**2).unbind(-1), torch.cos(3 * s[..., 0])]
    actions = [
        *u.unbind(-1),
        *(u**2).unbind(-1),
        *(s[..., :1] * u).unbind(-1),
        (u.prod(-1) - u.mean()) * s[..., 0] ** 2,
    ]
    return np.array([float((z * delta).sum() / (z * delta).square().sum().sqrt()) for z in states + actions])


@pytest.mark.parametrize("policy", ["random", "gibbs"])
@pytest.mark.parametrize("case", range(len(CASES)))
def test_increments_under_the_truth_have_mean_zero(case, policy):
    problem, batch, clock = played(case, policy)
    pair = set_parameters(linear_pair(problem), true_parameters(problem, clock.dt))
    assert np.abs(deviations(pair, batch, clock)).max() < 4


@pytest.mark.parametrize("case", range(len(CASES)))
@pytest.mark.parametrize("wrong", ["gain", "curvature", "value", "entropy", "sign"])
def test_increments_under_a_wrong_q_do_not(case, wrong):
    problem, batch, clock = played(case, "random")
    pair = set_parameters(linear_pair(problem), true_parameters(problem, clock.dt))
    with torch.no_grad():
        if wrong == "gain":
            pair.maximiser.gain *= 1.15
        elif wrong == "curvature":
            pair.curvature.number[: pair.actions] += 0.1
        elif wrong == "value":
            pair.value_net.weight[:-1] *= 1.2
        elif wrong == "entropy":
            pair.temperature = 0.0
        else:
            batch = batch._replace(u=-batch.u)
    assert np.abs(deviations(pair, batch, clock)).max() > 6


def test_held_actions_cost_a_second_order_of_dt():
    """E[delta | x, a] at the V and q of continuous time, exactly, at dt and dt/2: its rate is O(dt)."""
    problem = LQR()
    pair = set_parameters(linear_pair(problem), true_parameters(problem))
    rng = np.random.default_rng(0)
    s, u = (torch.as_tensor(rng.uniform(-1, 1, (20, 1))) for _ in range(2))

    def bias(dt):
        clock = Clock(dt, math.exp(-problem.discount * dt))
        x, a = problem.state.from_unit(s.numpy()), problem.action.from_unit(u.numpy())
        held = riccati.hold(problem.A, problem.B, problem.Q, problem.R, problem.D, problem.discount, dt)
        ahead = np.stack(
            [x @ held.F.T + a @ held.G.T + sign * held.noise[0] for sign in (-1, 1)]
        )  # exact for quadratics
        value = pair.value(torch.as_tensor(problem.state.to_unit(ahead)).reshape(-1, 1)).reshape(2, -1).mean(0)
        reward = torch.as_tensor(problem.exact_reward(0.0, x, a, dt))
        return (reward + clock.gamma * value - pair.value(s) - clock.span * pair.rate(s, u)).detach().numpy() / dt

    rough, fine = bias(0.02), bias(0.01)
    np.testing.assert_allclose(rough, 2 * fine, atol=0.03 * np.abs(rough).max())
    assert np.abs(fine).max() < 0.1 * np.abs(pair.rate(s, u).detach().numpy()).max()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "policy", "method"),
    [
        (0, "random", "moments"),
        (0, "gibbs", "moments"),
        (1, "random", "moments"),
        (1, "gibbs", "moments"),
        (2, "random", "moments"),
        (0, "random", "martingale loss"),
        (2, "random", "martingale loss"),
    ],
)
def test_the_estimator_recovers_the_riccati_solution(case, policy, method):
    """From zero, to within Monte Carlo error: A^{-1} B A^{-T}, with B the covariance of the moments across paths."""
    problem, batch, clock = played(case, policy, 2000.0, 2)
    pair, truth = linear_pair(problem), true_parameters(problem, clock.dt)
    look = torch.as_tensor(np.random.default_rng(0).uniform(-1, 1, (50, problem.state.dimension)))
    moments = Moments(pair, [batch], clock, method)
    assert NewtonSteps(pair, enough=1e-20).run(moments, look, 100) < 1e-6
    inverse = np.linalg.inv(moments.linearised().A.numpy())
    paths = [Transitions(*(x[:, [i]] for x in moments.batches[0])) for i in range(PATHS)]
    each = [Moments(pair, [path], clock, method).linearised().g for path in paths]
    errors = np.sqrt(((inverse @ torch.stack(each).numpy().T / PATHS) ** 2).sum(1))
    found = parameters_to_vector(pair.parameters()).detach().numpy()
    assert (np.abs(found - truth) / errors).max() < 4
    if policy == "random":  # which moves the state and the action so much that the error is small, too
        assert (errors / np.abs(truth))[np.abs(truth) > 0.1].max() < 0.1


@pytest.mark.parametrize("dt", [0.1, 0.001, 1e-5])
def test_a_step_has_its_discounted_time(dt):
    """kappa = (1 - e^{-rho dt})/rho, to many digits however short the step."""
    assert Clock(dt, math.exp(-0.05 * dt)).span == pytest.approx(-math.expm1(-0.05 * dt) / 0.05, rel=1e-9)
    assert Clock(dt, 1.0).span == dt


def test_weights_see_what_an_action_does_to_noise():
    """Var[delta | s, u] = exp(1 + s - 2 u^2) is found, up to a constant."""
    rng = np.random.default_rng(0)
    s, u = rng.uniform(-1, 1, (2, 400, 1000, 1))
    noise = np.exp((1 + s - 2 * u**2) / 2) * rng.standard_normal(s.shape)
    still = torch.zeros(s.shape[:2], dtype=torch.bool)
    batch = Transitions(*map(torch.as_tensor, (s, u, noise[..., 0], s)), terminated=still, cut=still)
    pair = linear_pair(LQR())  # V = 0, and at temperature 0 q = -(u + K s)^2/2 vanishes with the curvature
    set_parameters(pair, [0.0, 0.0, 0.0, -30.0]).temperature = 0.0
    log = precision(pair, batch, Clock(0.1, 1.0)).log().numpy()
    truth = -(s - 2 * u**2)[..., 0]
    np.testing.assert_allclose(log - log.mean(), truth - truth.mean(), atol=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("one_sign", [False, True])
def test_a_portfolio_has_a_rate_that_bends_like_reward(one_sign):
    """Merton's q in equation (4), with the true maximiser, the true curvature of q - r, and r fitted to what was paid.

    q - r = V_x x [r_f + pi (mu - r_f) - k] + V_xx x^2 sigma^2 pi^2/2 - rho V, whose second derivatives are those of
    the variance alone.
    """
    problem = Merton()
    env = SDEVectorEnv(problem, 512, dt=0.001, episode_steps=50)
    rng, x = np.random.default_rng(0), problem.initial_state(np.random.default_rng(1), 4096)
    u = rng.uniform(-1, 1, (4096, 2))
    s, a, t = env.to_observation(np.zeros(4096), x), env.to_physical(u), np.zeros(4096)
    known = problem.solution()
    reward = FittedReward(1, 2, one_sign, torch.Generator().manual_seed(0))
    rates = problem.exact_reward(t, x, a, 0.001) / Clock(0.001, env.gamma).span
    reward.offset, reward.scale = (0.0, rates.mean()) if one_sign else (rates.mean(), rates.std())
    reward.fit(*map(torch.as_tensor, (s.astype(float), u, rates)))
    mean = env.from_physical(known.policy(t, x))
    v_xx = known.jet(t, x).v_xx[:, 0, 0]
    bend = np.sqrt(-v_xx) * x[:, 0] * problem.volatility * problem.action.half_width[0]
    raw = torch.as_tensor(np.stack([np.log(bend), np.full(4096, -30.0), np.zeros(4096)], axis=1))
    networks = [lambda s: torch.zeros(len(s), 1), lambda s: torch.as_tensor(mean), lambda s: raw]
    pair = ValueAndRate(*map(Given, networks), 2, bounded=False, reward=reward)
    with torch.no_grad():
        found = pair.rate(torch.as_tensor(s.astype(float)), torch.as_tensor(u)).numpy()
    truth = problem.hjb_residual(t, x, a, known.jet(t, x))
    assert np.sqrt(np.mean((found - truth) ** 2) / np.mean(truth**2)) < 0.02


@pytest.mark.slow
def test_a_prior_is_what_is_believed_where_nothing_was_seen_and_is_forgotten():
    """The mode is where (A'A/v + I/tau^2) d = -A'r/v about a solution: computed here from the conditions alone."""
    problem, batch, clock = played(0, "random")
    look = torch.as_tensor(np.random.default_rng(0).uniform(-1, 1, (50, 1)))

    def mode(prior):
        pair = linear_pair(problem)
        moments = Moments(pair, [batch], clock, "moments")
        NewtonSteps(pair, prior, enough=1e-20).run(moments, look, 30)
        found = moments.linearised()
        theta = parameters_to_vector(pair.parameters()).detach()
        pull = found.A.T @ torch.linalg.solve(found.noise * found.S, found.g) + theta / prior**2
        size = found.A.T @ torch.linalg.solve(found.noise * found.S, found.A) + torch.eye(len(theta)) / prior**2
        return theta.numpy(), float((torch.linalg.solve(size, pull).abs() / size.inverse().diagonal().sqrt()).max())

    (firm, at_firm), (loose, at_loose), (free, _) = mode(1e-3), mode(1.0), mode(math.inf)
    assert max(at_firm, at_loose) < 1e-3  # standard deviations to where |r|^2/v + |theta|^2/prior^2 is least
    assert np.abs(firm).max() < 0.05 * np.abs(free).max()
    assert np.abs(firm).max() < np.abs(loose).max() < np.abs(free).max()
    assert np.abs(mode(100.0)[0] - free).max() < 1e-3


def test_a_start_from_which_nothing_leads_out_is_left():
    """A maximiser far from the box, with so large a curvature that no small step helps: learning starts afresh."""
    problem, batch, clock = played(0, "random")
    pair, truth = linear_pair(problem), true_parameters(problem, clock.dt)
    newton = NewtonSteps(pair, 10.0)
    set_parameters(pair, [40.0, -40.0, -60.0, 6.0])
    look = torch.as_tensor(np.random.default_rng(0).uniform(-1, 1, (50, 1)))
    newton.run(Moments(pair, [batch], clock, "moments"), look, 12)
    np.testing.assert_allclose(parameters_to_vector(pair.parameters()).detach().numpy(), truth, atol=0.2)


@pytest.mark.parametrize("method", ["moments", "martingale loss"])
def test_test_functions_stay_what_they_were_until_they_are_fixed_again(method, monkeypatch):
    """Whether they are kept or computed again; A is g's derivative with test functions that do not move."""
    problem, batch, clock = played(2, "random", 200.0)
    truth = true_parameters(problem, clock.dt)
    pair = set_parameters(linear_pair(problem), 0.5 * truth)
    kept = Moments(pair, [batch], clock, method)
    monkeypatch.setattr(martingale, "KEPT", 0)
    again = Moments(pair, [batch], clock, method)
    conditions = kept.linearised()
    again.linearised()
    step = 1e-5 * np.random.default_rng(0).standard_normal(len(truth))
    ahead, behind = (set_parameters(pair, 0.5 * truth + sign * step) and kept.g() for sign in (1, -1))
    torch.testing.assert_close((ahead - behind) / 2, conditions.A @ torch.as_tensor(step), rtol=1e-6, atol=1e-10)
    torch.testing.assert_close(again.g(), behind, rtol=1e-9, atol=1e-12)
    fresh = Moments(pair, [batch], clock, method).linearised().g
    assert (fresh - behind).abs().max() > 1e-7 * behind.abs().max()
