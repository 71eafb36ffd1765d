"""check_vector_env: checks of what Gymnasium promises of any vector environment."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from hacontrol_envs.checks.episodes import DISABLED, NEXT_STEP, SAME_STEP, Plan, Step, play, require_equal, rows_of
from hacontrol_envs.checks.probe import require
from hacontrol_envs.checks.watched import Watched, copy, same
from hacontrol_envs.errors import ParameterError

Factory: TypeAlias = Callable[..., Any]
"""A callable make(num_envs=..., autoreset_mode=...) that returns a VectorEnv."""


def check_vector_env(
    make: str | Factory,
    *,
    single: Callable[[], gym.Env[Any, Any]] | None = None,
    modes: Sequence[AutoresetMode] = (NEXT_STEP, SAME_STEP, DISABLED),
    num_envs: int = 3,
    steps: int = 300,
    seed: int = 0,
    stochastic: bool = True,
    **kwargs: Any,
) -> None:
    """Check that a Gymnasium vector environment keeps the promises that learners rely on.

    Spaces, shapes and dtypes; seeding; autoreset in each mode with Gymnasium's conventions, every mode playing the same
    episodes; rows that depend neither on each other nor on their number, to the last bit; arrays that belong to the
    caller once handed out; rendering where declared.

    Args:
        make: an id for `gym.make_vec`, or a callable `make(num_envs=..., autoreset_mode=...)` that returns a new vector
            environment. For an environment with fewer modes name them in `modes`.
        single: makes the single environment to which every row must be equal, seeded alike; an id brings its own.
        modes: the autoreset modes that the environment offers.
        num_envs: rows.
        steps: steps played by every row; at least one episode must end within them.
        seed: of the environments and of the actions played.
        stochastic: whether seeds matter; False for an environment that draws nothing.
        kwargs: passed on to `make` and, with an id, to `gym.make`.

    Raises:
        ContractError: the first broken promise, with the numbers and what to do about it.
        ParameterError: no episode ended within `steps`, so that autoreset could not be looked at.
    """
    rendering: dict[str, Any] = {}
    if isinstance(make, str):
        rendering = _declared_rendering(make)
        single = single or functools.partial(gym.make, make, disable_env_checker=True, **kwargs)
        make = functools.partial(gym.make_vec, make, **kwargs)
    elif kwargs:
        make = functools.partial(make, **kwargs)
    bench = Bench(make, single, tuple(modes), num_envs, steps, seed, stochastic, rendering)
    for check in CHECKS:
        check(bench)


def _declared_rendering(id: str) -> dict[str, Any]:
    """The argument that makes the environment of this id draw pictures, where it says that it can."""
    env = gym.make(id, disable_env_checker=True)
    declared = env.metadata.get("render_modes", [])
    env.close()
    return {"render_mode": "rgb_array"} if "rgb_array" in declared else {}


class Bench(NamedTuple):
    """A factory of vector environments, and how closely to look at them; see `check_vector_env`."""

    make: Factory
    single: Callable[[], gym.Env[Any, Any]] | None
    modes: tuple[AutoresetMode, ...]
    num_envs: int
    steps: int
    seed: int
    stochastic: bool
    rendering: dict[str, Any]
    """Arguments of `make` with which environments draw pictures."""

    def open(self, num_envs: int | None = None, mode: AutoresetMode | None = None, **kwargs: Any) -> Watched:
        """Make a new environment, watched.

        Args:
            num_envs: number of rows; None takes the bench's.
            mode: autoreset mode; None takes the first of the bench's.
            kwargs: passed on to `make`.
        """
        rows = self.num_envs if num_envs is None else num_envs
        mode = mode or self.modes[0]
        return Watched(self.make(num_envs=rows, autoreset_mode=mode, **kwargs), rows, mode)

    def plan(self, env: Any, rows: int | None = None, *, salt: int = 0) -> Plan:
        """Draw random actions for each row, the same at every call.

        Args:
            env: the environment whose single action space is sampled.
            rows: number of rows; None takes the bench's.
            salt: another number gives other actions.
        """
        plan = []
        for row in range(rows or self.num_envs):
            env.single_action_space.seed(self.seed + 1000 * salt + row)
            plan.append([env.single_action_space.sample() for _ in range(50)])
        return plan


def check_spaces(bench: Bench) -> None:
    """Check the declared autoreset mode, that batched spaces are batches of single ones, and that they hold samples."""
    for mode in bench.modes:
        env = bench.open(mode=mode).env
        declared = env.metadata.get("autoreset_mode")
        advice = "It must be the gymnasium.vector.AutoresetMode in use"
        require(declared is mode, f'metadata["autoreset_mode"] is {declared!r}, made with {mode}. {advice}')
        require(env.num_envs == bench.num_envs, f"num_envs is {env.num_envs}, made with num_envs={bench.num_envs}")
        for kind in ("observation", "action"):
            whole, one = getattr(env, f"{kind}_space"), getattr(env, f"single_{kind}_space")
            batched = batch_space(one, bench.num_envs)
            require(
                whole == batched, f"{kind}_space is {whole}; as a batch of single_{kind}_space it must be {batched}"
            )
        env.action_space.seed(bench.seed)
        require(env.action_space.contains(env.action_space.sample()), "action_space does not contain its own samples")
        env.close()


def check_seeding(bench: Bench) -> None:
    """Check that a seed fixes the episodes, other seeds give others, None goes on, and a list seeds row by row."""
    steps = min(bench.steps, 20)
    env = bench.open()
    plan = bench.plan(env)

    def run(seed: Any) -> list[list[Step]]:
        return play(env, seed, plan, steps)

    for seed in dict.fromkeys((0, bench.seed)):
        first, onward, again, onward_again = run(seed), run(None), run(seed), run(None)
        advice = "Draw only from generators that reset(seed=...) makes"
        require_equal(first, again, f"two runs after reset(seed={seed})", advice)
        require_equal(onward, onward_again, f"two runs after reset(seed={seed}) and reset()", advice)
        advice = "reset() without a seed goes on with the generators; only a seed makes them anew"
        require(
            not bench.stochastic or not _alike(first, onward),
            f"reset() repeats what reset(seed={seed}) played. {advice}",
        )
    listed = run([bench.seed + 1 + i for i in range(bench.num_envs)])
    require_equal(
        run(bench.seed + 1), listed, "reset(seed=s) against reset(seed=[s, s + 1, ...])", "Row i is seeded s + i"
    )
    differ = not bench.stochastic or not _alike(run(bench.seed), run(bench.seed + bench.num_envs))
    require(differ, "two seeds give the same episodes. Use the seed, or pass stochastic=False")
    env.close()


def _alike(one: list[list[Step]], other: list[list[Step]]) -> bool:
    return all(same(tuple(a), tuple(b)) for x, y in zip(one, other, strict=True) for a, b in zip(x, y, strict=True))


def check_autoreset(bench: Bench) -> None:
    """Check that every mode plays the same episodes, and so does the single environment; `play` checks conventions."""
    reference: list[list[Step]] | None = None
    for mode in bench.modes:
        env = bench.open(mode=mode)
        played = play(env, bench.seed, bench.plan(env), bench.steps)
        env.close()
        if not any(step.terminated or step.truncated for row in played for step in row):
            raise ParameterError(f"no episode ended within {bench.steps} steps: raise steps, or make shorter episodes")
        reference = reference or played
        advice = "An episode's steps, its last observation included, do not depend on the autoreset mode"
        require_equal(played, reference, f"{mode.name} against {bench.modes[0].name}", advice)
    if bench.single is not None and reference is not None:
        plan = bench.plan(bench.open())
        alone = [_play_single(bench, bench.seed + i, plan[i]) for i in range(bench.num_envs)]
        advice = "Row i is the single environment seeded s + i"
        require_equal(reference, alone, "the vector environment against single ones", advice)


def _play_single(bench: Bench, seed: int, actions: list[Any]) -> list[Step]:
    assert bench.single is not None
    env, played = bench.single(), []
    before, _ = env.reset(seed=seed)
    for k in range(bench.steps):
        before = copy(before)
        after, reward, terminated, truncated, _ = env.step(actions[k % len(actions)])
        played.append(Step(before, float(reward), terminated, truncated, copy(after)))
        before = env.reset()[0] if terminated or truncated else after
    env.close()
    return played


def check_rows(bench: Bench) -> None:
    """Check that a row depends neither on the number of rows nor on the actions of others."""
    n, steps = bench.num_envs, bench.steps
    for mode in bench.modes:
        few, many, one = (bench.open(rows, mode) for rows in (n, n + 2, 1))
        plan = bench.plan(many, n + 2)
        seeds = [bench.seed + i for i in range(n + 2)]
        base = play(few, seeds[:n], plan[:n], steps)
        advice = "Give every row its own generator, seeded s + i, and compute rows independently of the batch"
        require_equal(base, play(many, seeds, plan, steps)[:n], f"{n} rows against {n + 2} rows ({mode.name})", advice)
        require_equal(
            base[-1:],
            play(one, seeds[n - 1 : n], plan[n - 1 :], steps),
            f"a row against itself alone ({mode.name})",
            advice,
        )
        other = [bench.plan(many, 1, salt=1)[0], *plan[1:n]]
        changed = play(few, seeds[:n], other, steps)
        require_equal(base[1:], changed[1:], f"other actions in row 0 change the next rows ({mode.name})", advice)
        for env in (few, many, one):
            env.close()


def check_partial_reset(bench: Bench) -> None:
    """Check that in DISABLED mode a reset_mask in mid-episode resets those rows and does not touch the others."""
    if DISABLED not in bench.modes:
        return
    touched, left = (bench.open(mode=DISABLED) for _ in range(2))
    plan = bench.plan(left)
    before = touched.reset(bench.seed)[0], left.reset(bench.seed)[0]
    mask = np.arange(bench.num_envs) == 0
    start = rows_of(touched, before[0])[0]
    for k in range(min(bench.steps, 10)):
        advice = "Rows outside the mask go on with their episode and their random numbers"
        outputs = [env.step([row[k] for row in plan]) for env in (touched, left)]
        ends = [out[2] | out[3] for out in outputs]
        for i in range(1, bench.num_envs):
            rows = [(rows_of(touched, out[0])[i], out[1][i], end[i]) for out, end in zip(outputs, ends, strict=True)]
            require(same(*rows), f"after reset_mask={mask} row {i} went on to {rows[0]} instead of {rows[1]}. {advice}")
        if ends[0][1:].any() or ends[1].any():
            break
        seeds: list[int | None] = [bench.seed, *[None] * (bench.num_envs - 1)]
        again = rows_of(touched, touched.reset(seeds, {"reset_mask": mask.copy()})[0])
        require(
            same(again[0], start), f"row 0 reset by mask and seed starts at {again[0]}, the same seed before at {start}"
        )
    touched.close()
    left.close()


def check_ownership(bench: Bench) -> None:
    """Check that a caller who overwrites what was handed out does not disturb the environment."""
    for mode in bench.modes:
        env = bench.open(mode=mode)
        plan = bench.plan(env)
        clean, scribbled = (play(env, bench.seed, plan, bench.steps, scribble=dirty) for dirty in (False, True))
        advice = "Return copies; the environment keeps using an array that it handed out"
        require_equal(clean, scribbled, f"a caller who overwrites what it got ({mode.name})", advice)
        env.close()


def check_render(bench: Bench) -> None:
    """Check that `render`, where declared, returns a frame for each row, as Gymnasium's video wrappers require."""
    env = bench.open(**bench.rendering)
    if env.env.render_mode in ("rgb_array", "ansi"):
        env.reset(bench.seed)
        frames = env.env.render()
        count = len(frames) if isinstance(frames, Sequence) else None
        wanted = f"a tuple of {bench.num_envs}, one for each row"
        require(
            count == bench.num_envs, f"render returned a {type(frames).__name__} of {count} frames; it must be {wanted}"
        )
        if env.env.render_mode == "rgb_array":
            good = all(np.ndim(f) == 3 and np.shape(f)[-1] == 3 and np.asarray(f).dtype == np.uint8 for f in frames)
            require(good, "rgb_array frames must be uint8 arrays (height, width, 3)")
    env.close()


CHECKS: tuple[Callable[[Bench], None], ...] = (
    check_spaces,
    check_seeding,
    check_autoreset,
    check_rows,
    check_partial_reset,
    check_ownership,
    check_render,
)
