"""Outsider: a policy of any library, or any function of observations, as an agent that can be judged."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias, final

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from hacontrol_agents import Agent, Learner
from hacontrol_agents.core.wrappers import refuse_changing
from hacontrol_envs import Problem
from hacontrol_envs.arrays import Array, Floats
from hacontrol_envs.errors import ActionError, ParameterError

Play: TypeAlias = "Callable[[NDArray[np.float32]], Any]"
"""Function of observations, as the environment gives them, that returns actions in [-1, 1]^m."""

SLACK = 1e-5
"""Tolerance of single precision: by how much an action may exceed its box, or differ from the same row asked alone."""


def as_agent(model: Any, env: Any) -> Any:
    """Return what can be judged on an environment of ours: an agent as it is, any other model as an `Outsider`.

    An object with a `policy(t, x)` of physical times and states that returns physical actions, and without `predict`,
    is judged as it is.

    Raises:
        ParameterError: the environment is not ours, or changed by a wrapper; or the model does not play in it.
        ActionError: the model's actions are not in the environment's box [-1, 1]^m.
    """
    problem = getattr(getattr(env, "unwrapped", None), "problem", None)
    if not isinstance(problem, Problem):
        raise ParameterError(f'env must be an hacontrol environment, such as gym.make("LQR-v0"); got {env!r}')
    refuse_changing(env)
    knows_physics = not hasattr(model, "predict") and callable(getattr(model, "policy", None))
    return model if isinstance(model, Learner) or knows_physics else Outsider(model=model, env=env)


@final
@dataclass(kw_only=True)
class Outsider(Agent):
    """An agent that plays what a model says: one with `predict(observation, ...)`, as in SB3, or a function.

    The model is given the environment's float32 observations, and answers in the environment's action box [-1, 1]^m.
    All rows are asked at once where that gives the same as asking row by row, else row by row. Where `predict` takes
    `deterministic` it is True; a policy that draws its actions otherwise is judged as it draws them. A recurrent policy
    is judged without memory: at each state as if an episode began there. Observations are normalised first where the
    model says how (VecNormalize).
    """

    model: Any
    """The model or function that chooses actions."""

    def __post_init__(self) -> None:
        super().__post_init__()
        env = self.env.unwrapped
        self._width = self.problem.action.dimension
        self._name = getattr(self.model, "__qualname__", type(self.model).__name__)
        self._refuse_other_spaces()
        self._play = _player(self.model)
        rng = np.random.default_rng(0)
        rows = self._width + 2  # so that a batch is not taken for an action, nor an action for a batch
        x = self.problem.observe(self.problem.some_states(rng, rows))
        self._at_once = True
        self._at_once = self._takes_batches(env.as_observation(rng.uniform(0.0, self.problem.horizon or 0.0, rows), x))

    @property
    def _title(self) -> str:
        return self._name

    def policy(self, t: Array, x: Floats) -> Floats:
        env, lead = self.env.unwrapped, np.shape(x)[:-1]
        seen = env.as_observation(np.broadcast_to(t, lead), np.asarray(x))
        played = self._actions(seen.reshape(-1, seen.shape[-1]))
        chosen: Floats = env.to_physical(np.clip(played, -1.0, 1.0))
        return chosen.reshape(*lead, -1)

    def _learn(self, budget: int | None, report: Callable[..., bool]) -> None:
        raise ParameterError(f"{self._name} learns by its own library")

    def _identity(self) -> dict[str, Any]:
        raise ParameterError(f"{self._name} is saved by its own library")

    def _refuse_other_spaces(self) -> None:
        """Raise ParameterError where a model that tells its spaces plays in others than the environment's."""
        inner = self.env.unwrapped
        for name in ("observation_space", "action_space"):
            own = getattr(inner, f"single_{name}", getattr(inner, name))
            found = getattr(self.model, name, None)
            if isinstance(found, gym.Space) and (
                found.shape != own.shape or (name == "action_space" and (found != own or type(found) is not type(own)))
            ):
                raise ParameterError(f"{self._name} has the {name} {found}, but the environment's is {own}")

    def _takes_batches(self, seen: NDArray[np.float32]) -> bool:
        """Whether observations (B, k) at once give the actions that one at a time gives; it refuses what gives none."""
        try:
            first, again = (self._checked(self._play(seen), len(seen)) for _ in range(2))
        except Exception as batched:  # of code that is not ours, about which nothing is known
            try:
                self._alone(seen)
            except ActionError:
                raise
            except Exception as error:
                raise ParameterError(
                    f"{self._name} does not play in this environment: it refuses observations of shape {seen.shape} "
                    f"({type(batched).__name__}: {batched}) and of shape {seen[0].shape} ({type(error).__name__}: "
                    f"{error})"
                ) from error
            return False
        try:
            alone = self._alone(seen)
        except Exception:  # it takes batches only
            return True
        drawn = not np.array_equal(first, again)
        return drawn or bool(np.allclose(first, alone, rtol=0.0, atol=SLACK))

    def _actions(self, seen: NDArray[np.float32]) -> Floats:
        """Actions (B, m) at observations (B, k)."""
        return self._checked(self._play(seen), len(seen)) if self._at_once else self._alone(seen)

    def _alone(self, seen: NDArray[np.float32]) -> Floats:
        return np.concatenate([self._checked(self._play(row), None) for row in seen])

    def _checked(self, answer: Any, rows: int | None) -> Floats:
        """The model's answer as actions (B, m) in their box, (1, m) where it was asked about a single observation.

        Raises:
            ActionError: it is something else.
        """
        if hasattr(answer, "detach"):
            answer = answer.detach().cpu()
        wanted = (self._width,) if rows is None else (rows, self._width)
        try:
            found = np.asarray(answer)
        except ValueError as error:
            raise ActionError(f"{self._name} must return actions of shape {wanted}, got {answer!r:.200}") from error
        if found.dtype.kind not in "fiu":
            raise ActionError(
                f"{self._name} must return actions of shape {wanted}, real numbers; got {type(answer).__name__} of "
                f"type {found.dtype}: {answer!r:.200}"
            )
        lone = {(1, self._width)} if rows is None else set()
        short = {(() if rows is None else (rows,))} if self._width == 1 else set()
        if found.shape not in {wanted, *lone, *short}:
            raise ActionError(f"{self._name} must return actions of shape {wanted}, got shape {found.shape}")
        actions = found.astype(np.float64).reshape(-1, self._width)
        if not np.isfinite(actions).all():
            raise ActionError(f"{self._name} returned actions that are not finite")
        if np.abs(actions).max(initial=0.0) > 1 + SLACK:
            raise ActionError(
                f"{self._name} must return actions in the environment's box [-1, 1], got numbers from "
                f"{actions.min():.6g} to {actions.max():.6g}: clip them if that is meant, as the environment does; "
                "physical ones are translated by env.unwrapped.from_physical"
            )
        return actions


