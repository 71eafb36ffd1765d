"""check_problem: the promises of a ControlProblem, each a small function."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import json
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from hacontrol_envs.arrays import Floats
from hacontrol_envs.checks.actions import ACTION_CHECKS
from hacontrol_envs.checks.discrete import DISCRETE_CHECKS
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
)
from hacontrol_envs.checks.solution import SOLUTION_CHECKS
from hacontrol_envs.core.discrete import DiscreteProblem
from hacontrol_envs.core.domain import Domain
from hacontrol_envs.core.problem import ControlProblem, Problem
from hacontrol_envs.errors import ContractError

ROUNDING = 1e-15
"""Tolerance of moments in unit coordinates, for components that are not random at all."""
Function = Callable[[Any, Any, Any, Any], Any]
"""A function (t, x, a, z) -> array, with z standard normals (..., exact_noise_dim)."""


def check_problem(problem: Problem, *, samples: int = 2000, seed: int = 0, dt: float | None = None) -> None:
    """Check that a problem keeps every promise of `ControlProblem` or `DiscreteProblem`, its solution included.

    Shapes, dtypes and batching of the coefficients; NumPy and torch agree; parameters rebuild the problem. Of a
    diffusion: the exact step and its reward match a simulation of the coefficients; no step leaves closed edges,
    and admissible actions are those that do not; the maximiser maximises the Hamiltonian; the solution solves the HJB
    equation, its policy maximises the Hamiltonian, its derivatives are its derivatives, and Dynkin's formula holds
    along simulated paths; the sampled-data solution solves its Bellman equation. In discrete time: successors have the
    moments of simulated transitions, and the solution solves the Bellman equation, which no other action improves. A
    few seconds for a small problem.

    Args:
        problem: the problem to check.
        samples: Monte Carlo paths from each starting point; statistical promises are held to a few standard errors.
        seed: of every random number that the checks draw.
        dt: length of the steps over which laws are compared; by default a tenth of the problem's own time scale.

    Raises:
        ContractError: the first broken promise, with the numbers and what to do about it.
    """
    probe = Probe(problem, samples, seed, dt)
    with np.errstate(all="ignore"):
        for check in PROBLEM_CHECKS:
            check(probe)
        for check in DISCRETE_CHECKS if isinstance(problem, DiscreteProblem) else DIFFUSION_CHECKS:
            check(probe)


def check_attributes(probe: Probe) -> None:
    """Check `state`, `action`, `observation`, `noise_dim`, `discount` and `horizon`."""
    p = probe.problem
    known = isinstance(p, (ControlProblem, DiscreteProblem))
    kinds = "a ControlProblem or a DiscreteProblem"
    require(known, f"a problem must be {kinds}, got {type(p).__name__}; subclass one")
    for name in ("state", "action", "observation"):
        given = getattr(p, name, None)
        require(isinstance(given, Domain), f"{name} must be a Domain, got {given!r}")
    for name in ("noise_dim", "exact_noise_dim"):
        given = getattr(p, name, None)
        require(_is_count(given), f"{name} must be a positive integer, got {given!r}")
    require(_is_number(p.discount) and p.discount >= 0, f"discount must be a finite number >= 0, got {p.discount!r}")
    if p.horizon is None:
        require(p.discount > 0, "an infinite horizon needs discount > 0, or no value is finite; got 0")
    else:
        require(_is_number(p.horizon) and p.horizon > 0, f"horizon must be None or a number > 0, got {p.horizon!r}")


def _is_count(given: Any) -> bool:
    return isinstance(given, (int, np.integer)) and not isinstance(given, bool) and bool(given >= 1)


def _is_number(given: Any) -> bool:
    return isinstance(given, (int, float, np.number)) and not isinstance(given, bool) and bool(np.isfinite(given))


def functions(probe: Probe) -> dict[str, tuple[Function, tuple[int, ...]]]:
    """Return every per-row function of the problem by name, each with the trailing shape of its result."""
    p, n, dt = probe.problem, probe.problem.state.dimension, probe.dt
    own: dict[str, tuple[Function, tuple[int, ...]]] = {
        "drift": (lambda t, x, a, z: p.drift(t, x, a), (n,)),
        "diffusion": (lambda t, x, a, z: p.diffusion(t, x, a), (n, p.noise_dim)),
        "reward": (lambda t, x, a, z: p.reward(t, x, a), ()),
    }
    if isinstance(p, DiscreteProblem):
        own = {"reward": (lambda t, x, a, z: p.reward(x, a), ())}
    table = {
        **own,
        "observe": (lambda t, x, a, z: p.observe(x), (p.observation.dimension,)),
        "terminal_reward": (lambda t, x, a, z: p.terminal_reward(x), ()),
        "exact_step": (lambda t, x, a, z: p.exact_step(t, x, a, dt, z), (n,)),
        "exact_reward": (lambda t, x, a, z: p.exact_reward(t, x, a, dt), ()),
    }
    at = _rows(probe, 1)
    return {name: pair for name, pair in table.items() if not name.startswith("exact") or pair[0](*at) is not None}


def _rows(probe: Probe, count: int) -> tuple[Floats, Floats, Floats, Floats]:
    """t, x, a and z for so many rows."""
    return (*probe.points(count), probe.rng().standard_normal((count, probe.problem.exact_noise_dim)))


def check_shapes(probe: Probe) -> None:
    """Check shapes, dtype and finiteness with leading batch axes (), (1,), (B,) and (B, C), and scalar time."""
    for rows in batches(*_rows(probe, 21)):
        for name, (function, trailing) in functions(probe).items():
            require_form(name, evaluate(name, function, *rows), trailing, rows[1])


def check_rows(probe: Probe) -> None:
    """Check that a row does not depend on its batch: to the last bit among batches, to rounding without batch axes."""
    many, few = _rows(probe, max(probe.samples, 50)), 21
    for name, (function, _) in functions(probe).items():
        wanted = evaluate(name, function, *many)[:few]
        advice = "A row's result must not depend on the other rows; use arrays.dot and arrays.matvec instead of @"
        folded = evaluate(name, function, *(part[:few].reshape(7, 3, *part.shape[1:]) for part in many))
        alone = np.concatenate([evaluate(name, function, *(part[i : i + 1] for part in many)) for i in range(few)])
        bare = np.stack([evaluate(name, function, *(part[i] for part in many)) for i in range(few)])
        require_small(
            folded.reshape(wanted.shape) - wanted, 0.0, f"{name} in a batch (7, 3) against a batch of many", advice
        )
        require_small(alone - wanted, 0.0, f"{name} of one row against the same row in a batch of many", advice)
        require_small(bare - wanted, 1e-12 * np.abs(wanted).max(), f"{name} without batch axes against a batch", advice)


def check_transition(probe: Probe) -> None:
    """Check that `exact_transition` is `exact_step` and `exact_reward`, computed at once."""
    p, dt, (t, x, a, z) = probe.problem, probe.dt, _rows(probe, 200)
    wanted = p.exact_step(t, x, a, dt, z), p.exact_reward(t, x, a, dt)
    given = evaluate("exact_transition", lambda t, x, a, z: p.exact_transition(t, x, a, dt, z), t, x, a, z)
    for name, one, both in zip(("exact_step", "exact_reward"), wanted, given, strict=True):
        require((one is None) == (both is None), f"exact_transition and {name} must both be known or both be None")
        if one is not None:
            require_small(
                both - one, 1e-12 * np.abs(one).max(), f"exact_transition against {name}", "Derive one from the other"
            )


def check_controlled_diffusion(probe: Probe) -> None:
    """Check that the diffusion does not depend on the action where `controlled_diffusion = False` says so."""
    p, (t, x, a) = probe.problem, probe.points(200)
    gap = np.abs(p.diffusion(t, x, a) - p.diffusion(t, x, a[::-1].copy())).max()
    promise = "controlled_diffusion is False but the diffusion depends on the action"
    require(p.controlled_diffusion or gap == 0, f"{promise}: it changes by {gap:.3g}. Set controlled_diffusion = True")


def check_initial_state(probe: Probe) -> None:
    """Check shape and reproducibility of initial states, and that components on logarithmic scales are positive."""
    p, size = probe.problem, 100
    first, again = (evaluate("initial_state", lambda: p.initial_state(probe.rng(), size)) for _ in range(2))
    wanted = (size, p.state.dimension)
    require(
        np.shape(first) == wanted, f"initial_state has shape {np.shape(first)}; for size={size} it must be {wanted}"
    )
    require(first.dtype == np.float64, f"initial_state has dtype {first.dtype}; it must be float64")
    require(
        np.array_equal(first, again), "initial_state is not reproducible; draw from the generator it is given, only"
    )
    require(np.all(np.isfinite(first)), f"initial_state draws values that are not finite: {first}")
    lowest = first[:, p.state.log]
    require(
        np.all(lowest > 0),
        f"initial_state draws {lowest.min(initial=1):.3g} <= 0 for a component on a logarithmic scale",
    )


def check_parameters(probe: Probe) -> None:
    """Check that `parameters` survives JSON and rebuilds an equal problem."""
    p = probe.problem
    try:
        parameters = json.loads(json.dumps(p.parameters, allow_nan=False))
        twin = type(p)(**parameters)
    except Exception as error:
        advice = "make it the constructor's arguments as numbers, strings and lists"
        raise ContractError(f"parameters {p.parameters!r} do not rebuild the problem: {error!r}; {advice}") from error
    require(
        twin.parameters == p.parameters, f"parameters change on the way: {p.parameters!r} became {twin.parameters!r}"
    )
    require(
        np.array_equal(p.initial_state(probe.rng(), 9), twin.initial_state(probe.rng(), 9)), "a twin starts elsewhere"
    )
    here, there = functions(probe), functions(Probe(twin, probe.samples, probe.seed, probe.dt))
    rows = _rows(probe, 50)
    for name, (function, _) in here.items():
        same = name in there and np.array_equal(function(*rows), there[name][0](*rows))
        require(same, f"a problem rebuilt from parameters {parameters!r} has another {name}; name every argument there")


def check_torch(probe: Probe) -> None:
    """Check that NumPy and torch give the same numbers, where torch is installed."""
    if importlib.util.find_spec("torch") is None:
        return
    torch = importlib.import_module("torch")
    p, rows = probe.problem, probe.points(50)
    tensors = tuple(torch.as_tensor(part) for part in rows)
    shared: dict[str, Callable[..., Any]] = {"reward": lambda t, x, a: p.reward(x, a)}
    if isinstance(p, ControlProblem):
        shared = {name: getattr(p, name) for name in ("drift", "diffusion", "reward")}
    shared["observe"] = lambda t, x, a: p.observe(x)
    shared["terminal_reward"] = lambda t, x, a: p.terminal_reward(x)
    if found := probe.solution():
        shared["solution().value"] = lambda t, x, a: found.value(t, p.observe(x))
        shared["solution().policy"] = lambda t, x, a: found.policy(t, p.observe(x))
    for name, function in shared.items():
        wanted, given = evaluate(name, function, *rows), evaluate(f"{name} on torch", function, *tensors)
        require(
            isinstance(given, torch.Tensor), f"{name} of torch tensors is {type(given)}; write it against namespace(x)"
        )
        require(
            given.dtype == torch.float64,
            f"{name} of float64 tensors has dtype {given.dtype}; use arrays.like for constants",
        )
        gap = np.abs(given.numpy() - wanted)
        require_small(
            gap, 1e-12 * np.abs(wanted).max(), f"{name} on torch against NumPy", "One line must serve both", rows
        )


def check_exact_transition(probe: Probe) -> None:
    """Check `exact_step` and `exact_reward` against mean, covariance and mean reward of paths of the coefficients."""
    p, known, rng = probe.problem, functions(probe), probe.rng()
    for at in probe.starts(3 if "exact_step" in known or "exact_reward" in known else 0):
        at = at._replace(a=p.admissible(*at, probe.dt))
        fine, coarse, W = increments(rng, probe.samples, p.noise_dim, probe.dt)
        hold = functools.partial(_hold, at.a)
        pair = tuple(follow(p, at, hold, dW, probe.dt, p.reward) for dW in (fine, coarse))
        if "exact_step" in known:
            z = rng.standard_normal((probe.samples, p.exact_noise_dim))
            exact = p.state.to_unit(known["exact_step"][0](*at, z))
            _compare_moments(exact, z, Simulated(pair[0][0], pair[1][0], W), at)
        if "exact_reward" in known:
            mean = known["exact_reward"][0](*at, None)[:1]
            simulated = Simulated(pair[0][1][:, None], pair[1][1][:, None], W)
            promise = "exact_reward against simulated rewards"
            _compare(promise, "It is E int_0^dt e^{-rho s} r ds with the action held", mean, 0.0, simulated, at)


def _hold(a: Floats, t: Floats, x: Floats) -> Floats:
    return a


class Simulated(NamedTuple):
    """Features of simulated paths, to compare with those of `exact_step`."""

    fine: Floats
    """Features with fine steps, (N, F)."""
    coarse: Floats
    """Features with coarse steps, (N, F)."""
    W: Floats
    """W_dt / sqrt(dt) of each path, (N, d)."""


def _compare_moments(exact: Floats, z: Floats, ends: Simulated, at: Points) -> None:
    center = exact.mean(axis=0)

    def products(u: Floats) -> Floats:
        outer: Floats = np.einsum("ki,kj->kij", u - center, u - center).reshape(len(u), -1)
        return outer

    advice = "It must be the law of the coefficients with the action held"
    for name, moment in (("mean", np.asarray), ("covariance", products)):
        promise = f"{name} of exact_step against simulated paths, in unit coordinates"
        mean, spread = expectation(moment(exact), z)
        _compare(promise, advice, mean, spread, Simulated(moment(ends.fine), moment(ends.coarse), ends.W), at)


def _compare(promise: str, advice: str, exact: Floats, error: Floats | float, simulated: Simulated, at: Points) -> None:
    """Six standard errors, and the simulation's own bias: what halving its step changes."""
    fine, coarse, W = simulated
    mean, spread = expectation(2 * fine - coarse, W)
    bias = np.abs(fine.mean(axis=0) - coarse.mean(axis=0))
    floor = 1e-5 * (np.abs(exact) + np.abs(fine).mean(axis=0)) + ROUNDING
    require_small((mean - exact)[None], 6 * np.hypot(spread, error) + bias + floor, promise, advice, at)


PROBLEM_CHECKS: tuple[Callable[[Probe], None], ...] = (
    check_attributes,
    check_shapes,
    check_rows,
    check_transition,
    check_initial_state,
    check_parameters,
    check_torch,
)
DIFFUSION_CHECKS: tuple[Callable[[Probe], None], ...] = (
    check_controlled_diffusion,
    check_exact_transition,
    *ACTION_CHECKS,
    *SOLUTION_CHECKS,
)
