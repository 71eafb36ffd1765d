"""LQR-v0: the linear-quadratic regulator, in any dimension and over any horizon."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, final

import numpy as np
import scipy

from hacontrol_envs.arrays import Array, Floats, broadcast_time, dot, like, matvec, matvecs, namespace, quadratic
from hacontrol_envs.core import parameters as read
from hacontrol_envs.core.domain import Domain
from hacontrol_envs.core.problem import ControlProblem
from hacontrol_envs.core.registration import register
from hacontrol_envs.core.solution import Jet, Solution
from hacontrol_envs.errors import NumericalError, ParameterError
from hacontrol_envs.numerics import riccati
from hacontrol_envs.numerics.cache import cached_by_step
from hacontrol_envs.numerics.compiled import over_rows
from hacontrol_envs.numerics.riccati import Core, HeldSystem, InfiniteCostError, Quadratic
from hacontrol_envs.numerics.riccati_flow import Flow
from hacontrol_envs.numerics.riccati_map import DISTINCT, DOUBTFUL
from hacontrol_envs.numerics.transitions import linear_quadratic

HUGE = 1e280
"""Size of a cost or a motion at which it is refused: a few steps later it would be infinite."""
FAST = 1e30
"""Largest speed at which actions may move what is observed, in half-widths of the box per unit of time."""
MOST_STATES = 1000
"""Largest dimension: beyond, solving the Riccati equation takes minutes."""
ROUNDING = 1e-12
"""Relative error up to which a solution of an algebraic equation is called a closed form."""
TABLE = 50_000_000
"""Most numbers in a table of gains, or of cost matrices, by step."""


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class LQR(ControlProblem):
    """Steer a linear system to the origin at the least quadratic cost.

    dX = (A X + B a) dt + D dW, r = -1/2 (x'Qx + a'Ra), g = -1/2 x'Sx. The value is -1/2 x'Px - c and the optimal action
    -Kx with K = R^{-1}B'P, where rho P = P_t + Q + A'P + PA - P B R^{-1} B'P (P_t = 0 and P constant over an infinite
    horizon) and rho c = c_t + tr(DD'P)/2. Without noise (D = 0) the same P solves the Hamilton-Jacobi equation.
    Over an infinite horizon P is the least positive semidefinite solution, the limit of finite horizons: states that no
    cost sees, now or later, are left alone, however they grow. Where they grow faster than rho/2 the stabilising
    solution is another one, which pays for steering them. Parameters are refused if no control keeps costs finite.
    Anderson and Moore (1990), Optimal Control; Bertsekas (2017), Dynamic Programming and Optimal Control.

    A matrix may be given as nested lists, or as a number that stands for that multiple of the identity. With
    `dimension=n` alone the problem is the standard chain: n states, each pulled to zero at rate 1/2, coupled to its
    neighbours with strength 1/5, each with its own control and its own noise: A = -I/2 + (1/5) (ones beside the
    diagonal), B = I, Q = I, R = I/10, D = 3I/10. One link of it is the scalar default, P = 0.2659750769.

    Learners meet the problem in the box |x_i| <= 1 + 4 s_i, with s_i the stationary standard deviation under the
    optimal policy (where that lets states grow, of states times e^{-rho t/2}, or 0), and act in |a_j| <=
    1.5 sum_i |K_ji| (1 + 4 s_i), which the optimum never leaves there; growing states leave both in time. A state that
    grows, or that no action in the box holds back, may leave what floats can hold: that step raises NumericalError.
    """

    dimension: int | None = None
    """n, the number of states; None takes it from `state_matrix`, or 1."""
    state_matrix: Any = None
    """A, (n, n); None is the chain above. [1/time]."""
    control_matrix: Any = None
    """B, (n, m); None is the identity. [state/(action x time)]."""
    state_cost: Any = 1.0
    """Q, (n, n) positive semidefinite. [cost/(state^2 x time)]."""
    control_cost: Any = 0.1
    """R, (m, m) positive definite. [cost/(action^2 x time)]."""
    noise_matrix: Any = None
    """D, (n, d); zero is allowed, None is 0.3 times the identity. [state/time^(1/2)]."""
    discount: float = 0.1
    """rho, the rate at which costs are discounted; positive over an infinite horizon. [1/time]."""
    horizon: float | None = None
    """T; None for an infinite horizon. [time]."""
    terminal_cost: Any = 0.0
    """S, (n, n) positive semidefinite; used over a finite horizon only. [cost/state^2]."""

    controlled_diffusion = False

    def __post_init__(self) -> None:
        rho = read.number("discount", self.discount, at_least=0.0)
        if self.horizon is None and rho == 0:
            raise ParameterError("discount must be greater than 0 over an infinite horizon, got 0")
        if self.horizon is not None:
            read.number("horizon", self.horizon, above=0.0)
        for matrix in (self.A, self.B, self.Q, self.R, self.D, self.S):
            matrix.setflags(write=False)
        self._refuse_extremes()

    def _refuse_extremes(self) -> None:
        """Raise ParameterError where the optimum, or a cost in the box, is more than floats hold."""
        with np.errstate(all="ignore"):
            gain = self._widest_gain
            half = self._half_width if np.isfinite(gain).all() else gain
            x, a = half, 1.5 * np.abs(gain) @ half if np.isfinite(half).all() else half
            most = [x @ np.abs(self.Q) @ x, a @ np.abs(self.R) @ a, np.abs(self.B) @ a]
            seen = np.abs(self.B) @ a / np.where(half > 0, half, 1.0)  # by the largest action, in float32
        if not (all(np.all(part < HUGE) for part in most) and np.all(seen < FAST)):
            got = f"a gain of {np.abs(gain).max():.3g} in a box of {np.abs(half).max():.3g}"
            raise ParameterError(
                f"these parameters are too far apart for floats: choose other units of state, action or cost; got {got}"
            )
        _ = self.state, self.action

    @cached_property
    def _size(self) -> int:
        given = None if self.state_matrix is None else read.array("state_matrix", self.state_matrix)
        n = None if self.dimension is None else read.count("dimension", self.dimension, at_most=MOST_STATES)
        if given is None or given.ndim == 0:
            return 1 if n is None else n
        if len(given) > MOST_STATES:
            raise ParameterError(f"state_matrix must have at most {MOST_STATES} rows, got {len(given)}")
        if given.ndim != 2 or given.shape[0] != given.shape[1]:
            raise ParameterError(f"state_matrix must be square, got shape {given.shape}")
        if n not in (None, len(given)):
            raise ParameterError(f"dimension={n} contradicts a state_matrix of shape {given.shape}")
        return len(given)

    @cached_property
    def A(self) -> Floats:
        """State matrix, (n, n)."""
        n = self._size
        if self.state_matrix is None:
            return -0.5 * np.eye(n) + 0.2 * (np.eye(n, k=1) + np.eye(n, k=-1))
        return read.matrix("state_matrix", self.state_matrix, n, n)

    @cached_property
    def B(self) -> Floats:
        """Control matrix, (n, m)."""
        return read.matrix("control_matrix", 1.0 if self.control_matrix is None else self.control_matrix, self._size)

    @cached_property
    def Q(self) -> Floats:
        """State cost, (n, n)."""
        return read.weight("state_cost", self.state_cost, self._size, definite=False)

    @cached_property
    def R(self) -> Floats:
        """Control cost, (m, m)."""
        return read.weight("control_cost", self.control_cost, self.B.shape[1], definite=True)

    @cached_property
    def D(self) -> Floats:
        """Noise matrix, (n, d)."""
        return read.matrix("noise_matrix", 0.3 if self.noise_matrix is None else self.noise_matrix, self._size)

    @cached_property
    def S(self) -> Floats:
        """Terminal cost, (n, n)."""
        return read.weight("terminal_cost", self.terminal_cost, self._size, definite=False)

    @property
    def noise_dim(self) -> int:  # type: ignore[override]
        """d, the number of columns of the noise matrix."""
        return int(self.D.shape[1])

    @property
    def exact_noise_dim(self) -> int:
        """n, as noise reaches every state over a step, whatever d is."""
        return self._size

    @cached_property
    def _half_width(self) -> Floats:
        closed = self.A - self.B @ self._widest_gain
        if not (growth := np.linalg.eigvals(closed).real.max()) < self.discount / 2:
            return np.ones(self._size)
        closed = closed - (growth >= 0) * self.discount / 2 * np.eye(self._size)
        unit = np.abs(self.D).max() or 1.0
        variance = np.diag(scipy.linalg.solve_continuous_lyapunov(closed, -(self.D / unit) @ (self.D / unit).T))
        return 1 + 4 * unit * np.sqrt(np.maximum(variance, 0.0))

    @cached_property
    def state(self) -> Domain:  # type: ignore[override]
        """Box |x_i| <= 1 + 4 s_i."""
        half = self._half_width
        names = ["x"] if self._size == 1 else [f"x{i + 1}" for i in range(self._size)]
        return Domain(names, -half, half)

    @cached_property
    def action(self) -> Domain:  # type: ignore[override]
        """Box |a_j| <= 1.5 sum_i |K_ji| (1 + 4 s_i)."""
        half = 1.5 * np.abs(self._widest_gain) @ self.state.high
        half = np.where(half > 0, half, 1.0)
        m = len(half)
        return Domain(["a"] if m == 1 else [f"a{j + 1}" for j in range(m)], -half, half)

    @cached_property
    def _widest_gain(self) -> Floats:
        """K, or over a finite horizon its entry-wise largest values."""
        if self.horizon is None:
            return self._stationary.K
        gains = self._backward(np.linspace(0.0, self.horizon, 201)).K
        widest: Floats = np.take_along_axis(gains, np.abs(gains).argmax(axis=0)[None], axis=0)[0]
        return widest

    def drift(self, t: Array, x: Array, a: Array) -> Array:
        return matvec(self.A, x) + matvec(self.B, a)

    def diffusion(self, t: Array, x: Array, a: Array) -> Array:
        xp = namespace(x)
        return xp.broadcast_to(like(self.D, x), (*x.shape[:-1], *self.D.shape))

    def reward(self, t: Array, x: Array, a: Array) -> Array:
        """-(x'Qx + a'Ra)/2, minus the cost per unit of time."""
        return -(quadratic(self.Q, x) + quadratic(self.R, a)) / 2

    def maximiser(self, t: Array, x: Array, v_x: Array, v_xx: Array) -> Array | None:
        """Return R^{-1} B' V_x where R is diagonal, so that the box can be met one action at a time; else None."""
        if np.count_nonzero(self.R - np.diag(np.diag(self.R))):
            return None
        return self.action.clip(matvec(np.linalg.solve(self.R, self.B.T), v_x))

    def terminal_reward(self, x: Array) -> Array:
        """-x'Sx/2, minus the cost at the end."""
        return -quadratic(self.S, x) / 2

    def initial_state(self, rng: np.random.Generator, size: int) -> Floats:
        """Uniform in [-1, 1]^n."""
        drawn: Floats = rng.uniform(-1.0, 1.0, (size, self._size))
        return drawn

    def exact_step(self, t: Array, x: Floats, a: Floats, dt: float, noise: Floats) -> Floats:
        return self.exact_transition(t, x, a, dt, noise)[0]

    def exact_reward(self, t: Array, x: Floats, a: Floats, dt: float) -> Floats:
        return self.exact_transition(t, x, a, dt, np.zeros(self._size))[1]

    def exact_transition(
        self, t: Array, x: Floats, a: Floats, dt: float, noise: Floats, out: tuple[Floats, Floats] | None = None
    ) -> tuple[Floats, Floats]:
        """Return F x + G a + N(0, noise noise'), and minus half the expected cost z'Mz + constant, z = (x, a)."""

        def fill(x: Floats, a: Floats, noise: Floats, x_next: Floats, reward: Floats) -> None:
            linear_quadratic(x, a, noise, *self._held_loops(dt), x_next, reward)

        x_next, reward = over_rows(fill, x, a, noise, out)
        if not math.isfinite(reward.sum()):
            raise NumericalError(
                "a cost is not finite: the state has grown beyond what floats can hold; end episodes earlier, or steer "
                f"the state, whose matrix is {read.short(self.A.tolist())}"
            )
        return x_next, reward

    @cached_by_step
    def _held_loops(self, dt: float) -> tuple[Floats, Floats, float]:
        """[F G noise]' and M, contiguous, and the constant of the cost."""
        held = self._held(dt)
        response = np.ascontiguousarray(np.hstack([held.F, held.G, held.noise]).T)
        return response, np.ascontiguousarray(held.M), float(held.constant)

    @cached_by_step
    def _held(self, dt: float) -> HeldSystem:
        return riccati.hold(self.A, self.B, self.Q, self.R, self.D, self.discount, dt)

    @cached_property
    def _core(self) -> Core:
        """The problem of the states that a cost sees, now or later; of those that say the same, the cheapest."""
        core = self._seen(DISTINCT)
        if len(core.T) == self._size or not core.T.any():
            return core
        weights = self._optimum(core)(np.array([self.horizon or 0.0])).P.reshape(self._size, -1).diagonal()
        return self._seen(DISTINCT, np.argsort(weights).tolist())

    def _seen(self, tolerance: float, order: Sequence[int] | None = None) -> Core:
        terminal = self.S if self.horizon is not None else np.zeros_like(self.S)
        return Core.of(self.A, self.B, self.Q, self.R, self.D, terminal, tolerance, order)

    def _optimum(self, core: Core) -> Callable[[Floats], Quadratic]:
        """The optimum as a function of the time to go, on which it does not depend over an infinite horizon."""
        if self.horizon is None:
            found = core.lift(riccati.continuous(*core.matrices, self.discount))
            return lambda tau: found
        flow = Flow(*core.matrices, self.discount, self.horizon, core.terminal)
        return lambda tau: core.lift(flow(tau))

    @cached_by_step
    def _held_core(self, dt: float) -> HeldSystem:
        return riccati.hold(*self._core.matrices, self.discount, dt)

    @cached_property
    def _stationary(self) -> Quadratic:
        return self._backward(np.zeros(1))

    @cached_property
    def _backward(self) -> Callable[[Floats], Quadratic]:
        """`_optimum` of the core; refused where rounding decides what the cost sees, and that matters."""
        whole = np.array([self.horizon or 0.0])
        try:
            found, other, gap, size = self._optimum(self._core), self._seen(DOUBTFUL), 0.0, 1.0
            if len(other.T) != len(self._core.T):
                P = found(whole).P
                gap, size = np.abs(self._optimum(other)(whole).P - P).max(), np.abs(P).max()
        except InfiniteCostError as error:
            raise ParameterError(
                f"no control keeps the discounted cost finite: {error}; (state_matrix - discount/2, control_matrix) "
                "must be stabilisable in every state that state_cost sees; "
                f"got A = {self.A.tolist()}, B = {self.B.tolist()}"
            ) from error
        except (np.linalg.LinAlgError, ValueError, OverflowError) as error:
            raise NumericalError(f"the Riccati equation cannot be solved in floats: {error}") from error
        if gap > 1e-9 * size:
            raise NumericalError(
                "whether state_cost sees a state that grows is decided by rounding: make what couples them zero, or "
                f"larger; got A = {self.A.tolist()}, Q = {self.Q.tolist()}"
            )
        return found

    def solution(self, dt: float | None = None) -> Solution:
        """The Riccati solution; with `dt`, that of the discrete Riccati equation with cross terms."""
        if self.horizon is None:
            found, source = self._stationary, "algebraic Riccati equation (Anderson and Moore, 1990)"
            if dt is not None:
                found, source = self._sampled(dt), "discrete Riccati equation, actions held (Bertsekas, 2017)"
            worst = self._worst(found)
            error = 0.0 if found.error < ROUNDING else found.error * worst
            return self._solution(lambda t, x: found, source, error, with_jet=dt is None)
        horizon = self.horizon
        if dt is not None:
            return self._sampled_solution(dt, horizon)

        def at(t: Array, x: Array) -> Quadratic:
            tau = horizon - np.asarray(broadcast_time(t, x), dtype=np.float64)
            distinct, index = np.unique(tau, return_inverse=True)
            found, index = self._backward(distinct), index.reshape(tau.shape)
            return Quadratic(found.P[index], found.c[index], found.K[index])

        source = "Riccati differential equation (Anderson and Moore, 1990), its flow by doubling"
        sample = self._backward(np.linspace(0.0, horizon, 65))
        error = sample.error * self._worst(sample)
        return self._solution(at, source, error, with_jet=True)

    def _worst(self, found: Quadratic) -> float:
        """The largest cost in the box; NumericalError where no float holds it."""
        worst = float(np.max((np.abs(found.P) @ self.state.high) @ self.state.high / 2 + found.c))
        if not np.isfinite(worst):
            raise NumericalError(
                f"no float holds the value at discount={self.discount!r}: raise discount, or lower noise"
            )
        return worst

    def _sampled(self, dt: float) -> Quadratic:
        read.number("dt", dt, above=0.0)
        try:
            return self._core.lift(riccati.sampled(self._held_core(dt)))
        except (NumericalError, np.linalg.LinAlgError, ValueError, OverflowError) as error:
            raise NumericalError(
                f"no optimum of actions held over dt={dt} can be computed ({error}): take a shorter step"
            ) from error

    def _sampled_solution(self, dt: float, horizon: float) -> Solution:
        steps, core = read.steps(horizon, read.number("dt", dt, above=0.0)), self._core
        if (steps + 1) * self.R.shape[0] * self._size > TABLE or (steps + 1) * self._size**2 > TABLE:
            raise ParameterError(f"dt={dt} is too short a step to tabulate the horizon {horizon}: {steps} steps")
        table = core.lift(riccati.sampled_backward(self._held_core(dt), steps, core.terminal))
        if not all(np.isfinite(part).all() for part in table):
            raise NumericalError(f"the least cost of actions held over dt={dt} overflows within the horizon {horizon}")

        def at(t: Array, x: Array) -> Quadratic:
            index = steps - np.rint(np.asarray(broadcast_time(t, x)) / dt).astype(int)
            return Quadratic(table.P[index], table.c[index], table.K[index])

        source = "backward discrete Riccati recursion of the sampled-data problem (Bertsekas, 2017)"
        return self._solution(at, source, 0.0, with_jet=False)

    def _solution(self, at: Any, source: str, error: float, *, with_jet: bool) -> Solution:
        def value(t: Array, x: Array) -> Array:
            P, c, _ = (like(part, x) for part in at(t, x)[:3])
            return -(dot(x, matvecs(P, x)) / 2 + c)

        def policy(t: Array, x: Array) -> Array:
            return -matvecs(like(at(t, x).K, x), x)

        def jet(t: Array, x: Array) -> Jet:
            found = at(t, x)
            P, c, _ = (like(part, x) for part in found[:3])
            Px, shape = matvecs(P, x), (*x.shape, x.shape[-1])
            P_t, c_t = (like(part, x) for part in self._time_derivatives(found))
            v = -(dot(x, Px) / 2 + c)
            return Jet(v, -(dot(x, matvecs(P_t, x)) / 2 + c_t), -Px, -namespace(x).broadcast_to(P, shape))

        kind: Any = "numerical" if error else "closed form"
        return Solution(value, policy, kind, source, error, jet if with_jet else None)

    def _time_derivatives(self, found: Quadratic) -> tuple[Floats, Floats]:
        """dP/dt and dc/dt by the Riccati equation; zero over an infinite horizon."""
        P, c, K = found[:3]
        if self.horizon is None:
            return np.zeros_like(P), np.zeros_like(c)
        cost = self.Q + self.A.T @ P + P @ self.A - P @ self.B @ K
        spent = np.sum(self.D @ self.D.T * P, axis=(-2, -1)) / 2
        return self.discount * P - cost, self.discount * c - spent


register("LQR-v0", LQR, dt=0.02, max_episode_steps=250)