def _player(model: Any) -> Play:
    """What gives actions at observations.

    Raises:
        ParameterError: the model neither has `predict` nor can be called, or is a class.
    """
    if inspect.isclass(model):
        raise ParameterError(f"the model must be an object that plays, got the class {model.__name__}: make one of it")
    predict = getattr(model, "predict", None)
    if predict is None and callable(model):
        return model  # type: ignore[no-any-return]
    if not callable(predict):
        raise ParameterError(
            "the model must be an agent, have predict(observation), or be a function of observations; got a "
            f"{type(model).__name__}: {model!r:.200}"
        )
    taken = _parameters(predict)
    given = {"deterministic": True} if {"deterministic", "**"} & set(taken) else {}
    needed = [name for name in ("state", "episode_start") if taken.get(name) is inspect.Parameter.empty]
    normalise = _normaliser(model)

    def play(seen: NDArray[np.float32]) -> Any:
        starts = np.ones(len(seen) if seen.ndim == 2 else 1, dtype=bool)
        memory = {name: None if name == "state" else starts for name in needed}
        answer = predict(normalise(seen), **memory, **given)
        return answer[0] if isinstance(answer, tuple) and len(answer) == 2 else answer

    return play


def _parameters(function: Callable[..., Any]) -> dict[str, Any]:
    """Defaults of a function's parameters by name, `Parameter.empty` where there is none; "**" if it takes any."""
    try:
        known = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return {}
    return {"**" if one.kind is one.VAR_KEYWORD else one.name: one.default for one in known}


def _normaliser(model: Any) -> Play:
    """How a model of Stable-Baselines3 that was trained on normalised observations wants to have them."""
    wrapped = model.get_vec_normalize_env() if hasattr(model, "get_vec_normalize_env") else None
    if wrapped is None or not wrapped.norm_obs:
        return lambda seen: seen
    return wrapped.normalize_obs  # type: ignore[no-any-return]
