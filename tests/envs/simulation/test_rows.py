"""Rows of a vector environment are single environments; compiled steps are those of NumPy; a saved state goes on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from common.sampled_envs import (
    DISABLED,
    NEXT_STEP,
    ROWS,
    SAME_STEP,
    SEED,
    STEPS,
    actions,
    every_case,
    same,
    single,
    staggered,
    vector,
)
from hacontrol_envs.errors import CheckpointError, ResetError
from hacontrol_envs.simulation.env import SDEVectorEnv


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
