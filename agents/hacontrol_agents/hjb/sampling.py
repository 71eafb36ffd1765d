"""Points to learn from: points of the box, states that a policy visits, and Monte Carlo values of the policy there."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from hacontrol_agents.hjb.value_function import ValueFunction
from hacontrol_envs import ControlProblem
from hacontrol_envs.arrays import Floats

Policy: TypeAlias = Callable[[Tensor, Tensor, "Tensor | None"], Tensor]
"""Function that returns physical actions (B, m) at (t (B,), x (B, n)), given a guess of them or None."""

REACH = 8.0
"""Half-widths from the box's centre within which rollouts are held, so that a bad early policy does not overflow."""


class Visits(NamedTuple):
    """States where paths of a policy, killed at the discount rate, end, and their range."""

    t: Tensor
    """Times at which paths end, by death or at the horizon, (S,); zeros without a horizon."""
    x: Tensor
    """States at which paths end, (S, n): draws from the discounted law of (t, X_t), which is where errors count."""
    low: Tensor
    """Smallest unit coordinates of each path before death, (S, n)."""
    high: Tensor
    """Largest unit coordinates of each path before death, (S, n). With tau the time of leaving a box, the share of
    paths that leave it is E[e^{-rho tau}]."""


class Region(NamedTuple):
    """A box in unit coordinates."""

    low: Floats
    """Lower ends in unit coordinates, (n,)."""
    high: Floats
    """Upper ends in unit coordinates, (n,)."""


def widened(problem: ControlProblem, margin: float) -> Region:
    """Return the problem's box times `margin`, within the edges that the state does not cross."""
    half = np.where(problem.state.closed, min(margin, 1.0), margin)
    return Region(-half, half)


def around(problem: ControlProblem, visits: Visits, margin: float) -> Region:
    """Return the region in which to learn, given where paths went.

    Across open edges the box times `margin` times the farthest reach of a path (by a quarter wider at least): what V
    does there decides which of many solutions is found inside. Between edges that the state does not cross there is
    one, and corners where it never comes need not be fitted: the range of the paths, times `margin`, is enough.

    Args:
        problem: the problem whose box it is.
        visits: ends and ranges of the paths.
        margin: factor on the reach of the paths.
    """
    low, high = visits.low.amin(0).cpu().numpy(), visits.high.amax(0).cpu().numpy()
    reach = max(1.25, min(margin * float(np.maximum(-low, high).max()), REACH))
    center, half = (low + high) / 2, margin * (high - low) / 2
    closed = problem.state.closed
    return Region(
        np.where(closed, np.maximum(center - half, -1.0), -reach),
        np.where(closed, np.minimum(center + half, 1.0), reach),
    )


def uniform(
    problem: ControlProblem, rng: np.random.Generator, size: int, region: Region, at: Tensor
) -> tuple[Tensor, Tensor]:
    """Return points t (size,) and x (size, n), uniform in [0, T] and in a region.

    Args:
        problem: the problem, for its horizon T and unit coordinates.
        rng: draws the points.
        size: number of points.
        region: a box in unit coordinates.
        at: a tensor whose dtype and device the points get.
    """
    u = rng.uniform(region.low, region.high, (size, problem.state.dimension))
    t = rng.uniform(0.0, problem.horizon or 0.0, size)
    return torch.as_tensor(t).to(at), torch.as_tensor(problem.state.from_unit(u)).to(at)


