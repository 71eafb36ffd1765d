"""Environments: rows against single environments, Gymnasium's conventions, endings, saved states, rewards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.env_checker import check_env as check_env_of_sb3

import hacontrol_envs
from hacontrol_envs import LQR, Merton, noise, registered_ids
from hacontrol_envs.compiled import compiled
from hacontrol_envs.env import SDEEnv, SDEVectorEnv
from hacontrol_envs.errors import CheckpointError, ParameterError, ResetError
from hacontrol_envs.integrate import SCHEMES
from hacontrol_envs.problem import ControlProblem

NEXT_STEP, SAME_STEP, DISABLED = AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP, AutoresetMode.DISABLED
ROWS, STEPS, SEED = 5, 24, 11

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    **{f"{id} {scheme}": (id, {"scheme": scheme}) for id in registered_ids() for scheme in SCHEMES},
    "LQR in 10 dimensions": ("LQR-v0", {"dimension": 10}),
    "LQR over a finite horizon": ("LQR-v0", {"horizon": 0.14, "terminal_cost": 2.0}),
    "Merton over a finite horizon": ("Merton-v0", {"horizon": 1.75, "risk_aversion": 3.5}),
    "Merton with log utility, Milstein": ("Merton-v0", {"horizon": 1.75, "risk_aversion": 1.0, "scheme": "milstein"}),
    "Merton with two assets": (
        "Merton-v0",
        {"expected_return": [0.07, 0.08], "volatility": [[0.2, 0, 0.1], [0, 0.3, 0]]},
    ),
}
every_case = pytest.mark.parametrize(("id", "parameters"), CASES.values(), ids=CASES.keys())
every_id = pytest.mark.parametrize("id", registered_ids())


def single(id: str, parameters: dict[str, Any]) -> SDEEnv:
    env: Any = gym.make(id, episode_steps=7, **parameters).unwrapped
    return env


def vector(id: str, parameters: dict[str, Any], mode: AutoresetMode, rows: int = ROWS) -> SDEVectorEnv:
    env: Any = gym.make_vec(id, num_envs=rows, episode_steps=7, autoreset_mode=mode.value, **parameters)
    return env


def actions(env: SDEVectorEnv) -> np.ndarray[Any, Any]:
    """Some inside the box, some outside."""
    return np.random.default_rng(0).normal(size=(STEPS, *env.action_space.shape)).astype(np.float32)


def staggered(env: SDEVectorEnv) -> dict[str, Any]:
    """Start the rows at different times, so that they end at different steps."""
    return {"time": np.arange(env.num_envs) % 5 * env.dt}


def same(a: Any, b: Any) -> bool:
    return np.asarray(a).dtype == np.asarray(b).dtype and np.array_equal(a, b)


class TestRowsAreSingleEnvironments:
    """Row i of a vector environment seeded s is bitwise the single environment seeded s + i."""

    @every_case
    @pytest.mark.parametrize("mode", AutoresetMode)
    def test_bitwise(self, id: str, parameters: dict[str, Any], mode: AutoresetMode) -> None:
        env = vector(id, parameters, mode)
        singles = [single(id, parameters) for _ in range(ROWS)]
        start = staggered(env)
        together, _ = env.reset(seed=SEED, options=start)
        for i, one in enumerate(singles):
            assert same(one.reset(seed=SEED + i, options={"time": start["time"][i]})[0], together[i])
        play = {NEXT_STEP: self._next_step, SAME_STEP: self._same_step, DISABLED: self._disabled}[mode]
        over = np.zeros(ROWS, bool)
        ends = 0
        for action in actions(env):
            over = play(env, singles, action, over)
            ends += int(over.sum())
            assert all(same(one.state, env.state[i]) for i, one in enumerate(singles) if mode is not SAME_STEP)
        assert ends >= 2 * ROWS

    def _next_step(self, env: Any, singles: Any, action: Any, over: Any) -> Any:
        seen, rewards, terminated, truncated, infos = env.step(action)
        assert infos == {}
        for i, one in enumerate(singles):
            alone = (one.reset()[0], 0.0, False, False) if over[i] else one.step(action[i])[:4]
            assert same(alone[0], seen[i])
            assert alone[1:] == (rewards[i], terminated[i], truncated[i])
        return terminated | truncated

    def _same_step(self, env: Any, singles: Any, action: Any, over: Any) -> Any:
        seen, rewards, terminated, truncated, infos = env.step(action)
        ended = terminated | truncated
        assert set(infos) == ({"final_obs", "_final_obs", "final_info", "_final_info"} if ended.any() else set())
        for i, one in enumerate(singles):
            last, *alone = one.step(action[i])[:4]
            assert alone == [rewards[i], terminated[i], truncated[i]]
            if ended[i]:
                assert infos["_final_obs"][i]
                assert same(infos["final_obs"][i], last)
                last = one.reset()[0]
            elif ended.any():
                assert infos["final_obs"][i] is None
                assert not infos["_final_obs"][i]
            assert same(last, seen[i])
        return ended

    def _disabled(self, env: Any, singles: Any, action: Any, over: Any) -> Any:
        if over.any():
            with pytest.raises(ResetError, match="over"):
                env.step(action)
            seen, _ = env.reset(options={"reset_mask": over})
            for i in np.flatnonzero(over):
                with pytest.raises(ResetError, match="over"):
                    singles[i].step(action[i])
                assert same(singles[i].reset()[0], seen[i])
        seen, rewards, terminated, truncated, _ = env.step(action)
        for i, one in enumerate(singles):
            alone, *rest = one.step(action[i])[:4]
            assert same(alone, seen[i])
            assert rest == [rewards[i], terminated[i], truncated[i]]
        return terminated | truncated

    @every_case
    def test_a_row_does_not_depend_on_the_batch(self, id: str, parameters: dict[str, Any]) -> None:
        """Vector instructions, their remainders and blocks of rows all give the same bits."""
        many = vector(id, parameters, NEXT_STEP, 301)
        rows = [0, 1, 3, 62, 63, 64, 255, 256, 299, 300]
        few = [vector(id, parameters, NEXT_STEP, 1) for _ in rows]
        many.reset(seed=SEED)
        for row, env in zip(rows, few, strict=True):
            env.reset(seed=SEED + row)
        for action in actions(many)[:10]:
            together = many.step(action)
            for row, env in zip(rows, few, strict=True):
                assert all(
                    same(a[0], b[row]) for a, b in zip(env.step(action[row : row + 1])[:4], together[:4], strict=True)
                )

    def test_a_list_of_seeds(self) -> None:
        env, one = vector("LQR-v0", {}, DISABLED), single("LQR-v0", {})
        seen, _ = env.reset(seed=[5, 900, np.int64(3), 0, 12345678901234567890])
        for row, seed in enumerate([5, 900, 3, 0, 12345678901234567890]):
            assert same(one.reset(seed=seed)[0], seen[row])
            assert env.np_random_seed[row] == seed == one.np_random_seed


class TestConventions:
    @every_id
    @pytest.mark.parametrize("horizon", [None, 5.0])
    def test_checkers_of_gymnasium_and_sb3(self, id: str, horizon: float | None) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            # The one piece of advice we do not take: a state is unbounded, and so is what is seen of it.
            warnings.filterwarnings("ignore", message=".*A Box observation space m.* is -?infinity.*")
            check_env(gym.make(id, horizon=horizon, render_mode="rgb_array").unwrapped)
            check_env_of_sb3(gym.make(id, horizon=horizon))

    @every_id
    def test_types(self, id: str) -> None:
        env = gym.make(id)
        seen, _ = env.reset(seed=0)
        assert seen.dtype == np.float32
        assert [type(part) for part in env.step(env.action_space.sample())[1:]] == [float, bool, bool, dict]
        env = vector(id, {}, NEXT_STEP)
        env.reset(seed=0)
        assert [part.dtype for part in env.step(env.action_space.sample())[:4]] == [np.float32, np.float64, bool, bool]

    @every_id
    @pytest.mark.parametrize("mode", ["NextStep", "SameStep", "Disabled"])
    def test_the_spec_is_the_record_of_the_run(self, id: str, mode: str) -> None:
        env = gym.make_vec(
            id, num_envs=3, autoreset_mode=mode, scheme="euler", dt=0.125, max_episode_steps=9, discount=0.07
        )
        again = gym.make_vec(EnvSpec.from_json(env.spec.to_json()))
        assert again.unwrapped.get_state().keys() == env.unwrapped.get_state().keys()
        assert (again.num_envs, again.dt, again.scheme, again.episode_steps) == (3, 0.125, "euler", 9)
        assert again.metadata["autoreset_mode"] is AutoresetMode(mode)
        assert again.problem.parameters == env.problem.parameters
        alone = gym.make(EnvSpec.from_json(gym.make(id, discount=0.08).spec.to_json())).unwrapped
        assert alone.problem.discount == 0.08
        assert alone.gamma == pytest.approx(np.exp(-0.08 * alone.dt), rel=1e-15)

    @every_case
    def test_coordinates_are_inverse_to_each_other(self, id: str, parameters: dict[str, Any]) -> None:
        env = vector(id, parameters, NEXT_STEP)
        rng = np.random.default_rng(1)
        x = env.problem.state.from_unit(rng.normal(size=(4, 3, env.problem.state.dimension)))
        t = rng.integers(0, 7, (4, 3)) * env.dt
        back_t, back_x = env.from_observation(env.to_observation(t, x))
        np.testing.assert_allclose(env.problem.state.to_unit(back_x), env.problem.state.to_unit(x), atol=1e-6)
        np.testing.assert_allclose(back_t, t * env.finite, atol=1e-6)
        unit = rng.uniform(-1, 1, (4, 3, env.problem.action.dimension))
        np.testing.assert_allclose(env.from_physical(env.to_physical(unit)), unit, atol=1e-12)
        seen, _ = env.reset(seed=0)
        assert same(env.to_observation(env.time, env.state), seen)
        assert same(single(id, parameters).to_observation(0.0, env.state[0]), env.to_observation(0.0, env.state)[0])
        units = env.problem.state.to_unit(env.state)
        np.testing.assert_allclose(seen[:, : units.shape[1]], units, rtol=1e-6, atol=1e-12)

    @every_id
    def test_an_action_outside_is_clipped(self, id: str) -> None:
        one, other = single(id, {}), single(id, {})
        one.reset(seed=2), other.reset(seed=2)
        outside = np.full(one.action_space.shape, -3.5, np.float32)
        assert one.step(outside)[1] == other.step(np.clip(outside, -1, 1))[1]
        assert same(one.state, other.state)

    @every_id
    def test_arrays_are_not_reused(self, id: str) -> None:
        for mode in AutoresetMode:
            env = vector(id, {}, mode)
            env.reset(seed=0)
            first = env.step(env.action_space.sample())[:4]
            kept = [part.copy() for part in first]
            env.step(env.action_space.sample())
            assert all(same(part, copy) for part, copy in zip(first, kept, strict=True))

    @every_id
    @pytest.mark.parametrize("parameters", [{}, {"horizon": 2.0}])
    def test_pictures(self, id: str, parameters: dict[str, Any]) -> None:
        env = gym.make(id, render_mode="rgb_array", **parameters)
        env.reset(seed=0)
        first = env.render()
        env.step(env.action_space.sample())
        assert first.dtype == np.uint8
        assert first.ndim == 3
        assert first.shape == env.render().shape == (*first.shape[:2], 3)
        assert len(np.unique(first)) > 20
        assert not np.array_equal(first, env.render())
        several = gym.make_vec(id, num_envs=2, render_mode="rgb_array", **parameters)
        several.reset(seed=0)
        assert [frame.shape for frame in several.render()] == [first.shape] * 2
        assert gym.make(id).unwrapped.render() is None

    def test_random_starts_differ_and_streams_go_on(self) -> None:
        env, other = vector("LQR-v0", {}, NEXT_STEP), vector("LQR-v0", {}, NEXT_STEP)
        first, second = env.reset()[0], other.reset()[0]
        assert len(np.unique(np.concatenate([first, second, env.reset()[0]]))) == 3 * ROWS
        one = single("LQR-v0", {})
        starts = [one.reset(seed=4)[0], *(one.reset()[0] for _ in range(100))]
        assert len(np.unique(starts)) == 101
        assert same(one.reset(seed=4)[0], starts[0])

    def test_importing_is_light(self) -> None:
        code = "import hacontrol_envs, sys; print([m for m in ('numba', 'torch', 'matplotlib') if m in sys.modules])"
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ), check=True
        )
        assert done.stdout.strip() == "[]"


class TestEndings:
    @every_id
    @pytest.mark.parametrize("mode", AutoresetMode)
    def test_a_finite_horizon_terminates_and_an_infinite_one_is_truncated(self, id: str, mode: AutoresetMode) -> None:
        for horizon, which in ((None, 3), (7 * 0.25, 2)):
            env = vector(id, {"dt": 0.25, "horizon": horizon}, mode)
            env.reset(seed=0)
            flags = [env.step(np.zeros(env.action_space.shape, np.float32))[2:4] for _ in range(7)]
            assert not np.any(flags[:6])
            assert flags[6][which - 2].all()
            assert not flags[6][3 - which].any()

    @every_id
    def test_never(self, id: str) -> None:
        env: Any = gym.make(id, episode_steps=None).unwrapped
        env.reset(seed=0)
        assert not any(env.step(np.zeros(env.action_space.shape, np.float32))[3] for _ in range(300))

    def test_time_to_go_falls_from_one_to_zero(self) -> None:
        env = single("LQR-v0", {"horizon": 0.14})
        seen = [env.reset(seed=0)[0], *(env.step([0.0])[0] for _ in range(7))]
        np.testing.assert_allclose([s[-1] for s in seen], 1 - np.arange(8) / 7, atol=1e-7)
        assert seen[-1][-1] == 0
        assert all(s in env.observation_space for s in seen)

    @pytest.mark.parametrize("scheme", SCHEMES)
    def test_the_last_reward_holds_the_discounted_terminal_reward(self, scheme: str) -> None:
        with_, without = (single("LQR-v0", {"horizon": 0.14, "terminal_cost": S, "scheme": scheme}) for S in (2.0, 0.0))
        with_.reset(seed=3), without.reset(seed=3)
        a = without.from_physical([0.4])  # the boxes differ with the terminal cost, the physical action does not
        pairs = [(with_.step(with_.from_physical([0.4])), without.step(a)) for _ in range(7)]
        gaps = [one[1] - other[1] for one, other in pairs]
        np.testing.assert_allclose(gaps[:6], 0, atol=1e-14)
        assert gaps[6] == pytest.approx(-with_.gamma * with_.state[0] ** 2, rel=1e-6)

    def test_start_from_a_state_and_time(self) -> None:
        env = vector("Merton-v0", {"horizon": 1.75}, DISABLED)
        env.reset(seed=0)
        before = env.state
        mask = np.array([True, False, False, True, False])
        x = np.array([[2.0], [9.0], [9.0], [3.0], [9.0]])
        seen, _ = env.reset(options={"reset_mask": mask, "state": x, "time": 0.5})
        np.testing.assert_array_equal(env.state, np.where(mask[:, None], x, before))
        np.testing.assert_array_equal(env.time, np.where(mask, 0.5, 0.0))
        assert same(seen, env.to_observation(env.time, env.state))
        ended = [env.step(np.zeros((5, 2)))[2] for _ in range(5)]
        np.testing.assert_array_equal(ended[4], mask)
        env.reset(options={"state": [1.5]})
        np.testing.assert_array_equal(env.state, np.full((5, 1), 1.5))


class TestSavedStates:
    @every_case
    @pytest.mark.parametrize("mode", AutoresetMode)
    def test_going_on_is_bitwise(self, id: str, parameters: dict[str, Any], mode: AutoresetMode) -> None:
        env, other = vector(id, parameters, mode), vector(id, parameters, mode)
        env.reset(seed=SEED, options=staggered(env))
        self._play(env, 4)
        saved = env.get_state()
        kept = {name: array.copy() for name, array in saved.items()}
        expected = self._play(env, STEPS)
        assert all(same(kept[name], saved[name]) for name in kept)
        assert {array.dtype.name for array in saved.values()} <= {"uint64", "float64", "int64", "bool"}
        other.set_state(saved)
        found = self._play(other, STEPS)
        assert all(same(a, b) for a, b in zip(expected, found, strict=True))
        env.set_state(saved)
        assert all(same(a, b) for a, b in zip(expected, self._play(env, STEPS), strict=True))
        assert all(same(a, b) for a, b in zip(env.get_state().values(), other.get_state().values(), strict=True))

    def _play(self, env: SDEVectorEnv, count: int) -> list[Any]:
        parts = []
        for action in actions(env)[:count]:
            *step, _ = env.step(action)
            parts += step
            if env.autoreset_mode is DISABLED and (step[2] | step[3]).any():
                parts.append(env.reset(options={"reset_mask": step[2] | step[3]})[0])
        return parts

    def test_a_state_of_another_environment_is_refused(self) -> None:
        env = vector("LQR-v0", {}, NEXT_STEP)
        env.reset(seed=0)
        for bad in (
            {},
            vector("LQR-v0", {}, NEXT_STEP, 3).get_state(),
            vector("LQR-v0", {"dimension": 2}, NEXT_STEP).get_state(),
        ):
            before = env.get_state()
            with pytest.raises(CheckpointError, match="must be an array"):
                env.set_state(bad)
            assert all(same(a, b) for a, b in zip(before.values(), env.get_state().values(), strict=True))

    def test_before_the_first_reset(self) -> None:
        env, other = vector("LQR-v0", {}, NEXT_STEP), vector("LQR-v0", {}, NEXT_STEP)
        other.reset(seed=0)
        other.set_state(env.get_state())
        with pytest.raises(ResetError, match="reset"):
            other.step(np.zeros((ROWS, 1)))


class TestNoise:
    def test_streams_are_those_of_numpy(self) -> None:
        """Two million draws, tails included, equal NumPy's to rounding, and leave the stream where NumPy leaves it."""
        rows, draws = 64, 32768
        streams = np.stack([noise.stream(seed) for seed in range(rows)])
        drawn = np.empty((rows, draws))
        noise.draw(streams, np.zeros(rows, bool), drawn)
        generators = [
            np.random.Generator(np.random.SFC64(np.random.SeedSequence(s, spawn_key=(1,)))) for s in range(rows)
        ]
        np.testing.assert_allclose(drawn, [g.standard_normal(draws) for g in generators], rtol=0, atol=1e-13)
        np.testing.assert_array_equal(streams, [g.bit_generator.state["state"]["state"] for g in generators])
        assert np.abs(drawn).max() > noise.TAIL + 1

    def test_idle_rows_draw_nothing(self) -> None:
        streams, drawn = np.stack([noise.stream(seed) for seed in range(2)]), np.ones((2, 3))
        noise.draw(streams, np.array([True, False]), drawn)
        assert np.array_equal(streams[0], noise.stream(0))
        assert not np.array_equal(streams[1], noise.stream(1))
        assert np.all(drawn[0] == 0)


