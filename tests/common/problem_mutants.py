"""Problems that break one promise each, and the means to make them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from hacontrol_envs import LQR, ControlProblem, Domain, FirmInvestment, Merton
from hacontrol_envs.arrays import like, namespace


def lqr(**methods):
    """An LQR with some of its methods replaced. `transition` changes (x_next, reward) of an exact step."""
    return type("MutantLQR", (LQR,), _with_transition(LQR, methods))


def merton(**methods):
    """The same of a Merton problem."""
    return type("MutantMerton", (Merton,), _with_transition(Merton, methods))


def firm(**methods):
    """The same of a FirmInvestment problem, which then claims no solution: it would be that of another problem."""
    methods = {"solution": lambda self, dt=None: None, **methods}
    return type("MutantFirm", (FirmInvestment,), _with_transition(FirmInvestment, methods))


TIGHT = {"capital_bounds": (1.0, 3.0), "productivity_bound": 0.3}
"""Of a firm whose every step is near an edge."""


def _with_transition(base, methods):
    change = methods.pop("transition", None)
    if change is not None:

        def exact_transition(self, t, x, a, dt, noise, out=None):
            return change(self, x, a, dt, noise, *base.exact_transition(self, t, x, a, dt, noise))

        methods["exact_transition"] = exact_transition
    return methods


def solved(change, base=LQR, *, sampled=False):
    """`solution` with the continuous or the sampled-data one changed."""

    def solution(self, dt=None):
        found = base.solution(self, dt)
        return change(self, found) if (dt is not None) is sampled else found

    return solution


def scaled_value(c):
    """A solution whose value, with all its derivatives, is c times as large."""

    def change(self, found):
        jet = lambda t, x: type(found.jet(t, x))(*(c * part for part in found.jet(t, x)))  # noqa: E731
        return replace(found, value=lambda t, x: c * found.value(t, x), jet=jet)

    return change


def shifted_policy(self, found, by=1e-4):
    return replace(found, policy=lambda t, x: found.policy(t, x) + by)


def shifted_value(self, found, by=1e-6):
    return replace(found, value=lambda t, x: found.value(t, x) + by)


def suboptimal(self, dt=None, *, jet=True):
    """A constant Merton policy a little off with its own value, which solves its own linear equation exactly."""
    best = Merton.solution(self)
    off_by = np.array([0.95, 1.05])
    a = best.policy(0.0, np.ones(1)) * off_by
    factor = self.constant_action_value(np.ones(1), a) / best.value(0.0, np.ones(1))
    off = scaled_value(factor)(self, best)
    return replace(off, policy=lambda t, x: best.policy(t, x) * like(off_by, x), jet=off.jet if jet else None)


def jet_part(**factors):
    """A solution with parts of its jet multiplied."""

    def change(self, found):
        def jet(t, x):
            parts = found.jet(t, x)._asdict()
            return type(found.jet(t, x))(**{name: factors.get(name, 1) * part for name, part in parts.items()})

        return replace(found, jet=jet)

    return change


def of_another_discount(self, found):
    return LQR(discount=0.11).solution()


def continuous_policy(self, found):
    return replace(found, policy=LQR.solution(self).policy)


def in_place_drift(self, t, x, a):
    x *= 1.0001
    return LQR.drift(self, t, x, a)


def independent_noise(self, x, a, dt, noise, x_next, reward):
    """Forgets that noise decays within the step: D sqrt(dt) instead of Van Loan's covariance."""
    held = self._held(dt)
    return x_next + noise @ (np.sqrt(dt) * self.D - held.noise).T, reward


def no_ito_term(self, x, a, dt, noise, x_next, reward):
    return x_next * np.exp(((a[..., :1] @ self.sigma) ** 2).sum(axis=-1, keepdims=True) * dt / 2), reward


def undiscounted_within_step(self, x, a, dt, noise, x_next, reward):
    return x_next, reward * self.discount * dt / -np.expm1(-self.discount * dt)


def only_upward(self, t, x, a, dt=0.0):
    """Forbids leaving at the upper end only."""
    return namespace(x).minimum(a, FirmInvestment.admissible(self, t, x, a, dt))


def stay_put(self, t, x, a, dt=0.0):
    """At an edge capital may only stay as it is, though it may also go back."""
    kept = FirmInvestment.admissible(self, t, x, a, dt)
    low, high = self.capital_bounds
    return namespace(x).where((x[..., :1] <= low) | (x[..., :1] >= high), 0 * a + self.depreciation, kept)


def forgets_the_step(self, t, x, a, dt=0.0):
    """The constraint at an edge, but not that an action held near it leads out within the step."""
    return FirmInvestment.admissible(self, t, x, a)


def _gaussian(self, x, dt, noise):
    kappa = self.mean_reversion
    deviation = self.volatility * np.sqrt(-np.expm1(-2 * kappa * dt) / (2 * kappa))
    return x[..., 1:] * np.exp(-kappa * dt) + deviation * noise


def folded(self, x, a, dt, noise, x_next, reward):
    """The law without edges, folded: reflected paths would drift the wrong way."""
    z = self.state.confine(np.concatenate([x_next[..., :1], _gaussian(self, x, dt, noise)], axis=-1))
    return z, reward


def stopped(self, x, a, dt, noise, x_next, reward):
    """The law without edges, cut off there."""
    return self.state.clip(np.concatenate([x_next[..., :1], _gaussian(self, x, dt, noise)], axis=-1)), reward


def unreflected_reward(self, x, a, dt, noise, x_next, reward):
    far = FirmInvestment(**{**self.parameters, "productivity_bound": 9.0})
    return x_next, far.exact_reward(0.0, x, self.admissible(0.0, x, a, dt), dt)


def torch_branch(self, t, x, a):
    return LQR.reward(self, t, x, a) + (0.0 if type(x) is np.ndarray else 1e-6)


def narrow(self):
    return Domain(["a"], [-0.1], [0.1])


class Forgetful(LQR):
    """Forgets its noise in `parameters`."""

    @property
    def parameters(self):
        return {name: given for name, given in super().parameters.items() if name != "noise_matrix"}


@dataclass(frozen=True, kw_only=True)
class Drifting(ControlProblem):
    """Somebody else's problem, with nothing known about it: dX = a X dt + X dW / 10, one scale logarithmic."""

    discount: float = 0.3
    noise_dim = 2
    horizon = None
    state = Domain(["w", "y"], [0.5, -1.0], [2.0, 1.0], ["log", "linear"])
    action = Domain(["a"], [-1.0], [1.0])

    def drift(self, t, x, a):
        return a * x

    def diffusion(self, t, x, a):
        return 0.1 * x[..., None] * (1 + 0 * x[..., None, :])

    def reward(self, t, x, a):
        return x[..., 0] - a[..., 0] ** 2

    def initial_state(self, rng, size):
        return np.stack([rng.uniform(0.5, 2.0, size), rng.normal(size=size)], axis=1)
