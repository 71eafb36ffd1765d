"""What `render` draws: every state on a scale of its own, in bounded time and memory, the same for the same episode."""

from __future__ import annotations

import copy
import json
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from common.marks import slow_where
from hacontrol_envs import registered_ids
from hacontrol_envs.core.domain import Domain
from hacontrol_envs.core.problem import Problem
from hacontrol_envs.errors import ResetError
from hacontrol_envs.simulation.picture_panels import ActionPanel, LawPanel, NodeActionPanel, StatePanel, ValuePanel
from hacontrol_envs.simulation.picture_scales import Scale, labels
from hacontrol_envs.simulation.rendering import POINTS, Film, Screen

pytest.importorskip("matplotlib")

IDS = slow_where(lambda id: id == "FirmInvestment-v0", registered_ids())
SMALL: dict[str, dict[str, Any]] = {
    "KrusellSmith-v0": {"asset_nodes": 40, "asset_max": 200.0, "others": "steady state"},
    "KrusellSmithCloud-v0": {"asset_nodes": 40, "asset_max": 200.0},
}
WARM_MS = 100.0
"""CPU time of a frame, five times what is measured, since a busy machine counts slowly."""


def opened(id: str, **parameters: Any) -> Any:
    """A single environment with pictures, after its reset."""
    env: Any = gym.make(id, render_mode="rgb_array", **{**SMALL.get(id, {}), **parameters}).unwrapped
    env.reset(seed=3)
    return env


def played(env: Any, steps: int) -> Any:
    """The same after so many random steps."""
    rng = np.random.default_rng(0)
    for _ in range(steps):
        env.step(rng.uniform(-1, 1, env.action_space.shape).astype(np.float32))
    return env


def panels(env: Any, kind: type) -> list[Any]:
    """The panels of a kind, with what they show of the episode so far."""
    env.render()
    return [panel for panel in env._rows._films[0].screen._canvas.panels if isinstance(panel, kind)]


def within(panel: Any, line: Any) -> None:
    """Every point of a line is inside of the axes' limits."""
    for data, (low, high) in zip(line.get_data(), (panel.axes.get_xlim(), panel.axes.get_ylim()), strict=True):
        seen = np.asarray(data)[np.isfinite(data)]
        assert seen.size
        assert low <= seen.min() <= seen.max() <= high


def number(text: str) -> float:
    return float(text.replace("\N{MINUS SIGN}", "-"))


@pytest.mark.parametrize("id", IDS)
def test_states_and_actions_are_within_axes_of_their_own_scale(id: str) -> None:
    env = played(opened(id), 30)
    picture, states = env.problem.picture(), panels(env, StatePanel)
    assert [panel.axes.get_title("left") for panel in states] == [picture.states.label(i) for i in range(len(states))]
    final = picture.components(env.state)
    for i, panel in enumerate(states):
        within(panel, panel.path)
        drawn = float(panel.path.get_ydata()[-1])
        shown = 10**drawn if picture.states.log[i] else drawn
        assert shown == pytest.approx(final[i], rel=1e-9)
    for panel in panels(env, ActionPanel):
        within(panel, panel.taken)
    for panel in panels(env, ValuePanel):
        within(panel, panel.line)
        value = float(env.problem.solution().value(env.time, env.problem.observe(env.state)[None])[0])
        assert float(panel.now.get_ydata()[0]) == pytest.approx(value, rel=1e-9)


@pytest.mark.slow
def test_log_productivity_is_drawn_where_it_is_negative() -> None:
    """The scale of capital is logarithmic, and was that of both."""
    env = opened("FirmInvestment-v0")
    env.reset(seed=0, options={"state": np.array([2.0, -0.4])})
    capital, productivity = panels(env, StatePanel)
    assert float(productivity.now.get_ydata()[0]) == -0.4
    assert productivity.axes.get_ylim()[0] <= -0.4 <= productivity.axes.get_ylim()[1]
    assert float(capital.now.get_ydata()[0]) == pytest.approx(np.log10(2.0))


@pytest.mark.parametrize("id", IDS)
def test_ticks_say_where_they_are(id: str) -> None:
    env = played(opened(id), 12)
    for panel in panels(env, object):
        for scale, axis, (low, high) in (
            (panel.x, panel.axes.xaxis, panel.axes.get_xlim()),
            (panel.y, panel.axes.yaxis, panel.axes.get_ylim()),
        ):
            places, texts = scale.ticks((low, high), 5)
            assert 2 <= len(set(texts)) == len(texts) <= 7
            wide = 1e-3 * (high - low)
            np.testing.assert_allclose(scale.place(np.array([number(text) for text in texts])), places, atol=wide)
            assert np.all((places >= low - wide) & (places <= high + wide))
            assert axis.get_scale() == "linear"  # in coordinates of the scale


