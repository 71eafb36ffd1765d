"""What a policy earns, by paths weighted by a value, whose martingale is the control variate."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hacontrol_agents.certificates.candidate import Policy
from hacontrol_agents.certificates.region import Region
from hacontrol_agents.certificates.value import Value
from hacontrol_envs.arrays import Floats


class Walk(NamedTuple):
    """Paths of a policy from S starts, P from each, weighted by psi."""

    gain: Floats
    """int D h/psi dt along each path, (S, P): its mean is (J - V)/psi at the start, up to `left` and `exited`."""
    left: float
    """E[D_T 1{inside at T}], the weight of paths that had not ended."""
    exited: float
    """E[D_tau 1{tau < T}], the weight of paths that left the region."""
    low: Floats
    """Least coordinates that paths took, (k,)."""
    high: Floats
    """Largest coordinates that paths took, (k,)."""
    t: Floats
    """Times of some points on the paths, (M,)."""
    x: Floats
    """States of some points on the paths, (M, n)."""


class Plan(NamedTuple):
    """How paths are run."""

    paths: int
    """Number P of paths from each start."""
    step: float
    """Time step before it is halved."""
    steps: int
    """At most so many steps before halving; over a finite horizon they end there."""
    halvings: int
    """How often the step is halved; paths with more halvings share their noise with those with fewer."""
    seed: int
    """Seed of the noise."""
    until: float
    """Mean weight of the paths below which they stop."""


def walk(value: Value, policy: Policy, starts: Floats, plan: Plan, region: Region | None) -> Walk:
    """Run paths of a policy under the law weighted by psi, and sum what the residual adds to V.

    By Ito's formula J - V = E int_0^oo e^{-rho t} h(X_t) dt, with h = r + V_t + L^pi V - rho V, for a V that is not
    multiplied without end beyond the region. Under the measure whose density is that of the martingale
    psi(X_t)/psi(x) exp(-int psi_t/psi + L^pi psi/psi ds), which adds sigma sigma' grad log psi to the drift,

        (J - V)/psi (x) = E^psi[ int_0^oo D_t h/psi (X_t) dt ],    D_t = exp(-int_0^t rho - (psi_s + L^pi psi)/psi ds).

    Every term is relative to the value where it counts. The error of discretising time is proportional to h, as is the
    variance.

    Args:
        value: V, with its weight psi.
        policy: the policy.
        starts: states at time 0, (S, n).
        plan: numbers of paths and steps.
        region: the region that ends a path which leaves it; None for no end.
    """
    problem, at = value.problem, value.coordinates
    x = np.repeat(starts, plan.paths, axis=0)
    t, D, gain, exited = np.zeros(len(x)), np.ones(len(x)), np.zeros(len(x)), np.zeros(len(x))
    low, high = (edge(at.of(t, x), axis=0) for edge in (np.min, np.max))
    dt, seen, alive = plan.step / 2**plan.halvings, [], np.ones(len(x), dtype=bool)
    for k in range(plan.steps * 2**plan.halvings):
        a = value.played(policy, t, x)
        now = value.rates(t, x, a)
        decay = np.exp(-now.yielded * dt)
        within = np.divide(-np.expm1(-now.yielded * dt), now.yielded, out=np.full(len(x), dt), where=now.yielded != 0)
        gain += np.where(alive, D * within * now.residual / now.weight, 0.0)
        D = np.where(alive, D * decay, D)
        shock = _noise(plan.seed, k, plan.halvings, (len(x), problem.noise_dim)) * np.sqrt(dt)
        u = now.s + now.weighted_drift * dt + (now.columns @ shock[:, :, None])[:, :, 0]
        beyond = problem.state.from_unit(u[:, : at.states])
        moved = at.snapped(problem.state.confine(beyond))
        gain += np.where(alive, D * _pushed(value, t + dt, beyond, moved) / now.weight, 0.0)
        x, t = np.where(alive[:, None], moved, x), t + dt
        s = at.of(t, x)
        low, high = np.minimum(low, s.min(axis=0)), np.maximum(high, s.max(axis=0))
        if region is not None:
            out = alive & np.logical_not(region.holds(s))
            exited[out], alive = D[out], alive & np.logical_not(out)
        if k % 2**plan.halvings == 0 and alive.any():
            seen.append((t[alive], x[alive]))
        if not np.isfinite(D).all() or float((D * alive).mean()) < plan.until:
            break
    if at.timed:
        due = problem.terminal_reward(x) - value.value(t, x)
        gain, alive = gain + np.where(alive, D * due / value.weight(t, x), 0.0), np.zeros(len(x), dtype=bool)
    some = [np.concatenate(parts) for parts in zip(*seen, strict=True)] if seen else [t[:0], x[:0]]
    left = float((D * alive).mean())
    return Walk(gain.reshape(len(starts), plan.paths), left, float(exited.mean()), low, high, some[0], some[1])


def _noise(seed: int, k: int, halvings: int, shape: tuple[int, int]) -> Floats:
    """Return standard normals of step k, such that the sum over two steps is that of one step with a halving less."""
    if halvings == 0:
        return np.random.default_rng([seed, k]).standard_normal(shape)
    mean = _noise(seed, k // 2, halvings - 1, shape)
    apart = np.random.default_rng([seed, k // 2, halvings]).standard_normal(shape)
    return np.asarray((mean + (1 if k % 2 == 0 else -1) * apart) / np.sqrt(2))


def _pushed(value: Value, t: Floats, beyond: Floats, moved: Floats) -> Floats:
    """Return what pushes at reflecting edges add to V, (N,): its slope there times the push (Skorokhod)."""
    domain, added = value.problem.state, np.zeros(len(moved))
    if not (domain.closed & ~domain.constrained).any():
        return added
    push = np.where(domain.constrained, 0.0, domain.to_unit(moved) - domain.to_unit(beyond))
    rows = np.flatnonzero(np.abs(push).max(axis=1) > 1e-12)
    if len(rows):
        edge = domain.from_unit(np.clip(domain.to_unit(beyond[rows]), -1.0, 1.0))
        first, _ = domain.unit_derivatives(edge)
        added[rows] = (value.jet(t[rows], edge).v_x / first * push[rows]).sum(axis=1)
    return added
