"""Second-order training: nonlinear least squares in the parameters of a network."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

from hacontrol_envs.errors import CheckpointError, ParameterError

__all__ = ["LevenbergMarquardt", "StepReport"]

PROBE = 0.1
"""Share of a step over which the finite difference of its acceleration is taken."""


class StepReport(NamedTuple):
    """Report of one step."""

    loss_before: float
    """Loss 1/2 |r|^2 before the step."""
    loss_after: float
    """Loss 1/2 |r|^2 after the step."""
    damping: float
    """Damping with which the step ended."""
    accepted: bool
    """Whether a trial was accepted."""
    gradient_norm: float
    """Norm |J'r| before the step."""


@final
@dataclass
class LevenbergMarquardt:
    """Minimise 1/2 |r(theta)|^2 over a network's parameters theta, r (M,) with Jacobian J (M, P), in float64.

    One step solves (J'J + damping D) d = -J'r with D = diag(J'J), floored at `floor` times its largest entry
    (Marquardt, 1963), so that damping has no unit. With S = D^{-1/2} and K = J S the Cholesky factor is that of
    the smaller of K'K + damping I (P x P) and, by Woodbury, K K' + damping I (M x M). The same factor gives the
    geodesic acceleration w, (J'J + damping D) w = -J'r_dd / 2, with r_dd the second derivative of r along d by a finite
    difference. A trial is theta + d + w, or theta + d where |w| > `bend` |d| and the expansion cannot be trusted
    (Transtrum and Sethna, 2012, of sloppy models, which networks are). A trial is kept if its gain ratio, the loss's
    fall over that of the quadratic model along d, is positive; then the damping falls tenfold. Until then it rises by
    2, 4, 8, ...

    Nothing is random, and `state` is all that one step leaves to the next: resumed training is bitwise the same.
    Raises ParameterError (a ValueError) for parameters of the network not in float64 or settings out of range.
    """

    network: nn.Module
    """The network whose parameters are changed."""
    damping: float = 1.0
    """Current weight of D."""
    floor: float = 1e-3
    """Smallest entry of D relative to its largest: directions that do not matter at all must not run away."""
    bend: float = 0.2
    """Longest acceleration relative to its step, both in the norm of D."""
    trials: int = 6
    """Trial steps per `step` before it gives up and leaves the parameters as they were."""
    least_damping: float = 1e-14
    """Lower bound of the damping."""
    most_damping: float = 1e6
    """Upper bound of the damping."""

    def __post_init__(self) -> None:
        if any(p.dtype != torch.float64 for p in self.network.parameters()):
            raise ParameterError("least squares needs a float64 network; convert it with network.double()")
        if not 0 < self.least_damping <= self.damping <= self.most_damping:
            raise ParameterError(f"damping must lie in [{self.least_damping}, {self.most_damping}], got {self.damping}")
        if not (0 < self.floor <= 1 and self.bend > 0 and self.trials >= 1):
            raise ParameterError(
                f"need 0 < floor <= 1, bend > 0 and trials >= 1, got {self.floor}, {self.bend} and {self.trials}"
            )

    @torch.no_grad()
    def step(
        self, residual_and_jacobian: Callable[[], tuple[Tensor, Tensor]], residual: Callable[[], Tensor]
    ) -> StepReport:
        """Take one accepted step, or none: after `trials` rejections the parameters are bitwise what they were.

        Both functions read the network's current parameters: r (M,) and J (M, P), columns in the order of
        parameters_to_vector; r (M,) alone. A trial whose loss is not finite counts as rejected.
        """
        r, jacobian = residual_and_jacobian()
        start, before = parameters_to_vector(self.network.parameters()), _loss(r)
        system = _System(r, jacobian, self.floor)
        norm = float((jacobian.T @ r).norm())
        # A gradient of zero leaves nothing to do; one that is not finite, nothing that could be done.
        for trial in range(self.trials if 0 < norm < math.inf else 0):
            step = self._trial_step(system, start, residual)
            if step is not None:
                self._write(start + system.scale * step.move)
                after = _loss(residual())
                if step.decrease > 0 and 0 < (before - after) / step.decrease < math.inf:
                    self._scale_damping(0.1)
                    return StepReport(before, after, self.damping, True, norm)
            self._scale_damping(2.0 ** (trial + 1))
        self._write(start)
        return StepReport(before, before, self.damping, False, norm)

    def _trial_step(self, system: _System, start: Tensor, residual: Callable[[], Tensor]) -> _Trial | None:
        """Return the accelerated step at the present damping; None if the system is not solvable or too curved."""
        if not system.damp(self.damping):
            return None
        u = system.solve(system.r)
        self._write(start + PROBE * system.scale * u)
        curvature = (2 / PROBE) * ((residual() - system.r) / PROBE - system.scaled @ u)
        w = system.solve(curvature) / 2
        accelerated = u + w if float(w.norm()) <= self.bend * float(u.norm()) else u
        return _Trial(accelerated, 0.5 * float(self.damping * u @ u - system.slope @ u))

    def state(self) -> dict[str, float]:
        """Return everything that the next step depends on besides the parameters."""
        return {"damping": self.damping}

    def restore(self, state: dict[str, float]) -> None:
        """Continue from a state that `state` returned. Raises CheckpointError if it is not one."""
        if set(state) != {"damping"}:
            raise CheckpointError(f"a Levenberg-Marquardt state holds the damping alone, got {sorted(state)}")
        self.damping = float(state["damping"])

    def _scale_damping(self, factor: float) -> None:
        self.damping = min(max(self.damping * factor, self.least_damping), self.most_damping)

    def _write(self, theta: Tensor) -> None:
        # torch's vector_to_parameters would make the parameters views of theta.
        parameters = list(self.network.parameters())
        for parameter, values in zip(parameters, torch.split(theta, [p.numel() for p in parameters]), strict=True):
            parameter.copy_(values.view_as(parameter))


class _Trial(NamedTuple):
    """A step in scaled parameters, and by how much the quadratic model falls along its first order."""

    move: Tensor
    decrease: float


class _System:
    """The normal equations of one linearisation, in scaled parameters u = d / S, to be solved at several dampings."""

    def __init__(self, r: Tensor, jacobian: Tensor, floor: float) -> None:
        square = jacobian.square().sum(0)
        self.scale = square.clamp(min=floor * float(square.max())).rsqrt()  # S, the diagonal of D^{-1/2}
        self.scaled, self.r = jacobian * self.scale, r  # K
        self.slope = self.scaled.T @ r
        self.dual = len(r) < len(self.scale)
        self.gram = self.scaled @ self.scaled.T if self.dual else self.scaled.T @ self.scaled

    def damp(self, damping: float) -> bool:
        """Factor the equations at this damping; return False if they are not positive definite to rounding."""
        damped = self.gram.clone()
        damped.diagonal().add_(damping)
        self.factor, failed = torch.linalg.cholesky_ex(damped)
        return not failed

    def solve(self, r: Tensor) -> Tensor:
        """Return u with (K'K + damping I) u = -K'r, for any r (M,)."""
        right = r if self.dual else self.scaled.T @ r
        found = torch.cholesky_solve(right[:, None], self.factor)[:, 0]
        return -(self.scaled.T @ found) if self.dual else -found


def _loss(r: Tensor) -> float:
    return 0.5 * float(r @ r)
