"""Jacobians in the parameters of networks that were applied to rows, each row belonging to one of many results.

Where result i depends on the parameters through the outputs of its own rows only, one backward pass of the sum of all
results gives the derivative of each result in each of its rows' outputs, and with the layers' inputs, which are known,
that is all of the Jacobian: a sum over rows of outer products, in place of a backward pass a result.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hacontrol_agents.learning.networks import ACTIVATIONS, MLP

__all__ = ["Call", "call", "jacobian"]


class Call(NamedTuple):
    """A network applied to rows, with what its Jacobian needs."""

    network: MLP
    """The network."""
    output: Tensor
    """Output of the network, (..., k)."""
    inputs: tuple[Tensor, ...]
    """Inputs of every layer, (..., width)."""


def call(network: MLP, z: Tensor) -> Call:
    """Apply the network to rows z (..., inputs) and record what a Jacobian needs; the output can be differentiated
    once."""
    *hidden, last = network.layers
    inputs = [z]
    for layer, activation in zip(hidden, network.activations, strict=True):
        if activation is ACTIVATIONS["tanh"]:
            inputs.append(_TanhLayer.apply(inputs[-1], layer.weight, layer.bias))  # type: ignore[no-untyped-call]
        else:
            inputs.append(activation.value(layer(inputs[-1])))
    return Call(network, last(inputs[-1]), tuple(inputs))


class _TanhLayer(torch.autograd.Function):
    """The layer tanh(z W' + b) as 2/(1 + e^{-2(z W' + b)}) - 1, in half of the time that torch's takes on a CPU in
    float64.

    Its error is of the size of the rounding of 1 everywhere, so that small values keep fewer digits than torch's.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        rows = z.reshape(-1, z.shape[-1])
        h = torch.addmm(bias, rows, weight.T, beta=2, alpha=2).sigmoid_().mul_(2).sub_(1)
        ctx.save_for_backward(rows, weight, h)
        ctx.shape = z.shape
        return h.view(*z.shape[:-1], len(bias))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        rows, weight, h = ctx.saved_tensors
        delta = torch.ops.aten.tanh_backward(gradients[0].reshape(h.shape), h)
        in_z = (delta @ weight).view(ctx.shape) if ctx.needs_input_grad[0] else None
        return in_z, (rows.T @ delta).T, delta.sum(0)


def jacobian(network: MLP, calls: Sequence[Call], results: Tensor, slopes: Sequence[Tensor]) -> Tensor:
    """Return d results / d parameters of one network, (M, P), columns as in `parameters_to_vector`.

    Args:
        network: the network whose parameters they are.
        calls: all calls of the network, with rows (M..., S..., width): the axes of the results, then a result's rows.
        results: M results in any shape.
        slopes: d(sum of results)/d output of each call.
    """
    size = results.numel()
    total = None
    for one, slope in zip(calls, slopes, strict=True):
        columns = torch.cat(_columns(network, one, slope, size), dim=1)
        total = columns if total is None else total.add_(columns)
    if total is None:
        return results.new_zeros(size, sum(p.numel() for p in network.parameters()))
    return total


@torch.no_grad()
def _columns(network: MLP, one: Call, slope: Tensor, size: int) -> list[Tensor]:
    """Return the columns of every parameter of every layer, (M, numbers)."""
    weights = [p for name, p in network.named_parameters() if name.endswith("weight")]
    delta = slope.reshape(size, -1, slope.shape[-1])
    columns: list[Tensor] = []
    for i in reversed(range(len(weights))):
        rows = one.inputs[i].reshape(size, -1, one.inputs[i].shape[-1])
        columns = [(delta.transpose(1, 2) @ rows).reshape(size, -1), delta.sum(1), *columns]
        if i > 0:
            delta = (delta @ weights[i]) * network.activations[i - 1].first(rows)
    return columns