@pytest.mark.parametrize(
    "scale",
    [Scale.linear(), Scale.of(Domain(["x"], [1e-3], [1e3], "log"), 0), Scale.stretched(0.0), Scale.stretched(-3.0)],
    ids=["linear", "log", "stretched from 0", "stretched from -3"],
)
def test_windows_hold_what_is_seen_and_ticks_are_told_apart(scale: Scale) -> None:
    rng = np.random.default_rng(1)
    for _ in range(300):
        middle, width = rng.uniform(0.5, 8.0), 10.0 ** rng.uniform(-5, 0.5)
        seen = middle + width * rng.uniform(-0.5, 0.5, 20)
        low, high = limits = scale.window(seen)
        assert low < seen.min() <= seen.max() < high
        assert high - low <= 4 * max(np.ptp(seen), scale.least, 1e-8)
        places, texts = scale.ticks(limits, 5)
        assert 2 <= len(texts) == len(set(texts)) <= 7
        assert np.all(np.diff([number(text) for text in texts]) > 0)
        assert np.all(np.diff(places) > 0)


def test_ticks_of_large_small_and_close_numbers() -> None:
    assert labels(np.array([-0.2, -0.1, 0.0, 0.1])) == ["\N{MINUS SIGN}0.2", "\N{MINUS SIGN}0.1", "0.0", "0.1"]
    assert labels(np.array([33.1, 33.101])) == ["33.100", "33.101"]
    assert labels(np.array([1e7, 2e7])) == ["1e+07", "2e+07"]
    assert labels(np.array([0.1, 1.0, 10.0]), even=False) == ["0.1", "1", "10"]


def test_the_law_is_a_histogram_over_assets() -> None:
    for id in ("KrusellSmith-v0", "KrusellSmithCloud-v0"):
        env = played(opened(id), 3)
        (panel,) = panels(env, LawPanel)
        shares, edges, _ = panel.bars.get_data()
        assert shares.sum() == pytest.approx(100.0)
        assets, masses = env.problem.economy.assets, env.problem.law(env.state).sum(axis=0)
        place = panel.x.place(assets)
        for share, low, high in zip(shares, edges[:-1], edges[1:], strict=True):
            inside = (place >= low) & ((place < high) | (high == edges[-1]))
            assert share == pytest.approx(100 * masses[inside].sum(), abs=1e-9)


def test_a_household_sees_its_place_in_the_law_and_a_cloud_what_it_saves() -> None:
    household = opened("KrusellSmith-v0")
    (panel,) = panels(household, LawPanel)
    assert panel.x.inverse(np.array(panel.own.get_xdata()))[0] == pytest.approx(household.state[0], abs=1e-9)
    cloud = played(opened("KrusellSmithCloud-v0"), 1)
    (panel,) = panels(cloud, NodeActionPanel)
    rng = np.random.default_rng(0)
    action = rng.uniform(-1, 1, cloud.action_space.shape).astype(np.float32)
    saved = cloud.to_physical(action).reshape(cloud.problem.shape)
    for line, group in zip(panel.lines, panel.groups, strict=True):
        np.testing.assert_allclose(line.get_ydata(), saved[group])


@pytest.mark.slow
def test_what_is_left_out_is_said_and_axes_have_units() -> None:
    env = opened("LQR-v0", dimension=10)
    assert len(panels(env, StatePanel)) == len(panels(env, ActionPanel)) == 4
    canvas = env._rows._films[0].screen._canvas
    texts = [text.get_text() for text in canvas.figure.texts]
    assert {"state (+ 6 more states)", "action (+ 6 more actions)"} <= set(texts)
    units = {"LQR-v0": "the problem's own unit", "FirmInvestment-v0": "years", "BrockMirman-v0": "periods"}
    for id, unit in {**units, "KrusellSmith-v0": "quarters"}.items():
        assert panels(opened(id), StatePanel)[-1].axes.get_xlabel() == f"time ({unit})"
    assert panels(opened("Merton-v0"), StatePanel)[0].axes.get_title("left") == "wealth (goods)"


def test_legends_are_off_the_data() -> None:
    for id in ("LQR-v0", "KrusellSmith-v0", "KrusellSmithCloud-v0"):
        canvas = opened(id)._rows._films[0].screen._canvas
        assert canvas.figure.legends
        for legend in canvas.figure.legends:
            box = legend.get_window_extent(canvas.renderer)
            assert not any(box.overlaps(panel.axes.bbox) for panel in canvas.panels)
            assert not any(box.overlaps(text.get_window_extent(canvas.renderer)) for text in canvas.figure.texts)


@pytest.mark.slow
def test_the_same_episode_has_the_same_pixels_whatever_was_drawn_before() -> None:
    often, seldom = opened("BrockMirman-v0"), opened("BrockMirman-v0")
    rng = np.random.default_rng(0)
    for _ in range(40):
        action = rng.uniform(-1, 1, 1).astype(np.float32)
        often.step(action), seldom.step(action)
        often.render()
    np.testing.assert_array_equal(often.render(), seldom.render())
    np.testing.assert_array_equal(often.render(), often.render())


