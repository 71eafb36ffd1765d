"""Continuous-time q-learning: model-free, and built so that results do not depend on the time step.

Jia and Zhou (2023), q-Learning in Continuous Time, JMLR 24; Jia and Zhou (2022), Policy Evaluation and Temporal-
Difference Learning in Continuous Time and Space: A Martingale Approach, JMLR 23. What is implemented, derived:

**Value and rate.** With temperature lam > 0 a randomised policy pi(a|x) earns, beside the reward, lam times its
entropy: J(x) = E int e^{-rho t} (r - lam log pi) dt. Let V be the best J and q(x, a) = r + V_t + L^a V - rho V, the
rate at which playing a differs from V. Of all densities, pi = exp(q/lam) / int exp(q/lam) da maximises int (q - lam
log pi) pi da, with maximum lam log int exp(q/lam) da; the HJB equation says that this maximum is 0. So

    int exp(q(x, a)/lam) da = 1    and    pi(a|x) = exp(q(x, a)/lam).                                              (1)

At lam = 0, (1) becomes max_a q = 0: the HJB equation without entropy.

**Martingale.** Let any actions a_t be played that do not foresee the noise. By Ito's formula and q's definition

    M_t = e^{-rho t} V(X_t) + int_0^t e^{-rho s} (r - q)(X_s, a_s) ds    is a martingale,                          (2)

with the plain reward r and q at the action that was played. Under pi itself -q = -lam log pi(a), so r - q is in the
mean the reward with its entropy: on-policy, (2) is policy evaluation. Conversely, (1) and (2) determine V and q:
(2) says that q = r + V_t + L^a V - rho V for the played actions, (1) that V is the best value. Entropy enters
through (1) alone.

**Held actions.** Our environments hold a over a step of length dt and pay R = int_0^dt e^{-rho s} r ds (its
conditional mean where known). With gamma = e^{-rho dt} and kappa = int_0^dt e^{-rho s} ds = (1 - gamma)/rho,

    delta = R + gamma V(X') - V(X) - kappa q(X, a)                                                                 (3)

has mean zero given (X, a) up to O(dt^2) at the V and q of (1) and (2). We do not live with that error: we let
q_dt(x, a) = E[R + gamma V(X') - V(x) | x, a] / kappa define q at the dt at hand. Then (3) has mean zero exactly,
and (1) says V(x) = kappa lam log int exp((V + kappa q_dt)/(kappa lam)) da: the optimality equation of the
sampled-data problem that pays entropy at the rate lam. So the limit of learning is the optimum of the environment
as it is sampled, O(dt) from that of continuous time (`solution(dt)`, `solution()`), and q_dt -> q stays of order
one where a Q-function would collapse onto V. At an end E[V(X')] is 0 where the horizon is reached (the last R holds
the terminal reward); a truncation is none: X' is what was observed before the reset, and its value counts.

**Conditions.** (2) holds iff E sum_k zeta_k delta_k = 0 for all test functions zeta_k of what is known at step k,
its action included. The parameters are theta of V and psi of q.
  * "moments": zeta = (dV/d theta (X_k), dq/d psi (X_k, a_k)), as TD(0). Right whoever plays: data may be on-policy
    or not.
  * "martingale loss": 1/2 E sum_k G_k^2, with G_k = M_end - M_k in units of step k, the sum of gamma^j delta_{k+j}
    up to the end of the path (an episode or a block of data; the value there is held fixed, as M_end is a target).
    Its gradient in theta is -E sum_k dV/d theta (X_k) G_k, a moment condition with G for delta: right whoever
    plays. Its gradient in psi is -kappa E sum_j sum_{k <= j} gamma^{j-k} dq/d psi(X_j, a_j) G_k. Under pi, unclipped,
    (1) gives E[dq/d psi | X_j] = 0, so increments before step j drop out of its mean, and those after are a
    martingale's: what is left are E dq/d psi (X_j, a_j) delta_j, with positive weights. Off pi the increments before
    j do not drop out and the loss has its minimum elsewhere; and their noise remains in any case: per unit of time it
    grows like 1/dt against the signal. So of the loss we keep the gradient in theta, and of the gradient in psi
    what is left: the condition of "moments".

**Robust in dt.** Over a time T the sum of zeta delta has a mean proportional to T and a variance proportional to T,
neither depending on dt as dt -> 0; the same is true of independent exploration at every step, since dq/d psi delta
correlates the noise in the action with the move of its own step. (What fades, like the root of dt, is how far such
exploration moves the state: `persistence`, a time, gives noise that lasts. It does not foresee, and (2) holds.) A step
of stochastic gradients, on the other hand, has a signal of dt and noise of sqrt(dt). So we solve the conditions summed
over blocks of *time*, by Gauss-Newton (`martingale`), and only as far as they are known: they weigh as much as their
Monte Carlo error allows, against a prior that keeps parameters where learning starts. Where noise is large against what
an action changes, as in a portfolio, it takes tens to thousands of lifetimes until they say more about the maximiser
than its box does. For V and q linear in their features a Newton step on (1) and (3) is a policy iteration: by the
envelope theorem (1) is linear in q about the present pi, with the policy's own density as weight.

**Actions.** Proposals are Gaussian and unbounded, N(m(x), lam C(x)^{-1}) as (1) says for q quadratic in the action
(`value_and_rate`); the environment clips them to [-1, 1]^m. The action that counts in (3) is the clipped one, so
that (3) is exact whatever is clipped. The maximiser m(x) lies in the box, so that the largest q is attained. (1) is
over all of R^m: q is continued beyond the box as the quadratic that it is inside, and where proposals reach beyond it
V counts a little entropy too much, until annealing ends at lam = 0.

**Reward as it is observed.** Where q is not quadratic in the action, a quadratic fitted to what was explored has its
maximum elsewhere, and one free to bend is known badly: where noise is large against what an action changes, each
further power of the action multiplies the maximiser's error. But q - r = V_t + L^a V - rho V is quadratic in the
action wherever drift is affine in it and the covariance of the noise quadratic, and r is observed, nearly or quite
without noise. So `curvature="state and reward"` fits r to what was paid, a plain regression, and learns

    q(x, a) = r(x, a) - r(x, m) - r_a(x, m).(a - m) - 1/2 (a - m)' C(x) (a - m),    m = m(x):                     (4)

zero at m(x), where its derivative vanishes, too, and largest there if r is concave in a. This is (1) at lam = 0.

**Units.** Rewards are measured in deviations of their rate, values in the same times a lifetime. Where all rewards have
one sign, so has V at lam = 0, and `one_sign` learns log |V|: a utility's value differs by orders of magnitude between
the rich and the poor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias, final, get_args

import gymnasium as gym
import numpy as np
import scipy
import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from hacontrol_agents.core.agent import Agent
from hacontrol_agents.core.verdicts import SEEN
from hacontrol_agents.learning.networks import MLP
from hacontrol_agents.q_learning.experience import Experience
from hacontrol_agents.q_learning.fitted_reward import FittedReward
from hacontrol_agents.q_learning.martingale import Method, Moments, NewtonSteps, Transitions, flat
from hacontrol_agents.q_learning.value_and_rate import ValueAndRate, triangle
from hacontrol_envs import ControlProblem
from hacontrol_envs.arrays import Array, Floats
from hacontrol_envs.core.parameters import count, number, one_of
from hacontrol_envs.errors import ParameterError

__all__ = ["CTQLearning"]

Behaviour: TypeAlias = Literal["policy", "random"]
"""Name of what plays: the learnt policy or chance."""
Curvature: TypeAlias = Literal["state", "state and reward"]
"""Name of what q's curvature in the action depends on."""
UNITS = ("value_offset", "value_scale", "rate_scale", "temperature")
"""Names of the units in which V and q are learnt."""
LOOK = 256
"""Number of states at which a Newton step's reach is measured."""
OF_REWARD = 8192
"""Number of steps, drawn from those kept, to which reward is fitted after every block."""


