"""Problem, what an environment needs; ControlProblem, a controlled diffusion with its generator and HJB residual."""

from __future__ import annotations

import abc
import dataclasses
from functools import partial
from typing import Any, ClassVar, final

import numpy as np

from hacontrol_envs.arrays import Array, Floats, dot, namespace
from hacontrol_envs.core.domain import Domain
from hacontrol_envs.core.judge import Judge
from hacontrol_envs.core.picture import Picture
from hacontrol_envs.core.solution import Jet, Solution


class Problem(abc.ABC):
    """A controlled Markov process and what it pays: what an environment needs, and what agents of any kind may read.

    Subclasses say how time runs: `ControlProblem` is a diffusion and has a generator, `DiscreteProblem` moves once a
    period and has an expectation. Whatever their time, `discount` is a rate per unit of it, states are float64
    (..., n) and actions (..., m), with any leading batch axes.

    Learners meet what is observed of the state, `observe(x)`, and that is what solutions and policies are functions of.
    Unless a subclass says otherwise that is the state itself.
    """

    state: Domain
    """Box in which the problem is posed to learners, and scale of each state."""
    action: Domain
    """Box of admissible physical actions."""
    horizon: float | None
    """T, or None for an infinite horizon."""

    discount: float
    """rho, the discount rate per unit of time."""
    noise_dim: int
    """Dimension of the noise."""
    time_unit: str = "the problem's own unit"
    """What time is measured in, for plots."""
    judge: ClassVar[Judge | None] = None
    """What judges agents on the problem; None judges their distance from the optimum that `solution` knows, or by a
    certificate where it knows none."""

    @abc.abstractmethod
    def initial_state(self, rng: np.random.Generator, size: int) -> Floats:
        """Draw independent initial states X_0, (size, n)."""

    @property
    def observation(self) -> Domain:
        """Box and scale of what is observed of the state."""
        return self.state

    @property
    def observation_bounds(self) -> tuple[Floats, Floats]:
        """Least and largest values that can be observed, in physical units, (n,) each; infinite where nothing bounds.

        They are the ends of the box of `observation` where its edges are closed, unless a subclass knows more.
        """
        box = self.observation
        return np.where(box.closed, box.low, -np.inf), np.where(box.closed, box.high, np.inf)

    def observe(self, x: Array) -> Array:
        """Return what is observed of states x (..., n): the state itself, unless a subclass says otherwise."""
        return x

    def picture(self) -> Picture:
        """Return what `render` draws of the state: every observed component over time, unless a subclass differs."""
        return Picture(self.observation, self.observe)

    def some_states(self, rng: np.random.Generator, size: int) -> Floats:
        """Draw states (size, n) all over the box, uniform in unit coordinates, at which to look at the problem."""
        found: Floats = self.state.from_unit(rng.uniform(-1, 1, (size, self.state.dimension)))
        return found

    def refuse_state(self, x: Floats) -> None:  # noqa: B027  (most boxes of states hold nothing but states)
        """Raise ResetError where a caller wants to start from states x (..., n) that cannot occur."""

    def terminal_reward(self, x: Array) -> Array:
        """Return g(x), (...); zero unless a subclass says otherwise."""
        return namespace(x).zeros_like(x[..., 0])

    def solution(self, dt: float | None = None) -> Solution | None:
        """Return the known optimum, or None: a problem whose optimum is not known does not override this.

        With `dt`, the optimum of the sampled-data problem: the action is held over steps of length dt, the transition
        is exact in law and the reward of a step is its exact expectation. None where it is not known.
        """
        return None

    @property
    def exact_noise_dim(self) -> int:
        """Standard normals per row that `exact_step` uses; may exceed `noise_dim` (Van Loan, 1978)."""
        return self.noise_dim

    def exact_step(self, t: Array, x: Floats, a: Floats, dt: float, noise: Floats) -> Floats | None:
        """Return X_{t+dt} given X_t = x and the action a held, exact in law, (..., n); None where that is not known.

        Args:
            t: time, a number or (...).
            x: states, (..., n).
            a: physical actions, (..., m).
            dt: length of the step, in the problem's unit of time.
            noise: independent standard normals, (..., exact_noise_dim).
        """
        return None

    def exact_reward(self, t: Array, x: Floats, a: Floats, dt: float) -> Floats | None:
        """Return E[ int_0^dt e^{-rho s} r(t+s, X_{t+s}, a) ds | X_t = x ], (...); None where it is not known.

        Args:
            t: time, a number or (...).
            x: states, (..., n).
            a: physical actions, (..., m), held over the step.
            dt: length of the step, in the problem's unit of time.
        """
        return None

    def exact_transition(
        self, t: Array, x: Floats, a: Floats, dt: float, noise: Floats, out: tuple[Floats, Floats] | None = None
    ) -> tuple[Floats | None, Floats | None]:
        """Return `exact_step` and `exact_reward` of the same step, which some problems compute at once to save work.

        Args:
            t, x, a, dt, noise: see `exact_step`.
            out: arrays (N, n) and (N,), in which an override may write what it returns; the other arrays are then
                contiguous rows (N, ...). None for arrays with any leading axes.
        """
        return self.exact_step(t, x, a, dt, noise), self.exact_reward(t, x, a, dt)

    @property
    def parameters(self) -> dict[str, Any]:
        """Arguments of the constructor as given, by name, JSON-serialisable."""
        if not dataclasses.is_dataclass(self):
            return {}
        return {field.name: _plain(getattr(self, field.name)) for field in dataclasses.fields(self)}

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickle and copy a dataclass as its constructor's arguments: what was cached since is computed again."""
        if not dataclasses.is_dataclass(self):
            return super().__reduce_ex__(protocol)
        given = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.init}
        return partial(type(self), **given), ()


