"""HJBAgent: base class of agents that solve the HJB equation with one network for the value."""

from __future__ import annotations

import abc
import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from hacontrol_agents.core.agent import Agent
from hacontrol_agents.core.greedy import greedy
from hacontrol_agents.hjb.doubts import THOROUGH, apart, doubt_of_policy, doubt_of_value, policy_error
from hacontrol_agents.hjb.equations import Rows, edge_rows
from hacontrol_agents.hjb.first_value import FIRST_REACH, constant, first_value, fit, network, wider
from hacontrol_agents.hjb.sampling import FEW, Look, Region, Visits, around, uniform, visit, widened
from hacontrol_agents.learning.networks import MLP
from hacontrol_agents.learning.optimizers import LevenbergMarquardt
from hacontrol_envs import ControlProblem, Jet
from hacontrol_envs.arrays import Array, Floats
from hacontrol_envs.core.parameters import count, one_of
from hacontrol_envs.errors import CheckpointError

TRUSTED = 0.02
"""Root mean square of the equations up to which a value is believed to be that of its policy."""
ITERATIONS, EVERY = 60, 10
"""Iterations of a learner that is given neither a budget nor their number; from then on, up to twice as many, V is
certified each EVERY iterations, which may end learning or widen the network."""
SMALL_RESIDUAL, SMALL_MOVE, LAST = 1e-4, 5e-4, 5
"""Stopping rule: an agent has learnt if in each of the LAST iterations the residual is below SMALL_RESIDUAL and the
policy moved by less than SMALL_MOVE, relatively."""
LOOKS, STIRRED = 5, 0.02
"""Paths are run in so many first iterations, and in later ones after the policy has moved by more than STIRRED."""
WATCHED = 256
"""Number of visited states at which the policy's moves are measured."""


