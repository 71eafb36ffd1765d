"""Points to learn from: points of the box, states that a policy visits, and Monte Carlo values of the policy there."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np
import scipy
import torch
from torch import Tensor

from hacontrol_agents.hjb.value_function import ValueFunction
from hacontrol_envs import ControlProblem
from hacontrol_envs.arrays import Floats

Policy: TypeAlias = Callable[[Tensor, Tensor, "Tensor | None"], Tensor]
"""Function that returns physical actions (B, m) at (t (B,), x (B, n)), given a guess of them or None."""

ROUND = 30.0
"""Largest ratio of variances of paths in two directions for which a box is taken as the region."""
MOST_STEPS, LIVES, FEW = 400, 12.0, 0.02
"""Paths end after so many steps, so many times the inverse of the discount, or when so small a share is alive."""


class Visits(NamedTuple):
    """Where paths of a policy go under the law weighted by V, and their range."""

    t: Tensor
    """Times of points on paths, (S,); zeros without a horizon."""
    x: Tensor
    """Points on paths, (S, n): draws from the discounted law of (t, X_t) weighted by V, under which errors of the
    equation, relative to V, add up to the relative error of V."""
    low: Tensor
    """Smallest unit coordinates of each path before it dies, (P, n)."""
    high: Tensor
    """Largest unit coordinates of each path before it dies, (P, n)."""


class Region(NamedTuple):
    """A box in unit coordinates, and within it, where given, an ellipsoid that holds what paths reach."""

    low: Floats
    """Lower ends of the box, (n,)."""
    high: Floats
    """Upper ends of the box, (n,)."""
    center: Floats | None = None
    """Centre of the ellipsoid, (n,)."""
    root: Floats | None = None
    """Root R (n, n) of the ellipsoid's matrix: its points are centre + R w, |w| <= 1."""

    def draw(self, rng: np.random.Generator, size: int) -> Floats:
        """Draw points uniformly in the ellipsoid if there is one, else in the box, (size, n).

        Args:
            rng: draws the points.
            size: number of points.
        """
        n = len(self.low)
        if self.center is None or self.root is None:
            return rng.uniform(self.low, self.high, (size, n))
        w = rng.standard_normal((size, n))
        w *= rng.random((size, 1)) ** (1 / n) / np.linalg.norm(w, axis=1, keepdims=True)
        drawn: Floats = self.center + w @ self.root.T
        return drawn

    def holds(self, u: Tensor) -> Tensor:
        """Tell which points u (B, n) lie in the ellipsoid if there is one, else in the box, (B,)."""
        if self.center is None or self.root is None:
            low, high = (torch.as_tensor(end).to(u) for end in (self.low - 1e-9, self.high + 1e-9))
            return ((u >= low) & (u <= high)).all(dim=1)
        center, root = torch.as_tensor(self.center).to(u), torch.as_tensor(self.root).to(u)
        within: Tensor = torch.linalg.solve_triangular(root, (u - center).T, upper=False).square().sum(0) <= 1
        return within


class Look(NamedTuple):
    """What paths of a policy show."""

    visits: Visits
    """Where paths go."""
    decay: float
    """Rate at which weights psi e^{-rho t} decay in the end: where that is not positive, the policy lets V grow as fast
    as it is discounted, or faster. [1/time]."""
    exited: float
    """Share of the paths that left the region."""
    left: float
    """Share of the paths that neither died, left nor reached the horizon in the time that was simulated."""
    gap: float
    """Mean of int |h|/psi dt along paths, h = r + V_t + L V - rho V (and of |g - V|/psi at the horizon): about how far
    V is from the value of the policy, relative to it."""


def widened(problem: ControlProblem, margin: float) -> Region:
    """Return the problem's box times `margin`, within the edges that the state does not cross."""
    half = np.where(problem.state.closed, min(margin, 1.0), margin)
    return Region(-half, half)