def test_a_loop_without_a_place_for_its_cache_is_compiled_all_the_same() -> None:
    """As in a read-only installation: code without a file has nowhere to keep its machine code either."""
    made: dict[str, Any] = {}
    exec("def twice(x):\n    return 2 * x", made)
    assert compiled(made["twice"])(21) == 42


class WithoutKernel(ControlProblem):
    """Merton through NumPy alone: what a problem without a compiled transition goes through."""

    def __init__(self, **parameters: Any) -> None:
        self.inner = Merton(**parameters)
        self.state, self.action, self.noise_dim = self.inner.state, self.inner.action, self.inner.noise_dim
        self.discount, self.horizon = self.inner.discount, self.inner.horizon

    def drift(self, t: Any, x: Any, a: Any) -> Any:
        return self.inner.drift(t, x, a)

    def diffusion(self, t: Any, x: Any, a: Any) -> Any:
        return self.inner.diffusion(t, x, a)

    def reward(self, t: Any, x: Any, a: Any) -> Any:
        return self.inner.reward(t, x, a)

    def initial_state(self, rng: np.random.Generator, size: int) -> Any:
        return self.inner.initial_state(rng, size)

    def exact_step(self, t: Any, x: Any, a: Any, dt: float, noise: Any) -> Any:
        loading = a[..., :-1] @ self.inner.sigma
        growth = self.inner.risk_free_rate + a[..., :-1] @ self.inner.excess - a[..., -1] - (loading**2).sum(-1) / 2
        return x * np.exp(growth * dt + np.sqrt(dt) * (loading * noise).sum(-1))[..., None]


