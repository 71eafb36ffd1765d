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


class StepReport(NamedTuple):
    """What one step did: 1/2 |r|^2 before and after, the damping it ended with, success, and |J'r| before."""

    loss_before: float
    loss_after: float
    damping: float
    accepted: bool
    gradient_norm: float


@final
@dataclass
class LevenbergMarquardt:
    """Minimise 1/2 |r(theta)|^2 over a network's parameters theta, r (M,) with Jacobian J (M, P), in float64.

    One step solves (J'J + damping D) d = -J'r with D = diag(J'J), floored at `floor` times its largest entry
    (Marquardt, 1963), so that damping has no unit. With S = D^{-1/2} and K = J S the Cholesky factor is that of
    the smaller of K'K + damping I (P x P) and, by Woodbury, K K' + damping I (M x M). A trial theta + d is kept if its
    gain ratio, the loss's fall over that of the quadratic model, is positive; then the damping falls tenfold. Until
    then it rises by 2, 4, 8, ... ("Delayed gratification", Transtrum and Sethna, 2012. On networks, which are sloppy
    models, Nielsen's rule keeps damping too high: 20 to 80 times the residual after 40 to 60 steps on linear PDEs.)

    Nothing is random, and `state` is all that one step leaves to the next: resumed training is bitwise the same.
    Raises ParameterError (a ValueError) for parameters of the network not in float64 or settings out of range.
    """

    network: nn.Module
    damping: float = 1e-2
    """Current weight of D."""
    floor: float = 0.1
    """Smallest entry of D relative to its largest: directions that hardly matter must not run away."""
    trials: int = 6
    """Trial steps per `step` before it gives up and leaves the parameters as they were."""
    least_damping: float = 1e-14
    most_damping: float = 1e6

    def __post_init__(self) -> None:
        if any(p.dtype != torch.float64 for p in self.network.parameters()):
            raise ParameterError("least squares needs a float64 network; convert it with network.double()")
        if not 0 < self.least_damping <= self.damping <= self.most_damping:
            raise ParameterError(f"damping must lie in [{self.least_damping}, {self.most_damping}], got {self.damping}")
        if not (0 < self.floor <= 1 and self.trials >= 1):
            raise ParameterError(f"need 0 < floor <= 1 and trials >= 1, got {self.floor} and {self.trials}")

    @torch.no_grad()
    def step(
        self, residual_and_jacobian: Callable[[], tuple[Tensor, Tensor]], residual: Callable[[], Tensor]
    ) -> StepReport:
        """One accepted step, or none: after `trials` rejections the parameters are bitwise what they were.

        Both functions read the network's current parameters: r (M,) and J (M, P), columns in the order of
        parameters_to_vector; r (M,) alone. A trial whose loss is not finite counts as rejected.
        """
        r, jacobian = residual_and_jacobian()
        start, before = parameters_to_vector(self.network.parameters()), _loss(r)
        system = _System(r, jacobian, self.floor)
        norm = float(system.gradient.norm())
        # A gradient of zero leaves nothing to do; one that is not finite, nothing that could be done.
        for trial in range(self.trials if 0 < norm < math.inf else 0):
            d, decrease = system.solve(self.damping)
            self._write(start + d)
            after = _loss(residual())
            if decrease > 0 and 0 < (before - after) / decrease < math.inf:
                self._scale_damping(0.1)
                return StepReport(before, after, self.damping, True, norm)
            self._scale_damping(2.0 ** (trial + 1))
        self._write(start)
        return StepReport(before, before, self.damping, False, norm)

    def state(self) -> dict[str, float]:
        """Everything that the next step depends on besides the parameters."""
        return {"damping": self.damping}

    def restore(self, state: dict[str, float]) -> None:
        """Continue from a `state`. Raises CheckpointError if it is not one."""
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


class _System:
    """The normal equations of one linearisation, to be solved at several dampings."""

    def __init__(self, r: Tensor, jacobian: Tensor, floor: float) -> None:
        self.gradient = jacobian.T @ r
        square = jacobian.square().sum(0)
        self.scale = square.clamp(min=floor * float(square.max())).rsqrt()  # S, the diagonal of D^{-1/2}
        self.scaled, self.r = jacobian * self.scale, r  # K
        self.dual = len(r) < len(self.gradient)
        self.gram = self.scaled @ self.scaled.T if self.dual else self.scaled.T @ self.scaled

    def solve(self, damping: float) -> tuple[Tensor, float]:
        """The step d, and by how much the quadratic model falls: 1/2 d'(damping D d - J'r). NaN if not solvable."""
        damped = self.gram.clone()
        damped.diagonal().add_(damping)
        factor, failed = torch.linalg.cholesky_ex(damped)
        if failed:
            return torch.full_like(self.gradient, float("nan")), float("nan")
        right = self.r if self.dual else self.scale * self.gradient
        found = torch.cholesky_solve(right[:, None], factor)[:, 0]
        u = -(self.scaled.T @ found) if self.dual else -found  # d = S u
        d = self.scale * u
        return d, 0.5 * float(damping * u @ u - d @ self.gradient)


def _loss(r: Tensor) -> float:
    return 0.5 * float(r @ r)
