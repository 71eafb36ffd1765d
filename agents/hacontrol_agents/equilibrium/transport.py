"""A population's law moved by a policy, differentiable in both: `hacontrol_envs.numerics.transport` for torch.

On the CPU by the compiled loops, whose derivatives are exact: with g the adjoint of the law moved, that of the law is
T @ g = E[g(a', e')], and that of the choice is law times the slope of E[g(a', e')] in a', zero where the choice lies
beyond the grid. On other devices by torch's own operations, which autograd differentiates to the same numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from hacontrol_envs.arrays import Floats
from hacontrol_envs.errors import ParameterError
from hacontrol_envs.numerics.transport import Transport

__all__ = ["transport"]


def transport(law: Tensor, choice: Tensor, assets: Floats | Tensor, shock: Floats | Tensor) -> Tensor:
    """Return the law of next period, law @ T, with first derivatives in `law` and `choice`.

    Args:
        law: masses, (..., n_e, n_a), float32 or float64.
        choice: a' at each cell, (..., n_e, n_a), on the same device; leading axes broadcast with those of `law`.
        assets: a_j, (n_a,), increasing.
        shock: P(e, e') = Prob(e' | e), (n_e, n_e) or (..., n_e, n_e).

    Raises:
        ParameterError: other dtypes, or what `Transport` refuses; on other devices shapes of
            law and choice and choices that are not finite, while assets and shock are taken as they are.
    """
    dtype = torch.promote_types(law.dtype, choice.dtype)
    if dtype not in (torch.float32, torch.float64) or law.shape[-2:] != choice.shape[-2:] or choice.ndim < 2:
        raise ParameterError(
            "transport takes a law and a choice (..., n_e, n_a) of float32 or float64, "
            f"got {tuple(law.shape)} of {law.dtype} and {tuple(choice.shape)} of {choice.dtype}"
        )
    batch = np.broadcast_shapes(law.shape[:-2], choice.shape[:-2], shock.shape[:-2])
    law, choice = (_as(x, dtype, (*batch, *choice.shape[-2:])) for x in (law, choice))
    if choice.device.type != "cpu":
        return _by_torch(law, choice, assets, shock)
    if torch.is_grad_enabled() and (law.requires_grad or choice.requires_grad):
        return _Transport.apply(law, choice, _array(assets), _array(shock))  # type: ignore[no-any-return,no-untyped-call]
    return torch.from_numpy(_array(law) @ Transport(_array(assets), _array(choice), _array(shock)))


class _Transport(torch.autograd.Function):
    """`Transport` as a function that autograd can differentiate once."""

    @staticmethod
    def forward(ctx: Any, law: Tensor, choice: Tensor, assets: Floats, shock: Floats) -> Tensor:
        ctx.operator = Transport(assets, _array(choice), shock)
        ctx.save_for_backward(law, choice)  # autograd then notices if they are changed before the backward
        return torch.from_numpy(_array(law) @ ctx.operator)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, adjoint: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        (law, _), values = ctx.saved_tensors, _array(adjoint)
        if not ctx.needs_input_grad[1]:
            return torch.from_numpy(ctx.operator @ values), None, None, None
        in_law, in_choice = ctx.operator.gradients(_array(law), values)
        return torch.from_numpy(in_law), torch.from_numpy(in_choice), None, None


def _by_torch(law: Tensor, choice: Tensor, assets: Floats | Tensor, shock: Floats | Tensor) -> Tensor:
    """Return what `transport` does, in torch's operations: one search, two scatters, one product."""
    if not bool(torch.isfinite(choice).all()):
        raise ParameterError("choices of assets must be finite numbers, but some are not")
    grid, matrix = (torch.as_tensor(x, dtype=choice.dtype, device=choice.device) for x in (assets, shock))
    inside = choice.clamp(grid[0], grid[-1])
    k = torch.searchsorted(grid, inside.detach().contiguous(), right=True).clamp(1, len(grid) - 1) - 1
    up = law * ((inside - grid[k]) / (grid[k + 1] - grid[k]))
    moved = torch.zeros_like(up).scatter_add(-1, k, law - up).scatter_add(-1, k + 1, up)
    return matrix.mT @ moved


def _as(x: Tensor, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    """Return `x` itself where it has dtype and shape: an operation that does nothing takes as long as a thousand
    cells."""
    x = x if x.dtype == dtype else x.to(dtype)
    return x if x.shape == shape else x.expand(shape)


def _array(x: Floats | Tensor) -> NDArray[Any]:
    return x.detach().numpy() if isinstance(x, Tensor) else np.asarray(x)
