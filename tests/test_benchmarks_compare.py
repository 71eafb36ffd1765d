"""What the figure of learned against analytic draws of a learnt rate of advantage."""

import gymnasium as gym
import numpy as np
import pytest

from hacontrol_agents import make_agent

pytest.importorskip("matplotlib")

from hacontrol_benchmarks.compare import compare_figure
from hacontrol_benchmarks.figures import COLOURS, TRUTH


def rated(env, rate):
    agent = make_agent("analytic", env=env, seed=0)
    agent.rate = rate
    return agent


def rate_panels(figure):
    return [axes for axes in figure.axes if axes.get_title() == "rate of advantage q"]


def test_rates_are_drawn_along_each_action_at_the_centre_with_the_others_at_their_optimum():
    env, asked = gym.make("Merton-v0"), []
    problem = env.unwrapped.problem

    def rate(t, x, a):
        asked.append((t, x, a))
        return a.sum(axis=-1)

    figure = compare_figure({"random": make_agent("random", env=env, seed=0), "mine": rated(env, rate)}, env)

    best = problem.solution().policy(0.0, np.ones((1, 1)))[0]
    panels = rate_panels(figure)
    assert [axes.get_xlabel() for axes in panels] == list(problem.action.names)
    drawn = asked[1:]  # the first was whether it knows rates at all
    for j, (axes, (t, x, a)) in enumerate(zip(panels, drawn, strict=True)):
        assert not t.any()
        np.testing.assert_allclose(x, 1.0)  # the middle of [0.1, 10] in logarithms
        np.testing.assert_allclose(a[:, j], np.linspace(problem.action.low[j], problem.action.high[j], len(a)))
        np.testing.assert_allclose(a[:, 1 - j], best[1 - j])
        truth, mine = axes.lines
        assert (truth.get_color(), truth.get_linestyle()) == (TRUTH["color"], TRUTH["linestyle"])
        assert mine.get_color() == COLOURS[1]
        np.testing.assert_allclose(mine.get_xdata(), a[:, j])
        np.testing.assert_allclose(mine.get_ydata(), a.sum(axis=-1))
        highest = truth.get_xdata()[np.argmax(truth.get_ydata())]
        assert highest == pytest.approx(best[j], abs=np.ptp(a[:, j]) / 200)


def test_the_true_rate_of_an_lqr_is_the_parabola_that_it_is():
    env = gym.make("LQR-v0", dimension=3)
    problem = env.unwrapped.problem
    panels = rate_panels(compare_figure({"mine": rated(env, lambda t, x, a: np.zeros(len(a)))}, env))
    assert [axes.get_xlabel() for axes in panels] == ["a1", "a2"]
    for j, axes in enumerate(panels):
        a = np.asarray(axes.lines[0].get_xdata())
        np.testing.assert_allclose(axes.lines[0].get_ydata(), -problem.R[j, j] * a**2 / 2, atol=1e-10)


def test_without_rates_there_are_no_panels_of_them():
    env = gym.make("LQR-v0")
    assert rate_panels(compare_figure({"analytic": make_agent("analytic", env=env, seed=0)}, env)) == []
