"""Doubts about a learnt value and its policy: how far they can be off, without knowing the optimum.

They are a cheap certificate. Paths of the policy under the law weighted by V show how far V is from the policy's value:
by the sum of |r + V_t + L V - rho V|/V along them. How far the policy's actions are from the best ones is estimated by
the derivatives of what V lacks. `certify` states bounds instead, and costs more.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from hacontrol_agents.hjb.sampling import Look, Policy, Region, Visits, values
from hacontrol_agents.hjb.value_function import ValueFunction
from hacontrol_envs import ControlProblem

SMALL_GAP, MOST_LEFT, MOST_EXITED = 1e-4, 0.05, 0.002
"""Most that the equation may leave open, relative to V; largest shares of paths that may not end, or leave the region
in which V was learnt."""
THOROUGH, MOST_STRAYED = 4, 5e-4
"""Factor on the number of paths in the last look, in which all run to their end, and the largest share of these that
may leave the region: where V may be off, far from where most paths go, it is off by that share at the start."""
SMALL_ERROR = 5e-4
"""Most that actions may be off, by estimate, relative to their root mean square."""
STATES, PATHS, STEPS = 32, 4, 2000
"""States at which that is estimated, and paths and most steps from each point."""
APART, CLOSE = 0.01, 0.02
"""Half the distance of differences, in unit coordinates, and the share of it below which paths count as one."""


def doubt_of_value(seen: Look, keep: bool, thorough: bool) -> str:
    """Return why V is not believed to be the policy's value, and what to try; empty where it is.

    Args:
        seen: what long paths of the policy show.
        keep: whether the paths' weights do not decay.
        thorough: whether all paths were run to their end.
    """
    if keep or seen.left > (MOST_STRAYED if thorough else MOST_LEFT):
        return (
            "paths under its policy keep their weight, so that rewards within reach do not decide its value: learn "
            "on, from other starts or with a larger discount"
        )
    if seen.exited > (MOST_STRAYED if thorough else MOST_EXITED):
        return f"{seen.exited:.2%} of the paths leave the region in which V was learnt: learn on, or raise margin"
    if not seen.gap <= SMALL_GAP:
        return (
            f"its equation leaves {seen.gap:.1g} of the value open, more than {SMALL_GAP:g}: learn on, or try "
            "another seed or a larger network"
        )
    return ""


def doubt_of_policy(error: float) -> str:
    """Return why a policy with an estimated error is not believed to be the optimum's; empty where it is."""
    if error <= SMALL_ERROR:
        return ""
    return (
        f"its actions are an estimated {error:.1g} off, more than {SMALL_ERROR:g}: learn on, or try another seed or a "
        "larger network"
    )


def apart(problem: ControlProblem, now: Tensor, other: Tensor) -> float:
    """Return how far actions are from others, of the worst component relative to its size.

    The size is the root mean square, or where that is less a thousandth of the box's half-width.

    Args:
        problem: the problem, for its box of actions.
        now: actions (S, m).
        other: other actions (S, m).
    """
    least = 1e-3 * torch.as_tensor((problem.action.high - problem.action.low) / 2).to(now)
    size = torch.maximum(now.square().mean(0).sqrt(), least)
    return float(((now - other).square().mean(0).sqrt() / size).max())


def policy_error(
    v: ValueFunction,
    policy: Policy,
    best: Callable[..., Tensor],
    visits: Visits,
    rng: np.random.Generator,
    region: Region,
    step: float,
) -> tuple[float, int]:
    """Return an estimate of the error, as `apart` measures, of the policy that is greedy for V, at states it visits.

    V lacks E int e^{-rho t} h dt along the policy's paths, h = r + V_t + L V - rho V. The derivatives of that, by
    differences between paths with the same noise, are to first order what V's derivatives lack. The best actions at V's
    derivatives and these together are compared with the policy's. Where the action moves sigma, V_xx is corrected on
    its diagonal.

    Args:
        v: the value.
        policy: the policy, for paths.
        best: function of (t, x, V_x, V_xx) that returns the best actions.
        visits: states that the policy visits.
        rng: draws the noise.
        region: region in which V was learnt.
        step: time step of paths.

    Returns:
        The estimate, and the number of steps of paths.
    """
    state, t, x = v.problem.state, visits.t[:STATES], visits.x[:STATES]
    size, n = x.shape
    u = state.to_unit(x)
    most = torch.as_tensor(np.where(state.closed, 1.0, np.inf)).to(u)
    shift = APART * torch.eye(n).to(u)
    ahead, behind = ((u[:, None, :] + one).clamp(-most, most) for one in (shift, -shift))
    starts = torch.cat([*ahead.unbind(1), *behind.unbind(1), u])
    lacks, counted = _lacking(v, policy, t.repeat(2 * n + 1), starts, rng, size=size, region=region, step=step)
    lacks = lacks.reshape(-1, size).T
    up, down, middle = lacks[:, :n], lacks[:, n : 2 * n], lacks[:, 2 * n :]
    rise = (ahead - behind).diagonal(dim1=1, dim2=2)
    slope, bend = (up - down) / rise, (up - 2 * middle + down) / (rise / 2).square()
    first, second = state.unit_derivatives(x)
    v_x, v_xx, more = v.slope(t, x), None, None
    if v.problem.controlled_diffusion:
        v_xx = v.jet(t, x).v_xx
        more = v_xx + torch.diag_embed(bend * first.square() + slope * second)
    return apart(v.problem, best(t, x, v_x, v_xx), best(t, x, v_x + slope * first, more)), counted


def _lacking(
    v: ValueFunction,
    policy: Policy,
    t: Tensor,
    u: Tensor,
    rng: np.random.Generator,
    *,
    size: int,
    region: Region,
    step: float,
) -> tuple[Tensor, int]:
    """Return E int e^{-rho t} h dt from each start, the same noise from all, (B,), and the number of steps of paths.

    The last starts are in the middle of the others. Paths end when the middle one leaves the region in which V was
    learnt, or all are so close to it that their differences no longer count.

    Args:
        v: the value.
        policy: the policy.
        t, u: starts, (B,), and their unit coordinates, (B, n).
        rng: draws the noise.
        size: number S of middles; starts k S to (k + 1) S - 1 lie around them, one each, k = 0, 1, ...
        region: region in which V was learnt.
        step: time step.
    """
    state, n, time = v.problem.state, u.shape[1], 4 * v.lifetime
    steps = min(STEPS, math.ceil(time / step))

    def earns(x: Tensor) -> Tensor:
        now = state.to_unit(x).reshape(-1, size * PATHS, n)
        spread = (now - now[-1]).norm(dim=-1).amax(0)
        going: Tensor = region.holds(now[-1]) & (spread > CLOSE * APART)
        return going.repeat(len(now))

    x = state.from_unit(u)
    total = values(v, policy, t, x, rng, paths=PATHS, time=min(time, steps * step), steps=steps, earns=earns)
    return total - v.value(t, x), PATHS * steps * len(u)