class ControlProblem(Problem):
    """Maximise J = E[ int_0^T e^{-rho t} r(t, X, A) dt + e^{-rho T} g(X_T) ] over controls A.

    dX = b(t, X, A) dt + sigma(t, X, A) dW, with W a d-dimensional Brownian motion. The value function solves
    rho V = max_a { r + V_t + L^a V } with the generator L^a V = b . V_x + 1/2 tr(sigma sigma' V_xx) (V_t = 0 when the
    horizon is infinite). See Fleming and Soner (2006), Controlled Markov Processes and Viscosity Solutions.

    A subclass states `drift`, `diffusion`, `reward`, `initial_state` and the attributes below. Coefficients take
    time t (scalar or (...)), physical state x (..., n) and physical action a (..., m) with any leading batch axes, and
    are written against the array API (`hacontrol_envs.arrays`), so that the same line serves simulation in NumPy and
    learning in torch. Optional methods say more where more is known: the exact transition, the exact expected reward
    of a step, the solution.

    Time is in the problem's own unit, `discount` is a rate per that unit, rewards are flows per that unit.
    """

    noise_dim: int
    """d, the dimension of the Brownian motion."""
    controlled_diffusion: bool = True
    """False promises that sigma does not depend on the action, which makes greedy improvement cheaper."""

    @abc.abstractmethod
    def drift(self, t: Array, x: Array, a: Array) -> Array:
        """Return b(t, x, a), (..., n), per unit of time.

        Args:
            t: time, a number or (...).
            x: states, (..., n).
            a: physical actions, (..., m).
        """

    @abc.abstractmethod
    def diffusion(self, t: Array, x: Array, a: Array) -> Array:
        """Return sigma(t, x, a), (..., n, d), per square root of a unit of time.

        Args:
            t: time, a number or (...).
            x: states, (..., n).
            a: physical actions, (..., m).
        """

    @abc.abstractmethod
    def reward(self, t: Array, x: Array, a: Array) -> Array:
        """Return r(t, x, a), (...), per unit of time.

        Args:
            t: time, a number or (...).
            x: states, (..., n).
            a: physical actions, (..., m).
        """

    def admissible(self, t: Array, x: Array, a: Array, dt: float = 0.0) -> Array:
        """Return the admissible action nearest to a, (..., m): on a constrained edge, one that does not leave.

        Args:
            t: time, a number or (...).
            x: states, (..., n).
            a: physical actions, (..., m).
            dt: time over which the action is held and may not leave; `exact_step` and `exact_reward` are those of that
                action.
        """
        return a

    def maximiser(self, t: Array, x: Array, v_x: Array, v_xx: Array) -> Array | None:
        """Return the maximum point of r + b . V_x + 1/2 tr(sigma sigma' V_xx) over the action box, (..., m).

        None, unless a subclass knows it in closed form: learners and solvers then maximise numerically.

        Args:
            t: time, a number or (...).
            x: states, (..., n).
            v_x: gradient of V, (..., n).
            v_xx: Hessian of V, (..., n, n).
        """
        return None

    @final
    def generator(self, t: Array, x: Array, a: Array, jet: Jet) -> Array:
        """Return L^a V = b . V_x + 1/2 tr(sigma sigma' V_xx), (...).

        Args:
            t: time, a number or (...).
            x: states, (..., n).
            a: physical actions, (..., m).
            jet: V with its derivatives at (t, x).
        """
        return dot(self.drift(t, x, a), jet.v_x) + self.second_order(t, x, a, jet.v_xx)

    @final
    def second_order(self, t: Array, x: Array, a: Array, v_xx: Array) -> Array:
        """Return q = 1/2 tr(sigma sigma' V_xx), (...).

        Args:
            t: time, a number or (...).
            x: states, (..., n).
            a: physical actions, (..., m).
            v_xx: a symmetric matrix, such as the Hessian of V, (..., n, n).
        """
        xp = namespace(x)
        sigma = self.diffusion(t, x, a)
        return xp.sum(sigma * xp.matmul(v_xx, sigma), axis=(-2, -1)) / 2

    @final
    def hamiltonian(self, t: Array, x: Array, a: Array, p: Array, q: Array) -> Array:
        """Return r + b . p + q, (...).

        Args:
            t: time, a number or (...).
            x: states, (..., n).
            a: physical actions, (..., m).
            p: V_x, (..., n).
            q: 1/2 tr(sigma sigma' V_xx), (...); see `second_order`.
        """
        return self.reward(t, x, a) + dot(self.drift(t, x, a), p) + q

    @final
    def hjb_residual(self, t: Array, x: Array, a: Array, jet: Jet) -> Array:
        """Return r + V_t + L^a V - rho V, (...): zero at the optimum, and <= 0 for any other action there.

        Args:
            t: time, a number or (...).
            x: states, (..., n).
            a: physical actions, (..., m).
            jet: V with its derivatives at (t, x).
        """
        q = self.second_order(t, x, a, jet.v_xx)
        return self.hamiltonian(t, x, a, jet.v_x, q) + jet.v_t - self.discount * jet.v


def _plain(parameter: Any) -> Any:
    """A parameter as JSON can hold it."""
    if isinstance(parameter, (np.ndarray, np.generic)):
        return parameter.tolist()
    return [_plain(entry) for entry in parameter] if isinstance(parameter, (list, tuple)) else parameter
