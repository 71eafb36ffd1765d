"""SaturatedLQR-v0: the linear-quadratic regulator with bounded actions, whose optimum is not known."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, final

import numpy as np

from hacontrol_envs.arrays import Array, Floats, matvec
from hacontrol_envs.core import parameters as read
from hacontrol_envs.core.domain import Domain
from hacontrol_envs.core.problem import ControlProblem
from hacontrol_envs.core.registration import register
from hacontrol_envs.errors import ParameterError
from hacontrol_envs.problems.lqr import LQR


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class SaturatedLQR(ControlProblem):
    """Steer a linear system to the origin by actions that saturate, |a_j| <= bound.

    dX = (A X + B a) dt + D dW, r = -1/2 (x'Qx + a'Ra), over an infinite horizon. Without the bound it is `LQR`, whose
    matrices and defaults these are. With it the value is no quadratic and no closed form is known, in one state either:
    rho V = -1/2 x'Qx + (Ax)'V_x + 1/2 tr(DD'V_xx) + sum_j h(b_j'V_x), where h(p) = p^2/(2 R_jj) up to |p| = R_jj bound
    and is linear beyond, if R is diagonal. The best action is R^{-1}B'V_x, each component cut to the bound. h has no
    second derivative at the bound, and V no fourth.

    Far from the origin a bounded action hardly matters, so that states must not grow by themselves as fast as rho/2:
    other parameters are refused. Learners meet the box of `LQR`, which paths may leave.
    """

    action_bound: float = 1.0
    """The most that an action can be, in absolute value. [action]."""
    dimension: int | None = None
    """n, the number of states; None takes it from `state_matrix`, or 1."""
    state_matrix: Any = None
    """A, (n, n); None is LQR's chain, -1/2 in one state. [1/time]."""
    control_matrix: Any = None
    """B, (n, m); None is the identity. [state/(action x time)]."""
    state_cost: Any = 1.0
    """Q, (n, n) positive semidefinite. [cost/(state^2 x time)]."""
    control_cost: Any = 0.1
    """R, (m, m) positive definite. [cost/(action^2 x time)]."""
    noise_matrix: Any = None
    """D, (n, d); zero is allowed, None is 0.3 times the identity. [state/time^(1/2)]."""
    discount: float = 0.1
    """rho, the rate at which costs are discounted. [1/time]."""

    horizon = None
    controlled_diffusion = False

    def __post_init__(self) -> None:
        read.number("action_bound", self.action_bound, above=0.0)
        growth = float(np.linalg.eigvals(self.unbounded.A).real.max())
        if not growth < self.discount / 2:
            raise ParameterError(
                f"states grow by themselves at rate {growth:.6g}, and bounded actions do not hold back those far away: "
                f"their discounted cost is infinite unless the rate is below discount/2 = {self.discount / 2:.6g}"
            )

    @cached_property
    def unbounded(self) -> LQR:
        """`LQR` of these matrices, whose actions do not saturate."""
        own = {field.name: getattr(self, field.name) for field in fields(self)}
        del own["action_bound"]
        return LQR(**own)

    @property
    def noise_dim(self) -> int:  # type: ignore[override]
        """d, the number of columns of the noise matrix."""
        return self.unbounded.noise_dim

    @property
    def exact_noise_dim(self) -> int:
        """n, as noise reaches every state over a step, whatever d is."""
        return self.unbounded.exact_noise_dim

    @property
    def state(self) -> Domain:  # type: ignore[override]
        """Box of the system without bound."""
        return self.unbounded.state

    @cached_property
    def action(self) -> Domain:  # type: ignore[override]
        """Box |a_j| <= bound."""
        names = self.unbounded.action.names
        return Domain(names, [-self.action_bound] * len(names), [self.action_bound] * len(names))

    def drift(self, t: Array, x: Array, a: Array) -> Array:
        return self.unbounded.drift(t, x, a)

    def diffusion(self, t: Array, x: Array, a: Array) -> Array:
        return self.unbounded.diffusion(t, x, a)

    def reward(self, t: Array, x: Array, a: Array) -> Array:
        """-(x'Qx + a'Ra)/2, minus the cost per unit of time."""
        return self.unbounded.reward(t, x, a)

    def maximiser(self, t: Array, x: Array, v_x: Array, v_xx: Array) -> Array | None:
        """Return R^{-1} B' V_x, cut to the bound, where R is diagonal; else None."""
        R, B = self.unbounded.R, self.unbounded.B
        if np.count_nonzero(R - np.diag(np.diag(R))):
            return None
        return self.action.clip(matvec(B.T / np.diag(R)[:, None], v_x))

    def initial_state(self, rng: np.random.Generator, size: int) -> Floats:
        """Uniform in [-1, 1]^n."""
        return self.unbounded.initial_state(rng, size)

    def exact_step(self, t: Array, x: Floats, a: Floats, dt: float, noise: Floats) -> Floats:
        return self.unbounded.exact_step(t, x, a, dt, noise)

    def exact_reward(self, t: Array, x: Floats, a: Floats, dt: float) -> Floats:
        return self.unbounded.exact_reward(t, x, a, dt)

    def exact_transition(
        self, t: Array, x: Floats, a: Floats, dt: float, noise: Floats, out: tuple[Floats, Floats] | None = None
    ) -> tuple[Floats, Floats]:
        """Return the Gaussian step and the expected reward of `LQR`, as a held action is no matter of bounds."""
        return self.unbounded.exact_transition(t, x, a, dt, noise, out)


register("SaturatedLQR-v0", SaturatedLQR, dt=0.02, max_episode_steps=250)