def visit(v: ValueFunction, policy: Policy, t: Tensor, x: Tensor, rng: np.random.Generator, step: float) -> Visits:
    """Run one path of the policy from each start, by Euler's scheme, until it dies, at rate rho, or ends.

    Args:
        v: a value, for the problem and unit coordinates.
        policy: the policy.
        t, x: starts, (S,) and (S, n).
        rng: draws times of death and noise.
        step: largest time step.
    """
    problem = v.problem
    life = torch.as_tensor(rng.exponential(1 / max(problem.discount, 1e-9), len(t))).clamp_max(
        8 / max(problem.discount, 1e-9)
    )
    life = life.to(t) if problem.horizon is None else torch.minimum(life.to(t), problem.horizon - t)
    steps = max(1, int(np.ceil(float(life.max()) / step)))
    t, x, a = t.clone(), x.clone(), None
    low = problem.state.to_unit(x)
    high = low.clone()
    alive, clock = torch.arange(len(t), device=t.device), torch.zeros_like(t)
    for _ in range(steps):
        alive = alive[life[alive] > clock[alive] + 1e-12]
        if len(alive) == 0:
            break
        here = torch.minimum(life[alive] - clock[alive], life.new_full((), step))
        guess = None if a is None else a[alive]
        chosen = policy(t[alive], x[alive], guess)
        a = chosen.new_zeros(len(t), chosen.shape[1]) if a is None else a
        a[alive] = chosen
        t[alive], x[alive] = _move(
            v, t[alive], x[alive], chosen, here, rng.standard_normal((len(alive), problem.noise_dim))
        )
        clock[alive] += here
        u = problem.state.to_unit(x[alive])
        low[alive], high[alive] = torch.minimum(low[alive], u), torch.maximum(high[alive], u)
    return Visits(t if problem.horizon is not None else torch.zeros_like(t), x, low, high)


def values(
    v: ValueFunction,
    policy: Policy,
    t: Tensor,
    x: Tensor,
    rng: np.random.Generator,
    *,
    paths: int,
    time: float,
    steps: int,
) -> Tensor:
    """Return the Monte Carlo value (S,) of a policy at S starts, with the martingale of `v` as control variate.

    By Ito's formula the discounted reward of a path less the martingale int e^{-rho s} V_x . sigma dW is

        V(t, x) + int e^{-rho s} (r + V_s + L^a V - rho V) ds + e^{-rho h} (g(X_{t+h}) - V(t+h, X_{t+h})),

    with h the time left over a finite horizon. Over an infinite one h = `time` and the last term is left out: beyond,
    the policy is taken to earn V(X_h). That is computed: no stochastic integral remains, and the variance and the error
    of discretising time are both proportional to the residual, so they vanish as V becomes the policy's value. Every
    start sees the same K paths of the noise, so that the estimate is a smooth function of the start.

    Args:
        v: the present value of the policy.
        policy: the policy.
        t, x: starts, (S,) and (S, n).
        rng: draws the noise.
        paths: number K of paths from each start.
        time: length of a path over an infinite horizon.
        steps: number of Euler steps of a path.
    """
    problem, rho = v.problem, v.problem.discount
    t, x, a = t.repeat_interleave(paths), x.repeat_interleave(paths, dim=0), None
    step = (t.new_full(t.shape, time) if problem.horizon is None else problem.horizon - t) / steps
    total, discount, decay = v.value(t, x), torch.ones_like(t), torch.exp(-rho * step)
    within = step if rho == 0 else (1 - decay) / rho
    for _ in range(steps):
        a = policy(t, x, a)
        total += discount * within * v.residual(problem.reward(t, x, a), v.flow(t, x, a))
        noise = np.tile(rng.standard_normal((paths, problem.noise_dim)), (len(t) // paths, 1))
        t, x = _move(v, t, x, a, step, noise)
        discount = discount * decay
    if problem.horizon is not None:
        total += discount * (problem.terminal_reward(x) - v.value(torch.full_like(t, problem.horizon), x))
    return total.reshape(-1, paths).mean(dim=1)


def _move(v: ValueFunction, t: Tensor, x: Tensor, a: Tensor, step: Tensor, noise: Floats) -> tuple[Tensor, Tensor]:
    """Return t and x after an Euler step of each row's own length, in unit coordinates."""
    n = v.problem.state.dimension
    flow = v.flow(t, x, a)
    shock = (flow.columns @ torch.as_tensor(noise).to(x)[:, :, None])[:, :, 0]
    z = flow.z + flow.drift * step[:, None] + shock * step.sqrt()[:, None]
    return t + step, v.problem.state.confine(v.problem.state.from_unit(z[:, :n].clamp(-REACH, REACH)))
