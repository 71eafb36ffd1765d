"""Derivatives of a network in its input, and their derivatives in its parameters, without a loop over dimensions.

The generator of a diffusion needs only second derivatives along the m noise columns. So m + 2 streams travel through
the layers together: a unit's value h, its directional firsts h_k = sigma_k . grad h, and one accumulated second
h_L = drift . grad h + 1/2 sum_k sigma_k' Hess(h) sigma_k,

    linear       z = W h + b       z_k = W h_k        z_L = W h_L
    activation   h = f(z)          h_k = f' z_k       h_L = f' z_L + 1/2 f'' s,      s = sum_k z_k^2

stacked as (m + 2, B, units), so that a linear layer is one matrix product. The reverse pass is written by hand: with
g, g_k, g_L the adjoints of an activation's outputs, those of its inputs are

    f' g + f'' (g_L z_L + sum_k g_k z_k) + 1/2 f''' s g_L        f' g_k + f'' g_L z_k        f' g_L
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hacontrol_agents.learning.networks import MLP, Activation
from hacontrol_envs.errors import ParameterError

__all__ = ["apply_generator", "gradient", "jet", "parameter_jacobian"]

_Activations = tuple[Activation, ...]
_Layers = list[tuple[Tensor, Tensor]]  # (weight, bias), input side first
_Tape = list[Tensor]  # per hidden layer its streams (m + 2, B, units) just before the activation, h in stream 0
_Collect = Callable[[int, Tensor, Tensor], None]  # takes (layer, adjoints of its outputs, its inputs), all streams

CPU_ROWS = 1024  # rows at a time: more leave the cache, fewer pay more for each call than for its arithmetic

# glibc serves blocks this large by mmap and hands them back on free, so each pass would fault its pages in anew: up to
# half of the running time. Freeing one such block (never touched) teaches it to keep them.
torch.empty(31 << 20, dtype=torch.uint8)


def apply_generator(network: MLP, z: Tensor, drift: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Return v and Lv = drift . grad v + 1/2 sum_k sigma_k' Hess(v) sigma_k, (B,) each.

    Both have first derivatives in the network's parameters, and none in z, drift or columns.

    Args:
        network: a network with one output.
        z, drift: points and their drift, (B, n) each.
        columns: noise columns, (B, n, m), with sigma_k in columns[..., k], m >= 0.

    Raises:
        ParameterError: mismatched shapes, a network without exactly one output, or inputs that require grad.
    """
    _check(network, z, drift, columns)
    if torch.is_grad_enabled() and any(x.requires_grad for x in (z, drift, columns)):
        raise ParameterError("apply_generator is differentiable in the parameters only; detach z, drift and columns")
    activations, theta = network.activations, list(network.parameters())
    if torch.is_grad_enabled() and any(p.requires_grad for p in theta):
        v, lv = _Generator.apply(activations, z, drift, columns, *theta)  # type: ignore[no-untyped-call]
        return v, lv
    with torch.no_grad():
        v, lv = torch.cat([_forward(activations, _pairs(theta), x)[0] for x in _streams(z, drift, columns)], dim=1)
    return v, lv