@dataclass(kw_only=True)
class HJBAgent(Agent):
    """Solves rho V = max_a { r + V_t + L^a V } for a network V, whose greedy policy it plays.

    The policy is alpha(x) = argmax_a { r + L^a V } at V's derivatives, exact and pointwise: in closed form where the
    problem knows its maximiser, by projected Newton steps otherwise. There is no policy network whose own error would
    hide V's. How V is learnt is what subclasses differ in.

    `converged` is judged by residual and policy: whether both tolerances below ended learning, or in each of the last
    five iterations the residual was below 1e-4 and the policy, at states it visits, moved by less than 5e-4 of its root
    mean square. A policy may stand still because no step is accepted: then the residual tells.

    Equations hold at points of a region and at states that the policy visits, each relative to the size of its terms.
    On a box with open edges the equation has many solutions, which differ by what happens outside; the difference
    shrinks inwards as E[e^{-rho tau}], tau the time of leaving, so the region is widened until discounted paths stay in
    it. An edge that the state does not cross has its boundary condition: V's slope is zero across a reflecting one, and
    on a constrained one only actions that stay are admissible.

    Coordinates: the network sees the unit coordinates of the problem's domain (LQR: x, scaled; Merton: log wealth), and
    gives V up to a constant and a factor, or with `value_scale="log"` its logarithm. No homogeneity or quadratic form
    is assumed.
    """

    hidden: tuple[int, ...] | None = None
    """Widths of the value network's hidden layers; None for one of 24 + 4 n units, n the dimension of the state, which
    two of 12 + 2 n, at least 16, take over where it learns no more, and over a finite horizon for two at once."""
    activation: str = "tanh"
    """Activation of the hidden layers."""
    value_scale: Literal["auto", "linear", "log"] = "auto"
    """Scale of the layers' output: "linear" for V, "log" for log |V|; "auto" is log where a state is on a log scale and
    V has a sign: a constant action's rewards are positive even far from the box, or those of all that are tried are
    negative."""
    points: int | None = None
    """Number of points at which equations hold, in an iteration; None for four times the number of network
    parameters."""
    box_share: float = 0.5
    """Share of the points that are uniform in the region; the others are states that the policy visits."""
    visits: int = 512
    """Number of paths that show where the policy leads, in the first five iterations and after it has moved; four times
    as many are run before V is certified."""
    margin: float = 2.0
    """Extent of the region, relative to the farthest reach of the paths."""
    rollout_step: float | None = None
    """Time step of rollouts; None for the environment's. Paths of visits take steps five times as long."""
    residual_tolerance: float = 1e-9
    """Quantile (95 %) of |HJB residual| / mean |reward| at fresh points below which learning may stop; it does once
    `change_tolerance` is met too."""
    change_tolerance: float = 1e-4
    """Relative change of the network's parameters in an iteration below which learning may stop; it does once
    `residual_tolerance` is met too."""
    iterations: int | None = None
    """Iterations when `learn` is given no budget; None for 60, and up to twice as many until V is certified."""

    learns: ClassVar[Any] = ControlProblem

    @property
    def problem(self) -> ControlProblem:
        """The problem behind the environment."""
        return self.env.unwrapped.problem  # type: ignore[no-any-return]

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("value_scale", self.value_scale, ("auto", "linear", "log"))
        count("visits", self.visits)
        if self.iterations is not None:
            count("iterations", self.iterations)
        self._iteration, self._settled, self._learnt, self._haste = 0, 0, False, 0.0
        how = {name: getattr(self, name) for name in ("hidden", "activation", "value_scale", "device")}
        self._v, self._first_action, self._shaped, self._floor = first_value(self.problem, **how, seed=self.seed or 0)
        self._outgrown: Tensor | None = None
        self._doubted = -1, ""
        self._strayed: Visits | None = None
        self._set_network(self._v.network)
        n = self.problem.state.dimension
        self._visits = Visits(*(self._like.new_zeros(shape) for shape in ((0,), (0, n), (0, n), (0, n))))

    def _set_network(self, network: MLP) -> None:
        """Take a network for V's, and all that depends on its size."""
        self._v.network = network
        self._like = parameters_to_vector(network.parameters()).detach()
        self._before = copy.copy(self._v)
        self._before.network = copy.deepcopy(network)
        self._least_squares = LevenbergMarquardt(network)

    def _enlarged(self) -> MLP:
        """Return a network with two hidden layers, of random weights."""
        widths = wider(self.problem)
        return network(self.problem, widths, self.activation, self._v.log, self.seed or 0).to(self._like.device)

    def _extend(self, rng: np.random.Generator) -> None:
        """Learn as far as rare paths go, or where one hidden layer learns no more, go on with two, fitted to V."""
        rows = [row["residual"] for row in self.history]
        stalled = len(rows) >= 20 and np.median(rows[-10:]) > 0.7 * np.median(rows[-20:-10])
        if self._strayed is not None:
            self._visits = self._strayed
        elif self.hidden is None and self._outgrown is None and self.problem.horizon is None and stalled:
            self._grow(rng)

    def _grow(self, rng: np.random.Generator) -> None:
        """Fit a network with two hidden layers to V, and go on with it."""
        points, self._outgrown = self._points(rng), self._parameters()
        target = (self._v.value(*points) - self._v.offset) / self._v.scale
        self._set_network(self._enlarged())
        fit(self._v, wider(self.problem), self._v.coordinates(*points), target)
        self._before.network.load_state_dict(self._v.network.state_dict())

    def policy(self, t: Array, x: Floats) -> Floats:
        return self._on_points(t, x, self._act)  # type: ignore[no-any-return]

    def value(self, t: Array, x: Floats) -> Floats:
        return self._on_points(t, x, self._v.value)  # type: ignore[no-any-return]

    def jet(self, t: Array, x: Floats) -> Jet:
        return Jet(*self._on_points(t, x, self._v.jet))

    def _on_points(self, t: Array, x: Floats, function: Callable[[Tensor, Tensor], Any]) -> Any:
        """Apply a function of tensors t (B,), x (B, n) to arrays with any leading axes."""
        x = np.asarray(x, dtype=np.float64)
        lead = x.shape[:-1]
        flat_t = torch.as_tensor(np.broadcast_to(t, lead).reshape(-1).copy()).to(self._like)
        found = function(flat_t, torch.as_tensor(x.reshape(-1, x.shape[-1])).to(self._like))
        parts = found if isinstance(found, tuple) else (found,)
        arrays = [part.cpu().numpy().reshape(*lead, *part.shape[1:]) for part in parts]
        return tuple(arrays) if isinstance(found, tuple) else arrays[0]

    def _track(self, t: Tensor, x: Tensor, guess: Tensor | None) -> Tensor:
        """Return the greedy action along a path: one Newton step from the action before, which is close to it."""
        return self._act(t, x, guess, 50 if guess is None else 1)

    def _act(self, t: Tensor, x: Tensor, guess: Tensor | None = None, steps: int = 50) -> Tensor:
        """Return the greedy action; before anything is learnt, the first action."""
        problem, v = self.problem, self._v
        if not self._learnt:
            return constant(problem, x, self._first_action)
        if problem.controlled_diffusion:
            _, _, v_x, v_xx = v.jet(t, x)
        else:
            v_x, v_xx = v.slope(t, x), None
        return self._best(t, x, v_x, v_xx, guess, steps)

    def _best(
        self, t: Tensor, x: Tensor, v_x: Tensor, v_xx: Tensor | None, guess: Tensor | None = None, steps: int = 50
    ) -> Tensor:
        """Return the action that is best at given derivatives of V.

        Args:
            t, x, v_x, v_xx: (B,), (B, n), (B, n), (B, n, n); v_xx None where sigma does not depend on the action.
            guess: actions to start from; None for the first action.
            steps: most Newton steps where the problem knows no maximiser.
        """
        problem = self.problem
        a = problem.maximiser(t, x, v_x, v_xx)
        if a is None:
            start = constant(problem, x, self._first_action) if guess is None else guess
            a = greedy(problem, t, x, v_x, v_xx, start, steps)
        return problem.admissible(t, x, a)  # type: ignore[no-any-return]

    def _learn(self, budget: int | None, report: Callable[..., bool]) -> None:
        problem = self.problem
        while self._share_done(budget) < 1:
            rng = np.random.default_rng([self.seed or 0, self._iteration])
            if self._iteration in range(ITERATIONS, 2 * ITERATIONS, EVERY) and self._doubt():
                self._extend(rng)
            if self._settled < LOOKS or self.history[-1]["policy_change"] > STIRRED:
                self._look(rng)
            self._before.network.load_state_dict(self._v.network.state_dict())
            before, played = self._parameters(), self._played()
            loss = self._iterate(rng)
            self._learnt = True
            self._iteration += 1
            change = float((self._parameters() - before).norm() / before.norm())
            row = {"residual": self._hjb_residual(self._points(rng)), "loss": loss, "change": change}
            if report(self._share_done(budget, ahead=1), **row, policy_change=apart(problem, self._played(), played)):
                return

    def _look(self, rng: np.random.Generator) -> None:
        """See where the policy goes, and how much haste its value needs to be finite."""
        problem, rho = self.problem, self.problem.discount
        known = self._region if self._learnt else widened(problem, FIRST_REACH)
        for _ in range(1 if self._learnt else 4):
            seen = self._seen_from(rng, known)
            self._visits, stays = seen.visits, seen.exited <= 0.02 or known.high.max() >= self._v.reach
            if problem.horizon is not None or (seen.decay >= 0.02 * rho and stays):
                self._haste = self._slowed(self._haste)
                break
            if seen.decay >= 0.02 * rho and not self._learnt:
                self._haste = rho
                break
            self._haste = min(max(rho - 2 * min(seen.decay, 0.0), self._haste), 4 * max(self._haste, rho))
        self._settled = self._settled + 1 if self._haste == 0 else 0
        if self._haste and not self._learnt:
            self._v.network.load_state_dict(self._shaped.network.state_dict())

    def _seen_from(
        self, rng: np.random.Generator, known: Region, paths: int = 1, patience: float = 1.0, few: float = FEW
    ) -> Look:
        """Run paths of the policy from initial states until they leave the region in which V is known; see `visit`."""
        v, step = self._v if self._learnt else self._shaped, self._long_step
        x = torch.as_tensor(self.problem.initial_state(rng, paths * self.visits)).to(self._like)
        self.evaluations += int(len(x) * self._v.lifetime / step)
        how = {"haste": self._haste, "patience": patience, "few": few}
        return visit(v, self._track, x, rng, step=step, region=known, **how)

    def _slowed(self, haste: float) -> float:
        """Return less haste where the last evaluation succeeded, in the end none."""
        if not self.history or haste == 0:
            return 0.0
        trusted = self.history[-1]["loss"] <= TRUSTED
        return (0.0 if haste < self.problem.discount / 4 else haste / 2) if trusted else haste

    def _played(self) -> Tensor:
        """Return the actions (S, m) at some of the states visited."""
        return self._act(self._visits.t[:WATCHED], self._visits.x[:WATCHED])

    def _met(self) -> bool:
        last = self.history[-LAST:]
        still = all(
            row["residual"] <= SMALL_RESIDUAL and row.get("policy_change", math.inf) <= SMALL_MOVE for row in last
        )
        return self._has_stopped(last) or (len(last) == LAST and still)

    def _doubt(self) -> str:
        """Return why V and its policy are not certified; see `doubts`. Each iteration is asked once."""
        if self._doubted[0] != self._iteration:
            self._doubted = self._iteration, self._doubt_now()
        return self._doubted[1]

    def _doubt_now(self) -> str:
        doubt = self._doubt_of_value(thorough=False)
        if doubt:
            return doubt
        rng = np.random.default_rng([self.seed or 0, 2**31 + 2])
        where = self._visits, rng, self._region, self._long_step
        error, counted = policy_error(self._v, self._track, self._best, *where)
        self.evaluations += counted
        return doubt_of_policy(error) or self._doubt_of_value(thorough=True)

    def _doubt_of_value(self, thorough: bool) -> str:
        """Return why V is not believed to be the policy's value; keep where paths go if rare ones are the reason."""
        rng = np.random.default_rng([self.seed or 0, 2**31 + 1])
        paths, few = (THOROUGH, 0.0) if thorough else (1, FEW)
        seen = self._seen_from(rng, self._region, paths, 10.0, few)
        keep = self._haste > 0 or (self.problem.horizon is None and seen.decay <= 0)
        doubt = doubt_of_value(seen, keep, thorough)
        self._strayed = seen.visits if thorough and doubt else None
        return doubt

    @abc.abstractmethod
    def _iterate(self, rng: np.random.Generator) -> float:
        """Learn for one iteration; return the root mean square of what is left of the equations."""

    def _share_done(self, budget: int | None, ahead: int = 0) -> float:
        """Return the share of this call of `learn` that is done, what went before a kill included; 1 on convergence."""
        rows = self.history[self.rows_before :]
        if self._has_stopped(rows):
            return 1.0
        if budget is not None:
            return self.evaluations / budget
        if self.iterations is not None:
            return (len(rows) + ahead) / self.iterations
        if ahead or len(rows) < ITERATIONS:
            return (len(rows) + ahead) / ITERATIONS
        due = len(rows) % EVERY == 0 and not self._doubt()
        return 1.0 if due else len(rows) / (2 * ITERATIONS)

    def _has_stopped(self, rows: list[dict[str, float]]) -> bool:
        """Tell whether the last of these rows meets both tolerances."""
        if not rows or self._haste:
            return False
        return rows[-1]["residual"] <= self.residual_tolerance and rows[-1]["change"] <= self.change_tolerance

    def _parameters(self) -> Tensor:
        return parameters_to_vector(self._v.network.parameters()).detach().clone()

    @property
    def _step(self) -> float:
        return float(self.rollout_step or self.env.unwrapped.dt)

    @property
    def _long_step(self) -> float:
        """Time step of the paths that show where the policy leads."""
        if self.problem.horizon is not None:
            return 5 * self._step
        return min(5 * self._step, 0.5 / (self.problem.discount + self._haste))

    @property
    def _region(self) -> Region:
        return around(self._v, self._visits, self.margin)

    def _points(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Return points of the region, and states visited."""
        size = self.points or 4 * len(self._like)
        inside = int(size * self.box_share)
        t, x = uniform(self.problem, rng, inside, self._region, self._like)
        drawn = torch.as_tensor(rng.integers(0, len(self._visits.t), size - inside)).to(x.device)
        return torch.cat([t, self._visits.t[drawn]]), torch.cat([x, self._visits.x[drawn]])

    def _weights(self, points: tuple[Tensor, Tensor], a: Tensor) -> Tensor:
        """Return one over the size of the equation's terms, |r| + rho |V|, and over the root of how many there are."""
        v = self._v
        size: Tensor = self._reward(points, a).abs() + v.value(*points).abs() * (1 / self._v.lifetime + self._haste)
        return 1 / (size if v.log else size + 0.03 * size.mean() + self._floor) / math.sqrt(len(a))

    def _equations(self, points: tuple[Tensor, Tensor], a: Tensor, weight: Tensor) -> Rows:
        """Return the rows weight (r + V_t + L^a V - rho V - haste (V - V before)) = 0."""
        v, rate = self._v, self.problem.discount + self._haste
        rates = -rate * v.scale * weight, v.scale * weight
        return Rows(v.flow(*points, a), *rates, weight * (self._reward(points, a) - rate * v.offset))

    def _reward(self, points: tuple[Tensor, Tensor], a: Tensor) -> Tensor:
        """Return the reward, and where there is haste what V before adds to it, (B,)."""
        reward: Tensor = self.problem.reward(*points, a)
        return reward + self._haste * self._before.value(*points) if self._haste and self._learnt else reward

    def _edges(self, points: tuple[Tensor, Tensor]) -> list[Rows]:
        """Return boundary conditions near some of these points."""
        return edge_rows(self._v, points, self._region, self._floor)

    def _hjb_residual(self, points: tuple[Tensor, Tensor]) -> float:
        """Return the 95 % quantile of |max_a {r + V_t + L^a V} - rho V| over the size of the equation's terms."""
        a, v = self._act(*points), self._v
        reward = self.problem.reward(*points, a)
        residual = v.residual(reward, v.flow(*points, a))
        self.evaluations += len(a)
        size = reward.abs() + v.value(*points).abs() / self._v.lifetime + self._floor
        return float(torch.quantile(residual.abs() / size, 0.95))

    def _tensors(self) -> dict[str, Tensor]:
        now, none = self._parameters(), self._like.new_zeros(0)
        networks = (now, none) if self._outgrown is None else (self._outgrown, now)
        visits = {f"visits.{name}": value for name, value in self._visits._asdict().items()}
        return {"parameters": networks[0], "wider": networks[1], **visits}

    def _record(self) -> dict[str, Any]:
        return {
            "iteration": self._iteration,
            "learnt": self._learnt,
            "settled": self._settled,
            "haste": self._haste,
            "optimizer": self._least_squares.state(),
            "offset": self._v.offset,
            "scale": self._v.scale,
        }

    def _restore(self, tensors: dict[str, Tensor], record: dict[str, Any]) -> None:
        parameters = tensors["parameters"]
        if len(tensors["wider"]):
            self._outgrown, parameters = parameters, tensors["wider"]
            self._set_network(self._enlarged())
            if len(parameters) != len(self._like):
                raise CheckpointError(f"'wider' must have {len(self._like)} parameters, got {len(parameters)}")
        vector_to_parameters(parameters, self._v.network.parameters())
        self._least_squares.restore(record["optimizer"])
        self._visits = Visits(*(tensors[f"visits.{name}"] for name in Visits._fields))
        self._learnt = record["learnt"]
        self._settled, self._haste = record["settled"], record["haste"]
        self._iteration, self._v.offset, self._v.scale = record["iteration"], record["offset"], record["scale"]
