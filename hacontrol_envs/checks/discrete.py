"""The promises of a DiscreteProblem: what may follow, how likely it is, and the Bellman equation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hacontrol_envs.arrays import Floats
from hacontrol_envs.checks.probe import Points, Probe, batches, evaluate, require, require_form, require_small
from hacontrol_envs.checks.solution import RELATIVE, candidates, check_shapes, check_statement

STARTS = 3
"""Number of points from which transitions are simulated."""


def check_discount(probe: Probe) -> None:
    """Check that `discount_factor` lies between 0 and 1."""
    beta = probe.problem.discount_factor
    require(0 < beta < 1, f"discount_factor must lie between 0 and 1, got {beta!r}")


def check_successors(probe: Probe) -> None:
    """Check shapes of successors with any batch axes, and that probabilities are not negative and sum to one."""
    p, at = probe.problem, probe.points(21)
    for _, x, a in batches(*at):
        after = evaluate("successors", p.successors, x, a)
        count = np.shape(after.x)[-2]
        require_form("successors' states", after.x, (count, p.state.dimension), x)
        weights = np.broadcast_to(after.probability, (*x.shape[:-1], count))
        require(bool(np.all(weights >= 0)), f"successors have a negative probability {np.min(weights)}")
        gap = np.atleast_1d(weights.sum(axis=-1) - 1)
        require_small(gap, 1e-12, "sum of the successors' probabilities against 1", "Something is left out")


def check_moments(probe: Probe) -> None:
    """Check that what is observed after simulated transitions has the mean and variance of the successors."""
    p, rng = probe.problem, probe.rng()
    first = probe.points(STARTS)
    for k in range(STARTS):
        at = Points(*(part[k : k + 1] for part in first))
        after = p.successors(at.x, at.a)
        rows = at.each(probe.samples)
        drawn = p.transition(rows.x, rows.a, rng.standard_normal((probe.samples, p.exact_noise_dim)))
        seen, support = (p.observation.to_unit(p.observe(x)) for x in (drawn, after.x[0]))
        weights = np.broadcast_to(after.probability, after.x.shape[:-1])[0]
        center = weights @ support
        for power, name in ((1, "mean"), (2, "variance")):
            wanted, given = weights @ (support - center) ** power, (seen - center) ** power
            error = np.sqrt(np.maximum(weights @ (support - center) ** (2 * power) - wanted**2, 0) / len(given))
            promise = f"{name} of simulated transitions against that of successors, in unit coordinates"
            gap = given.mean(axis=0) - wanted
            require_small(gap[None], 6 * error + 1e-9, promise, "Both describe one law of motion", at)


def check_bellman(probe: Probe) -> None:
    """Check that V solves V = r + beta E V' at the policy's action, and that no other action does better."""
    p, found = probe.problem, probe.solution()
    if found is None:
        return
    points = probe.points(20)
    points = points._replace(a=found.policy(points.t, p.observe(points.x)))

    def value(y: Floats) -> Floats:
        worth: Floats = np.asarray(found.value(0.0, y))
        return worth

    size = np.abs(value(p.observe(points.x))) + np.abs(p.reward(points.x, points.a))
    allowed = RELATIVE * size + 2 * found.error
    advice = "The value is not that of its policy, or error understates a numerical solution"
    residual = p.bellman_residual(points.x, points.a, value)
    require_small(residual, allowed, "Bellman equation of the solution", advice, points)
    tried = candidates(probe, points.a, 50)
    at = points.each(tried.shape[1])._replace(a=tried.reshape(-1, tried.shape[2]))
    gain = p.bellman_residual(at.x, at.a, value) - np.repeat(residual, tried.shape[1])
    advice = "The action shown is better than that of the policy"
    bound = np.repeat(allowed, tried.shape[1])
    require_small(np.maximum(gain, 0.0), bound, "Bellman equation of the policy against other actions", advice, at)


DISCRETE_CHECKS: tuple[Callable[[Probe], None], ...] = (
    check_discount,
    check_successors,
    check_moments,
    check_statement,
    check_shapes,
    check_bellman,
)