@final
@dataclass(kw_only=True)
class CTQLearning(Agent):
    """Continuous-time q-learning (Jia and Zhou, 2023), from experience; derived at the head of the file.

    Learning alternates between a block of experience, played by N(m(x), lam C(x)^{-1} + exploration^2 I), and Gauss-
    Newton steps on the martingale conditions summed over the blocks kept. Blocks grow, so that each adds as much to
    what is known as those before it. Their lengths are in units of *time*. Actions are in units of the half-width of
    their box, rewards in units of the deviation of their rate over the first block, which is played at random. The
    problem's environment is stepped and reset, and nothing else of the problem is called.

    Annealing takes the temperature of (1) to its final value, by default 0, where V is the value without entropy.
    What is then still explored is off-policy, which the conditions allow. `evaluations` counts environment steps.
    """

    hidden: tuple[int, ...] = (8,)
    """Widths of the hidden layers of the networks: the value's, and those of q's maximiser and curvature."""
    policy_hidden: tuple[int, ...] | None = None
    """Widths of the hidden layers of q's maximiser and curvature; None for `hidden`. With () they are linear in
    observations, but for the bounds of the maximiser."""
    curvature: Curvature = "state"
    """Form of q in the action. With "state" q is a quadratic and exp(q/lam) normal. With "state and reward" it bends
    like reward beside that: for rewards that are concave, and not quadratic, in the action. Needs temperature 0."""
    one_sign: bool = False
    """Learn V as log |V|, which has the sign of all rewards; all rewards must then have one sign."""
    method: Method = "moments"
    """Martingale conditions that are solved: "moments", or from there, after annealing, "martingale loss", which is
    noisier, as its residuals run to the end of the path."""
    behaviour: Behaviour = "policy"
    """Player of the actions: "policy", which is learnt, or "random", uniform actions all along."""
    replay: int | None = None
    """Number of last blocks that are learnt from; 1 learns on-policy (at `exploration` 0), None keeps all. A fit takes
    up to 5 GB beside them."""
    num_envs: int = 64
    """Rows of the environment that is stepped."""
    block: float = 10.0
    """Experience in the first block, of all rows together, in lifetimes int_0^T e^{-rho s} ds (1/rho without a
    horizon)."""
    growth: float = 1.8
    """Length of each block relative to the one before."""
    temperature: float = 0.1
    """lam in the first block, in units of the deviation of the rate of reward."""
    final_temperature: float = 0.0
    """lam after annealing, in the same units."""
    annealing: int = 4
    """Number of blocks over which lam goes linearly from `temperature` to `final_temperature`. Where the budget ends
    before, V still counts entropy."""
    exploration: float = 0.3
    """Standard deviation that is added to the actions' own under exp(q/lam), in units of their box's half-width."""
    persistence: float = 0.0
    """Time over which what is added to actions, or drawn at random, keeps 1/e of its correlation, in lifetimes: an
    Ornstein-Uhlenbeck process, made uniform where actions are random. At 0 every step draws its own, which moves states
    the less the smaller dt is."""
    steps: int = 20
    """Gauss-Newton steps after each block, at most."""
    prior: float = 1.0
    """Standard deviation of every parameter from where learning starts, before anything was seen (of a network's
    weights times the root of their layer's inputs). It keeps a maximiser inside its box as long as noise would lead it
    anywhere, and is forgotten as time goes on."""

    name: ClassVar[str] = "ctq"
    learns: ClassVar[Any] = ControlProblem
    default_budget: ClassVar[int] = 1_000_000

    def __post_init__(self) -> None:
        super().__post_init__()
        self._refuse_nonsense()
        rows = self._vector_env(self.num_envs)
        self._experience = Experience(rows, seed=self.seed, persistence=self.persistence, device=self.device)
        inputs, m = (gym.spaces.flatdim(s) for s in (rows.single_observation_space, rows.single_action_space))
        draws = torch.Generator().manual_seed(self.seed or 0)
        value = MLP(inputs, self.hidden, 1, generator=draws)
        widths = self.hidden if self.policy_hidden is None else self.policy_hidden
        parts = [MLP(inputs, widths, outputs, generator=draws) for outputs in (m, triangle(m))]
        for network in parts:
            torch.nn.init.zeros_(network.layers[-1].weight)  # type: ignore[arg-type]
        reward = None
        if self.curvature == "state and reward":
            reward = FittedReward(inputs, m, self.one_sign, draws)
            reward.network.to(self.device)
        pair = ValueAndRate(value, parts[0], parts[1], m, one_sign=self.one_sign, reward=reward)
        self._pair = pair.to(self.device)
        deviations = torch.cat([_prior_deviations(p) for p in self._pair.parameters()])
        self._newton = NewtonSteps(self._pair, self.prior * deviations)
        self._blocks: list[Transitions] = []
        self._iteration = 0

    def _refuse_nonsense(self) -> None:
        for name, allowed in (("method", Method), ("behaviour", Behaviour), ("curvature", Curvature)):
            one_of(name, getattr(self, name), get_args(allowed))
        for name in ("num_envs", "steps", "annealing"):
            count(name, getattr(self, name))
        if self.replay is not None:
            count("replay", self.replay)
        for name in ("block", "prior"):
            number(name, getattr(self, name), above=0.0)
        number("growth", self.growth, at_least=1.0)
        for name in ("final_temperature", "exploration", "persistence"):
            number(name, getattr(self, name), at_least=0.0)
        if number("temperature", self.temperature) < self.final_temperature:
            raise ParameterError(
                f"temperature must be at least final_temperature = {self.final_temperature!r}, got {self.temperature!r}"
            )
        if self.one_sign and self.temperature > 0:
            raise ParameterError(
                f"one_sign needs temperature=0, got {self.temperature!r}: what entropy is worth may have another sign "
                "than rewards"
            )
        if self.curvature == "state and reward" and self.temperature > 0:
            raise ParameterError(
                f'curvature="state and reward" needs temperature=0, got {self.temperature!r}: exp(q/temperature) then '
                "is no normal density"
            )

    def policy(self, t: Array, x: Floats) -> Floats:
        action = self._at(t, x, self._pair.mean)
        played: Floats = self.env.unwrapped.to_physical(np.clip(action, -1.0, 1.0))
        return played

    def _seen(self, rng: np.random.Generator) -> Floats:
        """Return points of the observed box: a model-free agent asks the problem for no states."""
        box = self.problem.observation
        found: Floats = box.from_unit(rng.uniform(-1.0, 1.0, (SEEN, box.dimension)))
        return found

    def value(self, t: Array, x: Floats) -> Floats:
        return self._at(t, x, self._pair.value)

    def rate(self, t: Array, x: Floats, a: Floats) -> Floats:
        """Return the learnt q (...) per unit of time at times t, states x (..., n) and physical actions a (..., m)."""
        x, a = np.asarray(x), np.asarray(a)
        lead = np.broadcast_shapes(x.shape[:-1], a.shape[:-1])
        x, a = (np.broadcast_to(each, (*lead, each.shape[-1])) for each in (x, a))
        u = torch.as_tensor(self.env.unwrapped.from_physical(a)).reshape(-1, self._pair.actions)
        return self._at(t, x, lambda s: self._pair.rate(s, u.to(s)))

    def _at(self, t: Array, x: Floats, function: Callable[[Tensor], Tensor]) -> Floats:
        x = np.asarray(x, dtype=np.float64)
        s = self.env.unwrapped.to_observation(np.broadcast_to(t, x.shape[:-1]), x)
        with torch.no_grad():
            found = function(self._tensor(s.reshape(-1, s.shape[-1])))
        return found.cpu().numpy().reshape(x.shape[:-1] + found.shape[1:])

    def _tensor(self, array: Any) -> Tensor:
        return torch.as_tensor(array, dtype=torch.float64, device=self.device)

    def _learn(self, budget: int | None, report: Callable[..., bool]) -> None:
        assert budget is not None  # there is a default
        if not self.history and budget < self.num_envs:
            raise ParameterError(
                f"total_timesteps must be at least num_envs = {self.num_envs}, a step of every row, got {budget}"
            )
        while (steps := min(self._block_steps(), (budget - self.evaluations) // self.num_envs)) > 0:
            rng = np.random.default_rng([self.seed or 0, self._iteration])
            self._blocks.append(self._play(steps, rng))
            del self._blocks[: -self.replay if self.replay else 0]
            if self._iteration == 0:
                self._take_units()
            self._refuse_other_signs()
            self._pair.temperature = self._temperature(self._iteration) * self._pair.rate_scale
            left = self._fit(rng)
            self._iteration += 1
            if report(self.evaluations / budget, **left, temperature=self._pair.temperature):
                return

    def _block_steps(self) -> int:
        time = self.block * self._experience.lifetime * self.growth**self._iteration
        return max(round(time / self._experience.clock.dt / self.num_envs), 1)

    def _temperature(self, iteration: int) -> float:
        left = max(1 - iteration / self.annealing, 0.0)
        return self.final_temperature + (self.temperature - self.final_temperature) * left

    def _take_units(self) -> None:
        """Set the units of reward by what the first block, played at random, paid."""
        lifetime, pair = self._experience.lifetime, self._pair
        rates = self._blocks[0].reward / self._experience.clock.span
        mean = float(rates.mean())
        pair.rate_scale = float(rates.std()) or 1.0
        offset, scale = (0.0, mean) if self.one_sign else (mean, pair.rate_scale)
        pair.value_offset, pair.value_scale = offset * lifetime, scale * lifetime
        if pair.reward is not None:
            pair.reward.offset, pair.reward.scale = offset, scale

    def _refuse_other_signs(self) -> None:
        rates = self._blocks[-1].reward / self._experience.clock.span
        if self.one_sign and not bool((rates * self._pair.value_scale > 0).all()):
            low, high = float(rates.min()), float(rates.max())
            raise ParameterError(
                f"one_sign needs rewards of one sign, but their rates went from {low:.4g} to {high:.4g}: pass "
                "one_sign=False"
            )

    def _play(self, steps: int, rng: np.random.Generator) -> Transitions:
        block = self._experience.play(steps, lambda s: self._draw(s, rng))
        self.evaluations += steps * self.num_envs
        return block

    def _draw(self, s: Any, rng: np.random.Generator) -> Any:
        """Return actions within the box, float32."""
        m = self._pair.actions
        if self.behaviour == "random" or self._iteration == 0:
            if self.persistence > 0:
                return (2 * scipy.special.ndtr(self._experience.noise(rng, m)) - 1).astype(np.float32)
            return rng.uniform(-1.0, 1.0, (len(s), m)).astype(np.float32)
        proposed = self._pair.sample(self._tensor(s), rng).cpu().numpy()
        proposed += self.exploration * self._experience.noise(rng, m)
        return np.clip(proposed, -1.0, 1.0).astype(np.float32)

    def _fit(self, rng: np.random.Generator) -> dict[str, float]:
        """Take Gauss-Newton steps on all that is kept; return diagnostics of the fit.

        What is left of the moments, in Monte Carlo errors, and of reward, in its units, where it is fitted.
        """
        method: Method = self.method if self._iteration >= self.annealing else "moments"
        moments = Moments(self._pair, self._blocks, self._experience.clock, method)
        seen = flat(self._blocks[-1].s)
        look, seed = self._tensor(seen[torch.as_tensor(rng.integers(len(seen), size=LOOK))]), int(rng.integers(2**31))
        found = {} if self._pair.reward is None else {"reward_residual": self._fit_reward(self._pair.reward, rng)}
        return {"residual": self._newton.run(moments, look, self.steps, seed), **found}

    def _fit_reward(self, reward: FittedReward, rng: np.random.Generator) -> float:
        every = ([flat(part) for part in (block.s, block.u, block.reward)] for block in self._blocks)
        s, u, paid = (torch.cat(parts) for parts in zip(*every, strict=True))
        rates = paid / self._experience.clock.span
        some = torch.as_tensor(rng.integers(len(rates), size=OF_REWARD))
        return reward.fit(self._tensor(s[some]), self._tensor(u[some]), self._tensor(rates[some]))

    def _tensors(self) -> dict[str, Tensor]:
        found = {"parameters": parameters_to_vector(self._pair.parameters()).detach(), **self._experience.tensors()}
        for i, block in enumerate(self._blocks):
            found.update({f"block.{i}.{key}": x for key, x in block._asdict().items() if x is not None})
        return found if self._pair.reward is None else {**found, **self._pair.reward.tensors()}

    def _record(self) -> dict[str, Any]:
        units = {key: getattr(self._pair, key) for key in UNITS}
        return {"iteration": self._iteration, "blocks": len(self._blocks), **units}

    def _restore(self, tensors: dict[str, Tensor], record: dict[str, Any]) -> None:
        vector_to_parameters(tensors["parameters"], self._pair.parameters())
        self._iteration = record["iteration"]
        for key in UNITS:
            setattr(self._pair, key, record[key])
        self._blocks = [
            Transitions(*(tensors[f"block.{i}.{key}"] for key in Transitions._fields[:-1]))
            for i in range(record["blocks"])
        ]
        if self._pair.reward is not None:
            self._pair.reward.restore(tensors)
        self._experience.restore(tensors)


def _prior_deviations(parameter: Tensor) -> Tensor:
    """Return deviations of weights (outputs, inputs) that give a layer outputs of order one, and of biases; flat."""
    inputs = parameter.shape[1] if parameter.ndim == 2 else 1
    return torch.full((parameter.numel(),), inputs**-0.5).to(parameter.detach())
