"""The promises of a problem's Solution, continuous and sampled-data, each a small function."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from hacontrol_envs.arrays import Floats
from hacontrol_envs.checks.probe import (
    Points,
    Probe,
    batches,
    evaluate,
    expectation,
    follow,
    increments,
    require,
    require_form,
    require_small,
    speeds,
)
from hacontrol_envs.core.domain import Domain
from hacontrol_envs.core.solution import Jet, Solution
from hacontrol_envs.numerics.quadrature import gauss_hermite

RELATIVE = 1e-9
"""Error up to which a closed form must solve its equation, relative to the terms of the equation."""


def check_statement(probe: Probe) -> None:
    """Check what a Solution says about itself, continuous and sampled."""
    for found in probe.solutions():
        require(isinstance(found, Solution), f"solution must be a Solution or None, got {type(found).__name__}")
        require(found.kind in ("closed form", "numerical"), f"solution.kind must be a known one, got {found.kind!r}")
        require(bool(found.source), "solution.source is empty; cite the formula or state the method")
        finite = np.isfinite(found.error) and found.error >= 0
        require(
            finite and (found.kind == "numerical") >= (found.error > 0),
            f"solution.error {found.error} of a {found.kind}",
        )


def check_shapes(probe: Probe) -> None:
    """Check shapes, dtype and finiteness with leading batch axes and scalar time, and that actions are in their box."""
    p, at = probe.problem, probe.grid_points(21)
    for found in probe.solutions():
        for time, x in batches(at.t, p.observe(at.x)):
            for name, function, trailing in _functions(found, p.state.dimension, p.action.dimension):
                result = evaluate(f"solution's {name}", function, time, x)
                require_form(f"solution's {name}", result, trailing, x)
        require_in_box(found.policy(at.t, p.observe(at.x)), p.action, at, "solution's policy")


def _functions(found: Solution, n: int, m: int) -> Iterator[tuple[str, Callable[..., Any], tuple[int, ...]]]:
    yield "value", found.value, ()
    yield "policy", found.policy, (m,)
    if found.jet is not None:
        for part, trailing in (("v", ()), ("v_t", ()), ("v_x", (n,)), ("v_xx", (n, n))):
            yield f"jet.{part}", lambda t, x, part=part: getattr(found.jet(t, x), part), trailing  # type: ignore[misc]


def require_in_box(a: Floats, box: Domain, at: Points, name: str) -> None:
    """Raise ContractError unless actions are in the action box.

    Args:
        a: physical actions, (k, m).
        box: the action box.
        at: the points at which they were given, for the message.
        name: name of the function that gave them, for the message.
    """
    beyond = np.maximum(box.low - a, a - box.high)
    advice = "Widen the action domain, or the best action cannot be played"
    allowed = 1e-9 * (box.high - box.low)
    require_small(np.maximum(beyond, 0.0), allowed, f"{name} leaves the action box", advice, at)


def check_derivatives(probe: Probe) -> None:
    """Check the jet: v against value, v_t and v_x against central differences of value, v_xx against those of v_x."""
    found = probe.solution()
    if found is None or found.jet is None:
        return
    p, at = probe.problem, probe.points(50)
    jet, value = found.jet(at.t, at.x), found.value(at.t, at.x)
    size = np.abs(value)
    require_small(jet.v - value, 1e-12 * size, "jet.v against value", "They are the same function", at)
    if p.horizon is not None:
        eps = float(np.minimum(1e-3 * probe.dt, at.t.min() / 2))
        slope = _central(lambda s: found.value(at.t + s * eps, at.x)) / eps
        _require_slope(jet.v_t, slope, size / probe.dt + np.abs(slope), found.error / eps, "jet.v_t", "value in t", at)
    for i in range(p.state.dimension):
        _check_derivatives_along(i, probe, found.value, found.jet, at)


def _check_derivatives_along(i: int, probe: Probe, value: Any, jet: Callable[[Any, Any], Jet], at: Points) -> None:
    state, error = probe.problem.state, _error(probe)
    length = at.x[:, i] if state.log[i] else np.full(len(at.x), state.half_width[i])
    eps = 5e-4 * length
    move = np.eye(state.dimension)[i] * eps[:, None]
    here, size = jet(at.t, at.x), np.abs(value(at.t, at.x))
    slope = _central(lambda s: value(at.t, at.x + s * move)) / eps
    bound = size / length + np.abs(slope)
    _require_slope(here.v_x[:, i], slope, bound, error / eps, f"jet.v_x along {state.names[i]}", "value", at)
    bend = _central(lambda s: jet(at.t, at.x + s * move).v_x) / eps[:, None]
    bound = np.abs(here.v_x).max(axis=-1) / length + np.abs(bend).max(axis=-1)
    wide = (error / eps**2)[:, None]
    _require_slope(here.v_xx[:, i], bend, bound[:, None], wide, f"jet.v_xx along {state.names[i]}", "v_x", at)


def _error(probe: Probe) -> float:
    found = probe.solution()
    return 0.0 if found is None else found.error


def _central(f: Callable[[float], Floats]) -> Floats:
    """f'(0) to fourth order from four values around it."""
    return (8 * (f(1.0) - f(-1.0)) - (f(2.0) - f(-2.0))) / 12