@pytest.mark.slow
def test_rows_share_a_figure_and_are_drawn_as_alone() -> None:
    rows: Any = gym.make_vec("LQR-v0", num_envs=3, render_mode="rgb_array", dimension=2)
    rows.reset(seed=3)
    actions = np.random.default_rng(0).uniform(-1, 1, (15, 3, 2)).astype(np.float32)
    for action in actions:
        rows.step(action)
    frames = rows.render()
    assert isinstance(frames, tuple)
    assert len({film.screen for film in rows.unwrapped._films}) == 1
    for row, frame in enumerate(frames):
        alone: Any = gym.make("LQR-v0", render_mode="rgb_array", dimension=2)
        alone.reset(seed=3 + row)
        for action in actions:
            alone.step(action[row])
        np.testing.assert_array_equal(frame, alone.render())


def test_long_episodes_take_no_more_memory() -> None:
    film = Film(Screen(gym.make("LQR-v0").unwrapped.problem, 1.0))  # type: ignore[attr-defined]
    film.start(0.0, np.zeros(1))
    sizes, steps = set(), 5 * POINTS + 3
    for k in range(1, steps + 1):
        film.add(np.array([float(k - 1)]), float(k), np.array([k % 7.0]))
        sizes.add(film._t.nbytes)
        assert len(film.times) <= POINTS + 1
    assert len(sizes) == 1
    t = film.times
    assert film.stride == 8
    np.testing.assert_array_equal(t[:-1], film.stride * np.arange(len(t) - 1))
    assert t[-1] == steps
    np.testing.assert_array_equal(film.states[:, 0], t % 7)
    np.testing.assert_array_equal(film.actions[:-1, 0], t[:-1])  # the action of step k was k
    solution = film.screen.solution
    assert solution is not None
    np.testing.assert_allclose(film.best, solution.policy(t, (t % 7)[:, None]))
    np.testing.assert_allclose(film.values, solution.value(t, (t % 7)[:, None]))
    assert "one in 8 steps drawn" in _clock(film)


def _clock(film: Film) -> str:
    film.frame()
    text: str = film.screen._canvas.clock.get_text()
    return text


def test_films_travel_without_their_figure() -> None:
    env = played(opened("LQR-v0"), 5)
    frame = env.render()
    film = copy.deepcopy(env._rows._films[0])
    assert "_canvas" in vars(env._rows._films[0].screen)
    assert set(vars(film.screen)) == {"problem", "dt"}
    np.testing.assert_array_equal(film.frame(), frame)


def test_no_picture_before_the_first_reset() -> None:
    env: Any = gym.make("LQR-v0", render_mode="rgb_array").unwrapped
    with pytest.raises(ResetError, match="render before reset"):
        env.render()


class Exploding(Problem):
    """A state that is soon beyond any number, and nothing known of the optimum."""

    state, action, horizon, discount, noise_dim = (
        Domain(["x"], [-1.0], [1.0]),
        Domain(["a"], [-1.0], [1.0]),
        None,
        1.0,
        1,
    )

    def initial_state(self, rng: np.random.Generator, size: int) -> Any:
        return np.ones((size, 1))


@pytest.mark.parametrize("x", [1e80, 1e300, np.inf, -np.inf, np.nan])
def test_states_that_exploded_are_drawn_somewhere(x: float) -> None:
    film = Film(Screen(Exploding(), 0.1))
    film.start(0.0, np.ones(1))
    film.add(np.zeros(1), 0.1, np.array([x]))
    assert film.frame().shape == (400, 960, 3)
    assert len(film.screen._canvas.panels) == 2  # a state and an action, and no empty panel for the value


@pytest.mark.slow
@pytest.mark.parametrize("id", IDS)
def test_a_frame_of_a_warm_figure_draws_no_axes_and_takes_little_time(id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    env = opened(id)
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (20, *env.action_space.shape)).astype(np.float32)

    def episode() -> float:
        env.reset(seed=3)
        begin = time.process_time()
        for action in actions:
            env.step(action)
            env.render()
        return 1e3 * (time.process_time() - begin) / len(actions)

    episode()
    drawn: list[Any] = []
    for panel in panels(env, object):
        monkeypatch.setattr(panel.axes, "draw", lambda renderer: drawn.append(renderer))
    assert episode() < WARM_MS
    assert not drawn


def test_frames_take_as_little_as_stated() -> None:
    """Of every id as it is, of ten states, of a finite horizon and of several rows."""
    rows = json.loads((Path(__file__).parents[3] / "benchmarks" / "results" / "rendering.json").read_text())["rows"]
    assert {row["id"] for row in rows} == set(registered_ids())
    for row in rows:
        assert row["warm_ms"] <= 20.0