def around(v: ValueFunction, visits: Visits, margin: float) -> Region:
    """Return the region in which to learn, given where paths went.

    Across open edges the box times `margin` times the farthest reach of a path (by a quarter wider at least): what V
    does there decides which of many solutions is found inside. Where all edges are open and paths spread much farther
    in some directions than in others, the region is the ellipsoid of their covariance, (1 + margin)/2 times as wide as
    they reach: corners of a box would be far from all of them. Between edges that the state does not cross there is one
    solution, and corners where it never comes need not be fitted: the range of the paths, times `margin`, is enough.

    Args:
        v: a value, for the problem and the farthest region.
        visits: ends and ranges of the paths.
        margin: factor on the reach of the paths.
    """
    problem = v.problem
    low, high = visits.low.amin(0).cpu().numpy(), visits.high.amax(0).cpu().numpy()
    reach = max(1.25, min(margin * float(np.maximum(-low, high).max()), v.reach))
    center, half = (low + high) / 2, margin * (high - low) / 2
    closed = problem.state.closed
    box = Region(
        np.where(closed, np.maximum(center - half, -1.0), -reach),
        np.where(closed, np.minimum(center + half, 1.0), reach),
    )
    n = problem.state.dimension
    if n == 1 or closed.any():
        return box
    u = problem.state.to_unit(visits.x).cpu().numpy()
    center, covariance = u.mean(axis=0), np.cov(u.T)
    spread = np.linalg.eigvalsh(covariance)
    if spread[-1] < ROUND * max(spread[0], 0.0):
        return box
    root = np.linalg.cholesky(covariance + 1e-6 * spread[-1] * np.eye(n))
    far = np.linalg.norm(scipy.linalg.solve_triangular(root, (u - center).T, lower=True), axis=0).max()
    root *= (1 + margin) / 2 * float(far)
    return box._replace(center=center, root=root * min(1.0, v.reach / float(np.linalg.norm(root, axis=1).max())))


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
    u = region.draw(rng, size)
    t = rng.uniform(0.0, problem.horizon or 0.0, size)
    return torch.as_tensor(t).to(at), torch.as_tensor(problem.state.from_unit(u)).to(at)


def visit(
    v: ValueFunction,
    policy: Policy,
    x: Tensor,
    rng: np.random.Generator,
    *,
    step: float,
    haste: float,
    region: Region,
    patience: float = 1.0,
    few: float = FEW,
) -> Look:
    """Run one path of the policy from each start by Euler's scheme until it dies, half of them weighted by psi.

    Plain paths die at the rate rho + haste: errors of the policy count where they go. Of the others,
    psi = (V^2 + c^2)^(1/2) with c the root mean square of V at the starts (0 where V is an exponential). Weighting by
    psi adds sigma sigma' grad log psi to the drift, and paths die at the rate y = rho + haste - (psi_t + L psi)/psi:
    what the equation lacks at x, relative to psi, counts in V for as long as paths are there. Paths end at the horizon,
    and where they leave the region in which V is known.

    Args:
        v: a value of the policy.
        policy: the policy.
        x: starts at time 0, (P, n).
        rng: draws deaths and noise.
        step: time step.
        haste: rate added to the discount.
        region: region in which V has been learnt.
        patience: factor on the time, and the number of steps, after which paths are given up.
        few: share of paths below which those alive are given up.
    """
    problem, n = v.problem, x.shape[1]
    rate = problem.discount + haste
    most = int(patience * MOST_STEPS) if problem.horizon is None else max(1, int(np.ceil(problem.horizon / step)))
    step = step if problem.horizon is None else problem.horizon / most
    t, a = x.new_zeros(len(x)), None
    c = 0.0 if v.log else float(v.value(t, x).square().mean().sqrt())
    left = torch.as_tensor(rng.exponential(size=len(x))).to(x)
    low = problem.state.to_unit(x)
    gap = 0.0
    tilt = (torch.arange(len(x), device=x.device) % 2).to(x)
    high, alive, seen, pace, exited = low.clone(), torch.arange(len(x), device=x.device), [], [], 0
    for k in range(most):
        a = policy(t[alive], x[alive], a)
        flow, y, pull, off = v.weighted(t[alive], x[alive], a, c)
        part = tilt[alive]
        gap += float((part * off).sum()) * step
        seen.append((t[alive], x[alive]))
        left[alive] -= (part * y + (1 - part) * problem.discount + haste) * step
        pace.append(_paced(y[part > 0] + haste, left[alive][part > 0]))
        shock = torch.as_tensor(rng.standard_normal((len(alive), problem.noise_dim))).to(x) * math.sqrt(step)
        z = flow.z + flow.drift * step + (flow.columns @ (pull * part[:, None] * step + shock)[:, :, None])[:, :, 0]
        x[alive] = problem.state.confine(problem.state.from_unit(z[:, :n].clamp(-v.reach, v.reach)))
        t[alive] += step
        stays = left[alive] > 0
        alive, a = alive[stays], a[stays]
        u = problem.state.to_unit(x[alive])
        inside = region.holds(u) & (u.abs().amax(dim=1) < v.reach)
        exited += len(alive) - int(inside.sum())
        low[alive], high[alive] = torch.minimum(low[alive], u), torch.maximum(high[alive], u)
        alive, a = alive[inside], a[inside]
        if len(alive) <= few * len(low) or (k + 1) * step * rate > patience * LIVES:
            break
    left_over = len(alive) / len(low) if problem.horizon is None else 0.0
    if problem.horizon is not None and len(alive):
        due, last = problem.terminal_reward(x[alive]), v.value(torch.full_like(t[alive], problem.horizon), x[alive])
        gap += float((tilt[alive] * (due - last).abs() / torch.hypot(last, last.new_tensor(c))).sum())
    drawn = rng.integers(0, sum(len(part) for part, _ in seen), len(low))
    t, x = (torch.cat(parts)[torch.as_tensor(drawn).to(x.device)] for parts in zip(*seen, strict=True))
    visits = Visits(t if problem.horizon is not None else torch.zeros_like(t), x, low, high)
    return Look(visits, _decay(pace, step) - haste, exited / len(low), left_over, gap / float(tilt.sum()))