@torch.no_grad()
def parameter_jacobian(
    network: MLP, z: Tensor, drift: Tensor, columns: Tensor, rate_v: Tensor | float, rate_l: Tensor | float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return v (B,), Lv (B,) and J (B, P) with rows J_j = rate_v_j d v_j / d theta + rate_l_j d Lv_j / d theta.

    Here Lv = drift . grad v + 1/2 sum_k sigma_k' Hess(v) sigma_k. The P parameters theta are in the order of
    torch.nn.utils.parameters_to_vector(network.parameters()).

    Args:
        network: a network with one output.
        z, drift: points and their drift, (B, n) each.
        columns: noise columns, (B, n, m), with sigma_k in columns[..., k], m >= 0.
        rate_v, rate_l: factors of the derivatives of v and Lv, scalar or (B,).

    Raises:
        ParameterError: mismatched shapes, or a network without exactly one output.
    """
    _check(network, z, drift, columns)
    activations, theta = network.activations, list(network.parameters())
    layers, rows = _pairs(theta), _rows(z)
    rates = torch.stack([torch.as_tensor(r, dtype=z.dtype, device=z.device).expand(len(z)) for r in (rate_v, rate_l)])
    jacobian = z.new_empty(len(z), sum(p.numel() for p in theta))
    values = []
    for x, rate, block in zip(
        _streams(z, drift, columns), torch.split(rates, rows, 1), torch.split(jacobian, rows), strict=True
    ):
        value, tape = _forward(activations, layers, x)
        _backward(activations, layers, x, tape, rate, _outer_products(theta, block))
        values.append(value)
    v, lv = torch.cat(values, dim=1)
    return v, lv, jacobian


@torch.no_grad()
def gradient(network: MLP, z: Tensor) -> tuple[Tensor, Tensor]:
    """Return v (B,) and grad v (B, n) at points z (B, n), by one reverse pass.

    Not differentiable in the parameters. Raises ParameterError for a mismatched shape or more than one output.
    """
    _check(network, z)
    v, grad, _ = _reverse(network, z)
    return v, grad


@torch.no_grad()
def jet(network: MLP, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return v (B,), grad v (B, n) and Hess v (B, n, n) at points z (B, n).

    Each hidden unit u, with pre-activation z_u, adds one rank-one term: Hess v = sum_u dv/dh_u f''(z_u) dz_u dz_u'.
    Not differentiable in the parameters. Raises ParameterError for a mismatched shape or more than one output.
    """
    _check(network, z)
    jets = [_jet(network, part) for part in torch.split(z, _rows(z))]
    v, grad, hessian = (torch.cat(parts) for parts in zip(*jets, strict=True))
    return v, grad, hessian


class _Generator(torch.autograd.Function):
    """Value and generator as a function that autograd can differentiate once, in the parameters only."""

    @staticmethod
    def forward(ctx: Any, activations: _Activations, z: Tensor, drift: Tensor, columns: Tensor, *theta: Tensor) -> Any:
        streams = list(_streams(z, drift, columns))
        values, tapes = zip(*(_forward(activations, _pairs(theta), x) for x in streams), strict=True)
        ctx.save_for_backward(*theta)  # autograd then notices if an optimiser changes them before the backward
        ctx.activations, ctx.streams, ctx.tapes = activations, streams, tapes
        v, lv = torch.cat(values, dim=1)
        return v, lv

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator, unused-ignore]
    def backward(ctx: Any, grad_v: Tensor, grad_l: Tensor) -> Any:
        theta = ctx.saved_tensors
        sums = [torch.zeros_like(p) for p in theta]
        rates = torch.split(torch.stack((grad_v, grad_l)), _rows(grad_v), 1)
        for x, tape, rate in zip(ctx.streams, ctx.tapes, rates, strict=True):
            _backward(ctx.activations, _pairs(theta), x, tape, rate, _sums(sums))
        return None, None, None, None, *sums


def _forward(activations: _Activations, layers: _Layers, x: Tensor) -> tuple[Tensor, _Tape]:
    """Push the streams x (m + 2, B, n) through the layers; return (v, Lv) as (2, B), and the tape."""
    tape: _Tape = []
    for depth, (weight, bias) in enumerate(layers[:-1]):
        z = (x.flatten(0, 1) @ weight.T).view(*x.shape[:2], len(weight))
        z0 = z[0].add_(bias)
        z0.copy_(activations[depth].value(z0))
        tape.append(z)
        x = _activate(activations[depth], z, len(z) if depth + 2 < len(layers) else 2)[0]
    weight, bias = layers[-1]
    values = _ends(x) @ weight[0]
    values[0] += bias
    return values, tape