class WithoutLaw(WithoutKernel):
    exact_step = ControlProblem.exact_step


@pytest.mark.parametrize("parameters", [{}, CASES["Merton with two assets"][1], {"horizon": 1.75}])
def test_the_numpy_path_and_the_compiled_path_agree(parameters: dict[str, Any]) -> None:
    envs = [
        SDEVectorEnv(problem, ROWS, dt=0.25, episode_steps=7, autoreset_mode=NEXT_STEP)
        for problem in (Merton(**parameters), WithoutKernel(**parameters))
    ]
    starts = [env.reset(seed=SEED)[0] for env in envs]
    assert same(*starts)
    for action in actions(envs[0]):
        (seen, _, *flags, _), (other, _, *other_flags, _) = (env.step(action) for env in envs)
        np.testing.assert_allclose(other, seen, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(envs[1].state, envs[0].state, rtol=1e-13)
        assert all(map(same, flags, other_flags))


def test_a_problem_without_a_law_refuses_the_exact_scheme() -> None:
    with pytest.raises(ParameterError, match=r"WithoutLaw does not know its transition law.*'euler', 'milstein'"):
        SDEEnv(WithoutLaw(), dt=0.25)
    env = SDEEnv(WithoutLaw(), dt=0.25, scheme="milstein")
    env.reset(seed=0)
    x, a = env.state, env.to_physical([0.5, 0.5])
    reward = env.step([0.5, 0.5])[1]
    held = -np.expm1(-0.05 * 0.25) / 0.05
    assert reward == pytest.approx(float(env.problem.reward(0.0, x, a)) * held, rel=1e-12)


def test_a_discretised_step_keeps_wealth_positive() -> None:
    env = SDEVectorEnv(Merton(volatility=3.0), 200, dt=4.0, scheme="euler")
    env.reset(seed=0)
    for _ in range(50):
        seen, rewards, *_ = env.step(np.ones(env.action_space.shape))
        assert np.all(np.isfinite(seen))
        assert np.all(np.isfinite(rewards))
    assert env.state.min() >= 1e-7


@every_id
def test_no_nan_under_random_and_corner_actions(id: str) -> None:
    env = vector(id, {}, SAME_STEP, 1024)
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    for step in range(400):
        action = rng.uniform(-1, 1, env.action_space.shape)
        seen, rewards, *_ = env.step(np.sign(action) if step % 2 else action)
        assert np.isfinite(seen).all()
        assert np.isfinite(rewards).all()


def test_the_readme_of_the_package_runs() -> None:
    assert "gym.make" in str(hacontrol_envs.__doc__)
    env: Any = gym.make("Merton-v0", risk_aversion=3.0)
    env.reset(seed=0)
    assert env.unwrapped.problem.solution().policy(0.0, env.unwrapped.state).shape == (2,)
    assert json.loads(env.spec.to_json())["kwargs"]["risk_aversion"] == 3.0
    assert isinstance(gym.make("LQR-v0").unwrapped.problem, LQR)