def _paced(y: Tensor, left: Tensor) -> tuple[int, float, int]:
    """Return the number of paths, the median of the rates at which they die, and how many have just died.

    Args:
        y: rates, (B,).
        left: what is left of their lives, (B,).
    """
    return len(y), float(y.median()) if len(y) else 0.0, int((left <= 0).sum())


def _decay(pace: list[tuple[int, float, int]], step: float) -> float:
    """Return the rate at which weights decay in the second half of the time.

    It is the lesser of the share of paths that die per unit of time, and the median rate, which alone may be negative.

    Args:
        pace: numbers of weighted paths alive, their median rates, and numbers of deaths, at all steps.
        step: time step.
    """
    pace = [row for row in pace if row[0]]
    late = pace[len(pace) // 2 :]
    alive = max(sum(count for count, _, _ in late), 1)
    died = min(sum(deaths for *_, deaths in late) / alive, 1 - 1e-9)
    return min(-math.log1p(-died) / step, sum(count * y for count, y, _ in late) / alive)


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
    earns: Callable[[Tensor], Tensor] | None = None,
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
        earns: if given, tells which paths go on, (S K,), given where all are, (S K, n), the K paths of a start side by
            side; the others earn V from there.
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
        if earns is not None:
            discount = discount * earns(x)
            if not bool(discount.any()):
                break
    if problem.horizon is not None:
        total += discount * (problem.terminal_reward(x) - v.value(torch.full_like(t, problem.horizon), x))
    return total.reshape(-1, paths).mean(dim=1)


def _move(v: ValueFunction, t: Tensor, x: Tensor, a: Tensor, step: Tensor, noise: Floats) -> tuple[Tensor, Tensor]:
    """Return t and x after an Euler step of each row's own length, in unit coordinates."""
    n = v.problem.state.dimension
    flow = v.flow(t, x, a)
    shock = (flow.columns @ torch.as_tensor(noise).to(x)[:, :, None])[:, :, 0]
    z = flow.z + flow.drift * step[:, None] + shock * step.sqrt()[:, None]
    return t + step, v.problem.state.confine(v.problem.state.from_unit(z[:, :n].clamp(-v.reach, v.reach)))
