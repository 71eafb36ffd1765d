"""The value that learning begins with: a network of the size, and over an infinite horizon of the shape, of rewards."""

from __future__ import annotations

import copy

import numpy as np
import scipy.stats
import torch
from torch import Tensor

from hacontrol_agents.hjb.sampling import uniform, widened
from hacontrol_agents.hjb.value_function import FARTHEST, MOST_LOG, REACH, ValueFunction
from hacontrol_agents.learning import autodiff
from hacontrol_agents.learning.networks import MLP
from hacontrol_agents.learning.optimizers import LevenbergMarquardt
from hacontrol_envs import ControlProblem
from hacontrol_envs.arrays import Floats
from hacontrol_envs.errors import ParameterError

FIRST_REACH, FAR = 2.0, 4.0
"""Extents of regions, relative to the box: in which V is given its first shape, and in which rewards must have one sign
for V to be taken on a log scale."""
FIRST_STEPS = 20
"""Steps of least squares in which V is given its first shape."""


TRIED = 15
"""Number of constant actions, besides the centre of the box, that are tried for rewards of one sign."""


def constant(problem: ControlProblem, x: Tensor, unit: Floats) -> Tensor:
    """Return a constant action, made admissible, (B, m), at states x (B, n).

    Args:
        problem: the problem.
        x: states.
        unit: unit coordinates of the action, (m,).
    """
    found: Tensor = problem.action.from_unit(torch.as_tensor(unit).to(x).expand(len(x), -1))
    return problem.admissible(x.new_zeros(len(x)), x, found)  # type: ignore[no-any-return]


def _narrow(problem: ControlProblem) -> tuple[int, ...]:
    """Return the width of one hidden layer."""
    return (24 + 4 * problem.state.dimension,)


def wider(problem: ControlProblem) -> tuple[int, ...]:
    """Return the widths of two hidden layers."""
    return (16 + 2 * max(problem.state.dimension - 2, 0),) * 2


def network(problem: ControlProblem, widths: tuple[int, ...], activation: str, log: bool, seed: int) -> MLP:
    """Return a network with random weights.

    Args:
        problem: the problem, for the number of inputs.
        widths: widths of hidden layers.
        activation: activation of the hidden layers.
        log: whether an exponential is the last layer.
        seed: seed of the weights.
    """
    inputs = problem.state.dimension + (problem.horizon is not None)
    layers = [activation] * len(widths) + ["exp"] * log
    draws = torch.Generator().manual_seed(seed)
    found = MLP(inputs, (*widths, 1) if log else widths, activation=layers, generator=draws)
    if log:
        found.layers[-1].weight.data.fill_(1.0)  # type: ignore[operator]
    return found


def _first_action(problem: ControlProblem, x: Tensor, log: bool) -> tuple[Floats, bool]:
    """Return unit coordinates of the action that the first policy plays, and whether V has the sign of its reward.

    It is the centre of the action box, or where V is to be taken on a log scale and rewards at the centre are not all
    positive, that constant action nearest to the centre whose rewards are, if one of those tried is such: then the
    optimum's V is positive, too. It is taken to be negative where rewards are so at all actions tried.

    Args:
        problem: the problem.
        x: states at which rewards are looked at, (B, n).
        log: whether V may be taken on a log scale.
    """
    m, t = problem.action.dimension, torch.zeros_like(x[:, 0])
    drawn = scipy.stats.qmc.Sobol(m, scramble=False).random(TRIED + 1)[1:] if log else np.zeros((0, m))
    tried = [np.zeros(m), *sorted(2 * drawn - 1, key=lambda one: float(np.abs(one).max()))]
    rewards = [problem.reward(t, x, constant(problem, x, unit)) for unit in tried]
    for unit, reward in zip(tried, rewards, strict=True):
        if bool((reward > 0).all()):
            return unit, True
    return tried[0], all(bool((reward < 0).all()) for reward in rewards)


def first_value(
    problem: ControlProblem,
    *,
    hidden: tuple[int, ...] | None,
    activation: str,
    value_scale: str,
    seed: int,
    device: str,
) -> tuple[ValueFunction, Floats, ValueFunction, float]:
    """Return a value of the size of a lifetime's reward at the first action; if 0, of the terminal one.

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
        The value; unit coordinates of the first action, (m,); the value's fitted copy, which on a log scale is the
        value itself; and the least size of an equation's terms, per unit of time, 0 where rewards have a size.

    Raises:
        ParameterError: "log" is asked for, and rewards have two signs.
    """
    like, rng = torch.zeros((), dtype=torch.float64, device=device), np.random.default_rng([seed, 2**31])
    _, x = uniform(problem, rng, 1024, widened(problem, 1.0), like)
    _, far = uniform(problem, rng, 1024, widened(problem, FAR), like)
    log = value_scale == "log" or (value_scale == "auto" and bool(problem.state.log.any()))
    action, one_sign = _first_action(problem, torch.cat([x, far]), log)
    reward = problem.reward(torch.zeros_like(x[:, 0]), x, constant(problem, x, action))
    log = log and (one_sign or value_scale == "log")
    if log and not one_sign:
        raise ParameterError('value_scale="log" needs rewards of one sign')
    widths = (_narrow(problem) if problem.horizon is None else wider(problem)) if hidden is None else hidden
    v = ValueFunction(problem, network(problem, widths, activation, log, seed).to(device))
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
        _shape(shaped, widths, action, rng, like)
    return v, action, shaped, floor


def _shape(v: ValueFunction, widths: tuple[int, ...], action: Floats, rng: np.random.Generator, like: Tensor) -> None:
    """Fit a value to a lifetime of the reward at the first action.

    Args:
        v: the value.
        widths: widths of the network's hidden layers.
        action: unit coordinates of the action, (m,).
        rng: draws points.
        like: a tensor whose dtype and device the points get.
    """
    problem = v.problem
    size = 4 * sum(parameter.numel() for parameter in v.network.parameters())
    t, x = uniform(problem, rng, size, widened(problem, FIRST_REACH), like)
    target = (v.lifetime * problem.reward(t, x, constant(problem, x, action)) - v.offset) / v.scale
    if v.log:
        steepest = float(target.log().abs().max()) / FIRST_REACH
        v.reach = min(max(MOST_LOG / steepest, REACH), FARTHEST)
    fit(v, widths, v.coordinates(t, x), target)


def fit(v: ValueFunction, widths: tuple[int, ...], z: Tensor, target: Tensor) -> None:
    """Fit a value's network to what it should give, or its logarithm on a log scale, by least squares.

    Args:
        v: the value, whose network is changed.
        widths: widths of the network's hidden layers.
        z: coordinates of points, (B, inputs).
        target: what the network should give there, (B,).
    """
    network = v.network
    if v.log:  # all layers but the exponential give log |V|
        network, target = MLP(z.shape[1], widths), target.log()
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
