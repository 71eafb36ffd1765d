"""Noise streams, compiled loops, and the steps of problems that know less about themselves."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.sampled_envs import (
    CASES,
    NEXT_STEP,
    ROWS,
    SEED,
    actions,
    same,
)
from hacontrol_envs import Merton
from hacontrol_envs.core.problem import ControlProblem
from hacontrol_envs.errors import ParameterError
from hacontrol_envs.numerics.compiled import compiled
from hacontrol_envs.simulation import noise
from hacontrol_envs.simulation.env import SDEEnv, SDEVectorEnv


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


@pytest.mark.slow
def test_a_compiled_function_follows_a_file_that_it_calls_into(tmp_path: Path) -> None:
    """Each process compiles `twice`, or finds it on disk: where `step` has changed, what is on disk is another's."""
    head = "from hacontrol_envs.numerics.compiled import compiled\n"
    call = "from inner import step\n\n@compiled\ndef twice(x):\n    return step(x) + step(x)\n\nprint(twice(3.0))\n"
    (tmp_path / "outer.py").write_text(head + call)

    def run(body: str) -> tuple[float, int]:
        (tmp_path / "inner.py").write_text(f"{head}\n@compiled\ndef step(x):\n    return {body}\n")
        places = {"NUMBA_CACHE_DIR": str(tmp_path / "kept"), "PYTHONPATH": os.pathsep.join(sys.path)}
        found = subprocess.run(
            [sys.executable, str(tmp_path / "outer.py")],
            env={**os.environ, **places},
            capture_output=True,
            text=True,
            check=True,
        )
        return float(found.stdout), len(list((tmp_path / "kept").rglob("outer.twice-*.nbc")))

    assert run("x + 1") == (8.0, 1)
    assert run("x + 1") == (8.0, 1)
    assert run("x * 10") == (60.0, 2)


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


class WithoutStep(WithoutKernel):
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


def test_a_problem_without_an_exact_step_refuses_the_exact_scheme() -> None:
    with pytest.raises(ParameterError, match=r"WithoutStep does not know its exact transition.*'euler', 'milstein'"):
        SDEEnv(WithoutStep(), dt=0.25)
    env = SDEEnv(WithoutStep(), dt=0.25, scheme="milstein")
    env.reset(seed=0)
    x, a = env.state, env.to_physical([0.5, 0.5])
    reward = env.step([0.5, 0.5])[1]
    held = -np.expm1(-0.05 * 0.25) / 0.05
    assert reward == pytest.approx(float(env.problem.reward(0.0, x, a)) * held, rel=1e-12)
