"""The value that learning begins with: a network of the size, and over an infinite horizon of the shape, of rewards."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor

from hacontrol_agents.hjb.sampling import uniform, widened
from hacontrol_agents.hjb.value_function import FARTHEST, MOST_LOG, REACH, ValueFunction
from hacontrol_agents.learning import autodiff
from hacontrol_agents.learning.networks import MLP
from hacontrol_agents.learning.optimizers import LevenbergMarquardt
from hacontrol_envs import ControlProblem
from hacontrol_envs.errors import ParameterError

FIRST_REACH, FAR = 2.0, 4.0
"""Extents of regions, relative to the box: in which V is given its first shape, and in which rewards must have one sign
for V to be taken on a log scale."""
FIRST_STEPS = 20
"""Steps of least squares in which V is given its first shape."""


def centre(problem: ControlProblem, x: Tensor) -> Tensor:
    """Return the centre of the action box, made admissible, (B, m), at states x (B, n)."""
    found: Tensor = problem.action.from_unit(x.new_zeros(len(x), problem.action.dimension))
    return problem.admissible(x.new_zeros(len(x)), x, found)  # type: ignore[no-any-return]


def first_value(
    problem: ControlProblem,
    *,
    hidden: tuple[int, ...] | None,
    activation: str,
    value_scale: str,
    seed: int,
    device: str,
) -> tuple[ValueFunction, ValueFunction, float]:
    """Return a value of the size of a lifetime's reward at the centre of the action box; if 0, of the terminal one.

    Nothing is relative to a size of 0: where both are, V is of order one. Over an infinite horizon a copy is fitted to
    a lifetime of that reward, which gives it roughly V's shape and sizes, however many these are.

    Args:
        problem: the problem.
        hidden: widths of hidden layers; None for those of `HJBAgent`.
        activation: activation of the hidden layers.
        value_scale: "linear", "log" or "auto", as of `HJBAgent`.
        seed: seed of points and weights.
        device: where torch computes.

    Returns:
        The value; its fitted copy, which on a log scale is the value itself; and the least size of an equation's terms,
        per unit of time, 0 where rewards have a size.

    Raises:
        ParameterError: "log" is asked for, and rewards have two signs.
    """
    like, rng = torch.zeros((), dtype=torch.float64, device=device), np.random.default_rng([seed, 2**31])
    _, x = uniform(problem, rng, 1024, widened(problem, 1.0), like)
    reward = problem.reward(torch.zeros_like(x[:, 0]), x, centre(problem, x))
    t, far = uniform(problem, rng, 1024, widened(problem, FAR), like)
    signs = torch.cat([reward, problem.reward(t, far, centre(problem, far))]).sign()
    one_sign = bool((signs == signs[0]).all()) and float(signs[0]) != 0
    log = value_scale == "log" or (value_scale == "auto" and bool(problem.state.log.any()) and one_sign)
    if log and not one_sign:
        raise ParameterError('value_scale="log" needs rewards of one sign')
    inputs = problem.state.dimension + (problem.horizon is not None)
    widths = ((24 + 4 * inputs,) if problem.horizon is None else (16, 16)) if hidden is None else hidden
    layers = [activation] * len(widths) + ["exp"] * log
    draws = torch.Generator().manual_seed(seed)
    network = MLP(inputs, (*widths, 1) if log else widths, activation=layers, generator=draws)
    if log:
        network.layers[-1].weight.data.fill_(1.0)  # type: ignore[operator]
    v = ValueFunction(problem, network.to(device))
    size, floor = v.lifetime * float(reward.mean()), 0.0
    v.log, v.offset, v.scale = log, (0.0 if log else size), (size if log else abs(size))
    if size == 0:
        last = problem.terminal_reward(x)
        v.offset, v.scale = float(last.mean()), float(last.square().mean().sqrt()) or 1.0
        floor = 1e-3 * v.scale / v.lifetime
    shaped = v
    if size != 0 and problem.horizon is None:
        if not log:
            shaped = copy.copy(v)
            shaped.network = copy.deepcopy(v.network)
        _shape(shaped, widths, rng, like)
    return v, shaped, floor


def _shape(v: ValueFunction, widths: tuple[int, ...], rng: np.random.Generator, like: Tensor) -> None:
    """Fit a value to a lifetime of the reward at the centre of the action box."""
    problem, network = v.problem, v.network
    size = 4 * sum(parameter.numel() for parameter in network.parameters())
    t, x = uniform(problem, rng, size, widened(problem, FIRST_REACH), like)
    target = (v.lifetime * problem.reward(t, x, centre(problem, x)) - v.offset) / v.scale
    z = v.coordinates(t, x)
    if v.log:  # all layers but the exponential give log |V|
        network, target = MLP(z.shape[1], widths), target.log()
        steepest = float(target.abs().max()) / FIRST_REACH
        v.reach = min(max(MOST_LOG / steepest, REACH), FARTHEST)
        network.layers = v.network.layers[:-1]
    still = torch.zeros_like(z), z.new_zeros(*z.shape, 0)

    def residual() -> Tensor:
        with torch.no_grad():
            missed: Tensor = network(z)[:, 0] - target
        return missed

    def residual_and_jacobian() -> tuple[Tensor, Tensor]:
        found, _, jacobian = autodiff.parameter_jacobian(network, z, *still, 1.0, 0.0)
        return found - target, jacobian

    optimizer = LevenbergMarquardt(network)
    for _ in range(FIRST_STEPS):
        optimizer.step(residual_and_jacobian, residual)
