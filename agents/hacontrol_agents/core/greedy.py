"""Greedy improvement: the action that maximises r + L^a V at given derivatives of V."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from hacontrol_envs import ControlProblem

Height: TypeAlias = Callable[[Tensor], Tensor]
"""Function H (B,) of unit action coordinates w (B, m)."""


def greedy(
    problem: ControlProblem, t: Tensor, x: Tensor, v_x: Tensor, v_xx: Tensor | None, start: Tensor, steps: int = 50
) -> Tensor:
    """Return argmax over the action box of H(a) = r + b . V_x + 1/2 tr(sigma sigma' V_xx), row by row.

    Projected Newton (Bertsekas, 1982) in unit action coordinates, with the Hessian of H in the action by two reverse
    passes and its negative part only, and each row's step halved until H rises. V's derivatives are data: nothing flows
    into them. Where H is not concave in the action the result is a local maximum uphill of `start`.

    Args:
        problem: the problem, for r, b, sigma and the action box.
        t, x, v_x, v_xx: (B,), (B, n), (B, n), (B, n, n); v_xx None where sigma does not depend on the action.
        start: physical actions (B, m) to start from.
        steps: at most so many Newton steps; a row stops when it no longer moves.

    Returns:
        Physical actions, (B, m).
    """
    w: Tensor = problem.action.to_unit(start).clamp(-1.0, 1.0)

    def height(w: Tensor) -> Tensor:
        a = problem.action.from_unit(w)
        q = 0.0 if v_xx is None else problem.second_order(t, x, a, v_xx)
        h: Tensor = problem.hamiltonian(t, x, a, v_x, q)
        return h

    for _ in range(steps):
        h, slope, curvature = _second_order(height, w)
        step = _newton_step(w, slope, curvature)
        moved = _climb(height, w, h, slope, step)
        still = (moved - w).abs().amax() <= 1e-13
        w = moved
        if still:
            break
    best: Tensor = problem.action.from_unit(w)
    return best


def _second_order(height: Height, w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return H (B,), its gradient (B, m) and its Hessian (B, m, m) in w.

    Rows do not interact, so sums differentiate all at once.
    """
    with torch.enable_grad():
        w = w.detach().requires_grad_()
        h = height(w)
        (slope,) = torch.autograd.grad(h.sum(), w, create_graph=True)
        rows = [
            torch.autograd.grad(slope[:, j].sum(), w, retain_graph=True)[0]
            if slope.requires_grad
            else torch.zeros_like(slope)
            for j in range(w.shape[1])
        ]
    return h.detach(), slope.detach(), torch.stack(rows, dim=1)


def _newton_step(w: Tensor, slope: Tensor, curvature: Tensor) -> Tensor:
    """Return Newton's step uphill in the coordinates that are free to move; those pressed against the box stay."""
    free = ~(((w >= 1) & (slope > 0)) | ((w <= -1) & (slope < 0)))
    both = (free[:, :, None] & free[:, None, :]).to(w.dtype)
    eye = torch.eye(w.shape[1], dtype=w.dtype, device=w.device)
    concave = -curvature * both + eye * (~free).to(w.dtype)[:, :, None]
    force = torch.where(free, slope, torch.zeros_like(slope))
    factor, failed = torch.linalg.cholesky_ex(concave)
    if not failed.any():
        return torch.cholesky_solve(force[:, :, None], factor)[:, :, 0]
    values, vectors = torch.linalg.eigh(concave)
    values = values.abs().clamp_min(1e-8 * values.abs().amax(dim=1, keepdim=True) + 1e-12)
    step: Tensor = vectors @ ((vectors.mT @ force[:, :, None]) / values[:, :, None])
    return step[:, :, 0]


def _climb(height: Height, w: Tensor, h: Tensor, slope: Tensor, step: Tensor) -> Tensor:
    """Take each row's step, halved until H rises or the step is lost in rounding."""
    size = torch.ones_like(h)[:, None]
    for _ in range(30):
        moved = (w + size * step).clamp(-1.0, 1.0)
        with torch.no_grad():
            risen = height(moved)
        slack = 1e-13 * (1 + h.abs())
        low = ~(risen >= h - slack)
        if not low.any():
            return moved
        size = torch.where(low[:, None], size / 4, size)
    return torch.where(low[:, None], w, moved)
