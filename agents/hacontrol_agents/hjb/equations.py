"""Linear equations in V at points of the state space, as least squares take them."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from hacontrol_agents.hjb.sampling import Region
from hacontrol_agents.hjb.value_function import Flow, ValueFunction


class Rows(NamedTuple):
    """A batch of linear equations in V: offset + rate_v * net + rate_l * (generator of net) = 0, one a row."""

    flow: Flow
    """Points and their motion."""
    rate_v: Tensor
    """Factor of the network's value, (B,)."""
    rate_l: Tensor
    """Factor of the network's generator, (B,)."""
    offset: Tensor
    """Constant of each equation, (B,)."""


def stack(rows: list[Rows]) -> Rows:
    """Return several batches of equations as one."""
    flow = Flow(*(torch.cat(parts) for parts in zip(*(batch.flow for batch in rows), strict=True)))
    return Rows(flow, *(torch.cat(parts) for parts in zip(*(batch[1:] for batch in rows), strict=True)))


def edge_rows(v: ValueFunction, points: tuple[Tensor, Tensor], region: Region, floor: float) -> list[Rows]:
    """Return boundary conditions: V = g at the horizon, and V's slope zero across each reflecting edge of the region.

    Args:
        v: the value.
        points: times (B,) and states (B, n), some of which are moved to the horizon and the edges.
        region: where V is learnt.
        floor: least size of an equation's terms, per unit of time.
    """
    problem, rows = v.problem, []
    t, x = points
    if problem.horizon is not None:
        last = x[::4]
        rows.append(data_rows(v, last.new_full((len(last),), problem.horizon), last, problem.terminal_reward(last)))
    for i, edge in enumerate(problem.state.edges):
        for end, reached in ((-1.0, region.low[i]), (1.0, region.high[i])):
            if edge == "reflecting" and reached == end:
                u = problem.state.to_unit(x[::8]).clone()
                u[:, i] = end
                at = t[::8], problem.state.from_unit(u)
                z = v.coordinates(*at)
                across = torch.zeros_like(z)
                across[:, i] = 1.0
                size = v.value(*at).abs().mean() + floor * v.lifetime
                weight = abs(v.scale) / size / math.sqrt(len(z))
                slope = z.new_full((len(z),), float(weight))
                still = z.new_zeros(*z.shape, problem.noise_dim)
                rows.append(Rows(Flow(z, across, still), 0 * slope, slope, 0 * slope))
    return rows


def data_rows(v: ValueFunction, t: Tensor, x: Tensor, value: Tensor) -> Rows:
    """Return the rows V = value, relative to the value's size.

    Args:
        v: the value.
        t, x: times (B,) and states (B, n).
        value: what V should be there, (B,).
    """
    z = v.coordinates(t, x)
    still = Flow(z, torch.zeros_like(z), z.new_zeros(*z.shape, v.problem.noise_dim))
    weight = 1 / (value.abs() + 0.1 * value.abs().mean() + 1e-3 * abs(v.scale)) / math.sqrt(len(t))
    return Rows(still, v.scale * weight, torch.zeros_like(weight), weight * (v.offset - value))
