"""The promises of a problem about its edges, the actions admissible there, and the action that is best."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np

from hacontrol_envs.arrays import Floats, dot
from hacontrol_envs.checks.probe import Points, Probe, batches, evaluate, require, require_form, require_small
from hacontrol_envs.checks.solution import RELATIVE, candidates, require_in_box
from hacontrol_envs.simulation.integrate import SCHEMES, integrator


def edge_points(probe: Probe, count: int) -> Points:
    """Return `Probe.points`, with every component that has closed edges moved to its low or its high end, at random."""
    (t, x, a), box = probe.points(count), probe.problem.state
    ends = np.where(probe.rng().random(x.shape) < 0.5, box.low, box.high)
    return Points(t, np.where(box.closed, ends, x), a)


def check_admissible(probe: Probe) -> None:
    """Check that `admissible` is the identity inside and else the nearest action that does not leave, on torch, too."""
    p, m = probe.problem, probe.problem.action.dimension
    inside, edge = probe.points(200), edge_points(probe, 200)
    for rows in batches(*inside):
        require_form("admissible", evaluate("admissible", p.admissible, *rows), (m,), rows[1])
    advice = "Away from edges every action is admissible"
    require_small(
        p.admissible(*inside) - inside.a, 0.0, "admissible inside the box against its argument", advice, inside
    )
    for at, dt in ((edge, 0.0), (edge, probe.dt), (inside, probe.dt)):

        def nearest(a: Floats, at: Points = at, dt: float = dt) -> Floats:
            found: Floats = p.admissible(at.t, at.x, a, dt)
            return found

        found, other = nearest(at.a), nearest(at.a[::-1])
        require_in_box(found, p.action, at, "admissible")
        require_small(nearest(found) - found, 0.0, "admissible twice against once", "It must be a projection", at)
        further = np.linalg.norm(found - at.a, axis=-1) - np.linalg.norm(other - at.a, axis=-1)
        advice = "Another admissible action is nearer"
        require_small(np.maximum(further, 0.0), 1e-12, "distance of the nearest admissible action", advice, at)
        _require_torch("admissible", lambda t, x, a, dt=dt: p.admissible(t, x, a, dt), found, *at)
    _check_constraint(probe, edge)
    _check_held(probe, inside._replace(a=p.admissible(*inside, probe.dt)))


def _check_constraint(probe: Probe, at: Points) -> None:
    """At a constrained edge neither the drift nor the noise leads out, and an action that does not is kept."""
    p, held = probe.problem, probe.problem.state.constrained

    def outward(at: Points) -> Floats:
        side = np.where(at.x == p.state.high, 1.0, -1.0)
        worst: Floats = np.max(np.where(held, side * p.drift(*at), -np.inf), axis=-1)
        return worst

    found = at._replace(a=p.admissible(*at))
    scale = np.abs(p.drift(*at)).max() + 1.0
    advice = "admissible must forbid the actions that lead out"
    require_small(np.maximum(outward(found), 0.0), 1e-12 * scale, "drift out of a constrained edge", advice, found)
    change = np.where((outward(at) < 0)[:, None], found.a - at.a, 0.0)
    require_small(change, 0.0, "admissible of an action that does not lead out", "Keep it as it is", at)
    noise = np.where(held, np.abs(p.diffusion(*at)).max(axis=-1), 0.0)
    require_small(noise, 0.0, "diffusion across a constrained edge", "Noise would lead out; no action forbids it", at)


def _check_held(probe: Probe, at: Points) -> None:
    """Paths of the drift under actions that may be held over a step stay within constrained edges."""
    p, still = probe.problem, np.zeros((*at.x.shape, 1))
    ends = []
    for steps in (64, 128):
        u, h = p.state.to_unit(at.x), probe.dt / steps
        for k in range(steps):
            x = p.state.from_unit(u)
            drift, _ = p.state.ito(x, p.drift(at.t + k * h, x, at.a), still)
            u = u + drift * h
        ends.append(np.where(p.state.constrained, np.maximum(np.abs(u) - 1, 0.0), 0.0))
    advice = "With dt, admissible must forbid what leads out before the step is over"
    allowed = np.abs(ends[1] - ends[0]) + 1e-9
    require_small(ends[1], allowed, "an action held over a step leads across a constrained edge", advice, at)


def check_confined(probe: Probe) -> None:
    """Check that steps of every scheme end within closed edges, and that the exact step plays the admissible action."""
    p, dt, rng = probe.problem, probe.dt, probe.rng()
    if not p.state.closed.any():
        return
    for at in (probe.points(200), edge_points(probe, 200)):
        for scheme in SCHEMES:
            if scheme == "exact" and p.exact_step(*at, dt, np.zeros((200, p.exact_noise_dim))) is None:
                continue
            step, d = integrator(p, dt, scheme)
            for size in (1.0, 10.0):
                x_next, reward = np.empty_like(at.x), np.empty(200)
                step(*at, size * rng.standard_normal((200, d)), x_next, reward)
                beyond = np.where(p.state.closed, np.abs(x_next - p.state.clip(x_next)), 0.0)
                require_small(beyond, 0.0, f"a step of scheme {scheme!r} beyond a closed edge", "Confine it", at)
        held = at._replace(a=p.admissible(*at, dt))
        z = rng.standard_normal((200, p.exact_noise_dim))
        kept = p.exact_transition(*at, dt, z), p.exact_transition(*held, dt, z)
        for name, one, other in zip(("exact_step", "exact_reward"), *kept, strict=True):
            if one is not None and other is not None:
                promise = f"{name} of an action against that of the nearest admissible one"
                require_small(one - other, 1e-12 * np.abs(one).max(), promise, "Call admissible with dt first", at)


def check_maximiser(probe: Probe) -> None:
    """Check that no admissible action, far or near, has a higher Hamiltonian than `maximiser`, where that is known."""
    p, rng = probe.problem, probe.rng()
    parts = zip(probe.points(30), edge_points(probe, 30), strict=True)
    at = Points(*(np.concatenate(pair) for pair in parts))
    v_x, v_xx = _derivatives(probe, at, rng)
    best = evaluate("maximiser", p.maximiser, at.t, at.x, v_x, v_xx)
    if best is None:
        return
    for rows in batches(at.t, at.x, v_x, v_xx):
        require_form("maximiser", evaluate("maximiser", p.maximiser, *rows), (p.action.dimension,), rows[1])
    _require_torch("maximiser", p.maximiser, best, at.t, at.x, v_x, v_xx)
    at = at._replace(a=best)
    require_in_box(best, p.action, at, "maximiser")
    require_small(p.admissible(*at) - best, 1e-12, "maximiser against the nearest admissible", "Play that", at)
    tried = candidates(probe, best, 500)
    every, shape = at.each(tried.shape[1]), tried.shape[1]
    slope, bend = np.repeat(v_x, shape, axis=0), np.repeat(v_xx, shape, axis=0)
    rivals = every._replace(a=p.admissible(every.t, every.x, tried.reshape(-1, tried.shape[2])))

    def terms(at: Points) -> Floats:
        return np.stack([p.reward(*at), dot(p.drift(*at), slope), p.second_order(*at, bend)])

    mine, theirs = terms(every), terms(rivals)
    gain, size = np.sum(theirs - mine, axis=0), np.sum(np.abs(theirs) + np.abs(mine), axis=0)
    advice = "It does not maximise r + b . V_x + 1/2 tr(sigma sigma' V_xx); the action shown is better"
    promise = "Hamiltonian of the maximiser against other actions"
    require_small(np.maximum(gain, 0.0), RELATIVE * size, promise, advice, rivals)


def _derivatives(probe: Probe, at: Points, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Random V_x, of sizes at which what an action moves is worth about what it costs, and V_xx negative definite."""
    p, (k, n) = probe.problem, at.x.shape
    some = at.each(50)
    some = some._replace(a=p.action.from_unit(rng.uniform(-1, 1, (50 * k, p.action.dimension))))
    cost, effect = (f(*some).reshape(k, 50, -1).std(axis=1) for f in (p.reward, p.drift))
    scale = np.where(effect > 0, cost / np.where(effect > 0, effect, 1.0), 1.0)
    v_x = scale * rng.normal(1.0, 1.0, (k, n)) * 10 ** rng.uniform(-1, 1, (k, n))
    length = np.where(p.state.log, at.x, p.state.half_width)
    root = np.sqrt(np.abs(v_x) / length)[:, :, None] * rng.normal(size=(k, n, n + 1))
    return v_x, -np.einsum("kij,klj->kil", root, root)


def _require_torch(name: str, function: Callable[..., Any], wanted: Floats, *arguments: Floats) -> None:
    """The function gives the same on torch, where that is installed."""
    if importlib.util.find_spec("torch") is None:
        return
    torch = importlib.import_module("torch")
    given = evaluate(f"{name} on torch", function, *(torch.as_tensor(argument) for argument in arguments))
    require(isinstance(given, torch.Tensor), f"{name} of torch tensors is {type(given)}; write it against namespace(x)")
    gap, advice = np.abs(given.numpy() - wanted), "One line must serve both"
    require_small(gap, 1e-12 * np.abs(wanted).max(), f"{name} on torch against NumPy", advice)


ACTION_CHECKS: tuple[Callable[[Probe], None], ...] = (check_admissible, check_confined, check_maximiser)