def _require_slope(given: Floats, slope: Floats, size: Any, error: Any, name: str, of: str, at: Points) -> None:
    require_small(
        given - slope, 1e-6 * size + error, f"{name} against central differences of {of}", "Differentiate again", at
    )


def check_hjb(probe: Probe) -> None:
    """Check that V solves the HJB equation r + V_t + L^a V - rho V = 0 at the optimal action."""
    found = probe.solution()
    if found is None or found.jet is None:
        return
    at = _optimal(found, probe.points(500))
    jet = found.jet(at.t, at.x)
    residual = probe.problem.hjb_residual(*at, jet)
    advice = "The value, the policy or a coefficient is wrong, or error understates a numerical solution"
    require_small(residual, tolerance(probe, at, jet, found.error), "HJB residual of the solution", advice, at)


def check_optimality(probe: Probe) -> None:
    """Check that no action in the box, far or near, improves the Hamiltonian at the optimal one."""
    found = probe.solution()
    if found is None or found.jet is None:
        return
    points = _optimal(found, probe.points(20))
    tried = candidates(probe, points.a, 1000)
    at, rivals = points.each(tried.shape[1]), tried.reshape(-1, tried.shape[2])
    jet = found.jet(at.t, at.x)
    gain = probe.problem.hjb_residual(at.t, at.x, rivals, jet) - probe.problem.hjb_residual(*at, jet)
    allowed = tolerance(probe, at, jet, found.error)
    advice = "The policy does not maximise r + L^a V; the action shown is the better one"
    require_small(
        np.maximum(gain, 0.0), allowed, "Hamiltonian of the policy against other actions", advice, at._replace(a=rivals)
    )


def _optimal(found: Solution, at: Points) -> Points:
    return at._replace(a=found.policy(at.t, at.x))


def candidates(probe: Probe, a: Floats, count: int) -> Floats:
    """Return actions in the box to try instead of others, (k, tries, m): random ones, and shifts along each axis.

    Args:
        probe: the problem, with the seed of the random actions.
        a: physical actions, (k, m).
        count: number of random actions for each of the k.
    """
    box = probe.problem.action
    random = probe.rng().uniform(-1, 1, (len(a), count, box.dimension))
    shifts = np.concatenate([sign * size * np.diag(box.high - box.low) for size in (0.1, 1e-3) for sign in (1, -1)])
    near = np.clip(a[:, None] + shifts, box.low, box.high)
    return np.concatenate([box.from_unit(random), near], axis=1)


def tolerance(probe: Probe, at: Points, jet: Jet, error: float) -> Floats:
    """Return the largest residual allowed at each point, (k,): a share of the equation's terms, plus the error of V.

    An error of V that varies over the box's own lengths and times enters the equation times the problem's rates.

    Args:
        probe: the problem.
        at: the k points.
        jet: V with its derivatives at the points.
        error: stated error of V.
    """
    p = probe.problem
    transport = np.sum(np.abs(p.drift(*at) * jet.v_x), axis=-1)
    terms = np.abs(p.reward(*at)) + np.abs(jet.v_t) + transport + np.abs(p.second_order(*at, jet.v_xx))
    rate = speeds(p, at) + p.discount + (0.0 if p.horizon is None else 1 / p.horizon)
    allowed: Floats = RELATIVE * (terms + p.discount * np.abs(jet.v)) + 100 * error * rate
    return allowed


def check_terminal(probe: Probe) -> None:
    """Check that value(T, x) = terminal_reward(x), continuous and sampled."""
    p, at = probe.problem, probe.points(100)
    if p.horizon is None:
        return
    at = at._replace(t=np.full(100, p.horizon))
    reward = p.terminal_reward(at.x)
    for found in probe.solutions():
        allowed = RELATIVE * (np.abs(reward) + np.abs(found.value(at.t * 0, at.x))) + found.error
        advice = "At the horizon only the terminal reward is left"
        require_small(found.value(at.t, at.x) - reward, allowed, "value(T, x) against terminal_reward(x)", advice, at)