def _activate(activation: Activation, z: Tensor, streams: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the activation's outputs from its taped inputs, and f', f'', s. The reverse pass computes them again.

    Before the output layer 2 streams suffice: it reads h and h_L.
    """
    h, zk, zl = z[0], z[1:-1], z[-1]
    f1 = activation.first(h)
    f2 = activation.second(h, f1)
    s = _dot(zk, zk)
    out = z.new_empty(streams, *h.shape)
    out[0] = h
    torch.mul(zl, f1, out=out[-1]).addcmul_(f2, s, value=0.5)
    if streams == len(z):
        torch.mul(zk, f1, out=out[1:-1])
    return out, f1, f2, s


def _backward(
    activations: _Activations, layers: _Layers, x: Tensor, tape: _Tape, rates: Tensor, collect: _Collect
) -> None:
    """Pull the adjoints `rates` (2, B) of (v, Lv) back and hand every layer's share to `collect`."""
    adjoint = rates[..., None]
    for depth in range(len(tape), 0, -1):
        z = tape[depth - 1]
        activation = activations[depth - 1]
        out, f1, f2, s = _activate(activation, z, len(adjoint))
        collect(depth, adjoint, out)
        g = (adjoint.flatten(0, 1) @ layers[depth][0]).view_as(out)
        adjoint = torch.empty_like(z)
        (g0, gk, gl), (a0, ak, al), (h, zk, zl) = ((y[0], y[1:-1], y[-1]) for y in (g, adjoint, z))
        bend = f2 * gl
        torch.mul(f1, gl, out=al)
        torch.mul(zk, bend, out=ak)
        torch.mul(f1, g0, out=a0).addcmul_(bend, zl)
        a0.addcmul_(activation.third(h, f1, f2) * s, gl, value=0.5)
        if len(g) == len(z):
            ak.addcmul_(gk, f1)
            a0.addcmul_(f2, _dot(gk, zk))
    collect(0, adjoint, x if tape else _ends(x))


def _sums(sums: Sequence[Tensor]) -> _Collect:
    """Collect the parameter gradient summed over rows, into one tensor per parameter."""

    def collect(depth: int, adjoint: Tensor, inputs: Tensor) -> None:
        sums[2 * depth].addmm_(adjoint.flatten(0, 1).T, inputs.flatten(0, 1))
        sums[2 * depth + 1].add_(adjoint[0].sum(0))

    return collect


def _outer_products(theta: Sequence[Tensor], jacobian: Tensor) -> _Collect:
    """Collect the parameter gradient of each row, into jacobian (B, P)."""
    blocks = torch.split(jacobian, [p.numel() for p in theta], 1)

    def collect(depth: int, adjoint: Tensor, inputs: Tensor) -> None:
        products = blocks[2 * depth].view(len(jacobian), adjoint.shape[2], inputs.shape[2])
        left, right = adjoint[..., None], inputs[:, :, None]
        torch.mul(left[0], right[0], out=products)
        for a, b in zip(left[1:], right[1:], strict=True):  # two to four times as fast as one bmm or einsum
            products.addcmul_(a, b)
        blocks[2 * depth + 1].copy_(adjoint[0])

    return collect


def _reverse(network: MLP, z: Tensor) -> tuple[Tensor, Tensor, list[tuple[Tensor, Tensor, Tensor]]]:
    """Return v, grad v, and (h, f', dv/dh) of every hidden layer."""
    activations, layers = network.activations, _pairs(list(network.parameters()))
    hidden = []
    for activation, (weight, bias) in zip(activations, layers[:-1], strict=True):
        z = activation.value(torch.addmm(bias, z, weight.T))
        hidden.append(z)
    weight, bias = layers[-1]
    v, adjoint, sweep = z @ weight[0] + bias, weight.expand_as(z), []
    for activation, (weight, _), h in zip(activations[::-1], layers[-2::-1], hidden[::-1], strict=True):
        f1 = activation.first(h)
        sweep.append((h, f1, adjoint))
        adjoint = (adjoint * f1) @ weight
    return v, adjoint, sweep[::-1]


def _jet(network: MLP, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    v, grad, sweep = _reverse(network, z)
    activations, layers = network.activations, _pairs(list(network.parameters()))
    hessian = z.new_zeros(*z.shape, z.shape[1])
    slopes = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)  # d h / d z, rows of the input first: (B, n, units)
    for activation, (weight, _), (h, f1, adjoint) in zip(activations, layers[:-1], sweep, strict=True):
        slopes = slopes @ weight.T
        bend = adjoint * activation.second(h, f1)
        hessian += (slopes * bend[:, None]) @ slopes.mT
        slopes = slopes * f1[:, None]
    return v, grad, hessian


def _streams(z: Tensor, drift: Tensor, columns: Tensor) -> Iterator[Tensor]:
    """Yield the input streams (m + 2, rows, n): z itself, then what it moves along to first and to second order."""
    for point, sigma, b in zip(*(torch.split(x, _rows(z)) for x in (z, columns, drift)), strict=True):
        yield torch.cat((point[None], sigma.permute(2, 0, 1), b[None]))


def _rows(z: Tensor) -> int:
    return CPU_ROWS if z.device.type == "cpu" else max(len(z), 1)


def _pairs(theta: Sequence[Tensor]) -> _Layers:
    return list(zip(theta[::2], theta[1::2], strict=True))


def _ends(x: Tensor) -> Tensor:
    """Return the first and the last stream."""
    return x[:: len(x) - 1]


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Return sum_k a_k b_k over the leading axis."""
    return a[0] * b[0] if len(a) == 1 else (a * b).sum(0)


def _check(network: MLP, z: Tensor, drift: Tensor | None = None, columns: Tensor | None = None) -> None:
    inputs, outputs = network.layers[0].in_features, network.layers[-1].out_features
    if outputs != 1:
        raise ParameterError(f"derivatives are taken of a scalar network, got one with {outputs} outputs")
    if z.ndim != 2 or z.shape[1] != inputs:
        raise ParameterError(f"z must have shape (B, {inputs}) for this network, got {tuple(z.shape)}")
    if drift is not None and drift.shape != z.shape:
        raise ParameterError(f"drift must have z's shape {tuple(z.shape)}, got {tuple(drift.shape)}")
    if columns is not None and (columns.ndim != 3 or columns.shape[:2] != z.shape):
        raise ParameterError(f"columns must have shape {(*z.shape, 'm')}, got {tuple(columns.shape)}")