def check_dynkin(probe: Probe) -> None:
    """Check e^{-rho h} E V(t+h, X_h) - V(t, x) = E int_0^h e^{-rho s} (V_t + L V - rho V) ds along optimal paths.

    Where derivatives of V are not known -r is the integrand: then this is the dynamic programming principle.
    """
    found, p = probe.solution(), probe.problem
    if found is None:
        return

    def flow(t: Floats, x: Floats, a: Floats) -> Floats:
        reward = p.reward(t, x, a)
        wanted: Floats = -reward if found.jet is None else p.hjb_residual(t, x, a, found.jet(t, x)) - reward
        return wanted

    rng = probe.rng()
    for at in probe.starts(3):
        fine, coarse, W = increments(rng, probe.samples, p.noise_dim, probe.dt)
        gaps = [_dynkin_gap(probe, found, at, flow, dW) for dW in (fine, coarse)]
        mean, spread = expectation((2 * gaps[0] - gaps[1])[:, None], W)
        start = np.abs(found.value(at.t[:1], at.x[:1]))
        allowed = 4 * spread + np.abs(np.mean(gaps[0] - gaps[1])) + 1e-6 * start + 4 * found.error
        require_small(mean, allowed, "Dynkin's formula along optimal paths", "Value and coefficients disagree", at)


def _dynkin_gap(probe: Probe, found: Solution, at: Points, flow: Callable[..., Floats], dW: Floats) -> Floats:
    p, h = probe.problem, probe.dt
    end, integral = follow(p, at, found.policy, dW, h, flow)
    later = np.exp(-p.discount * h) * found.value(at.t + h, p.state.from_unit(end))
    gap: Floats = later - found.value(at.t, at.x) - integral
    return gap


def check_sampled(probe: Probe) -> None:
    """Check V = max_a { exact_reward + e^{-rho dt} E V(t+dt, exact_step) } of solution(dt), at its policy's action."""
    p, dt, found = probe.problem, probe.dt, probe.solution(probe.dt)
    points = probe.grid_points(6)
    reward = p.exact_reward(*points, dt)
    if found is None or reward is None or p.exact_step(*points, dt, np.zeros((6, p.exact_noise_dim))) is None:
        return
    points = _optimal(found, points)
    rules = _gaussian_rules(probe, p.exact_noise_dim)
    best, again = (_action_value(probe, found, points, rule) for rule in rules)
    value, slack = found.value(points.t, points.x), np.abs(best - again).max() * 4 + 4 * found.error
    allowed = RELATIVE * (np.abs(value) + np.abs(reward)) + slack
    advice = "The value is not that of its policy, or its K, c or gamma is wrong"
    require_small(best - value, allowed, "Bellman equation of solution(dt)", advice, points)
    tried = candidates(probe, points.a, 20)
    at = points.each(tried.shape[1])._replace(a=tried.reshape(-1, tried.shape[2]))
    gain = _action_value(probe, found, at, rules[0]) - np.repeat(best, tried.shape[1])
    advice = "The action shown is better than that of the sampled-data policy"
    require_small(np.maximum(gain, 0.0), np.repeat(allowed, tried.shape[1]), "policy of solution(dt)", advice, at)
    if (continuous := probe.solution()) is not None:
        above = value - continuous.value(points.t, points.x)
        advice = "Holding actions over a step is a restriction, and cannot raise the value"
        allowed = allowed + RELATIVE * np.abs(value) + continuous.error
        require_small(np.maximum(above, 0.0), allowed, "solution(dt) above solution()", advice, points)


def _action_value(probe: Probe, found: Solution, at: Points, rule: tuple[Floats, Floats]) -> Floats:
    """exact_reward + gamma E V(t+dt, X') for every point, by a rule (nodes, weights) for standard normals."""
    p, dt, (nodes, weights) = probe.problem, probe.dt, rule
    rows, z = at.each(len(nodes)), np.tile(nodes, (len(at.t), 1))
    ahead = found.value(rows.t + dt, p.exact_step(*rows, dt, z)).reshape(len(at.t), -1)
    total: Floats = p.exact_reward(*at, dt) + np.exp(-p.discount * dt) * np.einsum("kz,z->k", ahead, weights)
    return total


def _gaussian_rules(probe: Probe, d: int) -> list[tuple[Floats, Floats]]:
    """Two rules for expectations over d standard normals; how far they disagree tells how exact they are.

    Products of Gauss-Hermite rules in few dimensions. Beyond, random points whose mean and covariance are
    exactly 0 and I.
    """
    if d <= 5:
        orders = {1: (48, 40), 2: (24, 20), 3: (11, 10), 4: (6, 5), 5: (4, 4)}[d]
        return [gauss_hermite(order, d) for order in orders]
    rng, count = probe.rng(), max(600, 4 * d)
    drawn = [rng.standard_normal((count, d)) for _ in range(2)]
    centered = [z - z.mean(axis=0) for z in drawn]
    white = [np.linalg.solve(np.linalg.cholesky(z.T @ z / count), z.T).T for z in centered]
    return [(z, np.full(count, 1 / count)) for z in white]


SOLUTION_CHECKS: tuple[Callable[[Probe], None], ...] = (
    check_statement,
    check_shapes,
    check_derivatives,
    check_hjb,
    check_optimality,
    check_terminal,
    check_dynkin,
    check_sampled,
)
