"""What the figures of learned against analytic draw, and which files they are refused for before anything is learnt."""

import os
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest

from hacontrol_agents import make_agent

pytest.importorskip("matplotlib")

from hacontrol_benchmarks import cli
from hacontrol_benchmarks.reporting.compare import compare_figure
from hacontrol_benchmarks.reporting.compare_households import QUARTERS
from hacontrol_benchmarks.reporting.figures import COLOURS, TRUTH, figure_path
from hacontrol_envs.core.figures import filled
from hacontrol_envs.errors import ParameterError


class Rated:
    """Plays the optimum, and declares nothing: what it offers are the methods that it has."""

    history = ()

    def __init__(self, env, rate):
        self.policy, self.value = env.unwrapped.problem.solution().policy, env.unwrapped.problem.solution().value
        self.rate = rate


def rated(env, rate):
    return Rated(env, rate)


def rate_panels(figure):
    return [axes for axes in figure.axes if axes.get_title() == "rate of advantage q"]


@pytest.mark.slow
def test_rates_are_drawn_along_each_action_at_the_centre_with_the_others_at_their_optimum():
    env, asked = gym.make("Merton-v0"), []
    problem = env.unwrapped.problem

    def rate(t, x, a):
        asked.append((t, x, a))
        return a.sum(axis=-1)

    figure = compare_figure({"random": make_agent("random", env=env, seed=0), "mine": rated(env, rate)}, env)

    best = problem.solution().policy(0.0, np.ones((1, 1)))[0]
    panels = rate_panels(figure)
    assert [axes.get_xlabel() for axes in panels] == [
        "risky fraction (share of wealth)",
        "consumption / wealth (1/year)",
    ]
    for j, (axes, (t, x, a)) in enumerate(zip(panels, asked, strict=True)):  # never to find out whether it knows
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


@pytest.mark.slow
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


def titled(figure, title):
    return next(axes for axes in figure.axes if axes.get_title().startswith(title))


def require_full(figure):
    """No axes without anything in it, and no legend over one."""
    figure.draw_without_rendering()
    for axes in figure.axes:
        assert axes.axison
        assert axes.lines or axes.collections or axes.patches
        assert axes.get_legend() is None
    (legend,) = figure.legends
    assert not any(legend.get_window_extent().overlaps(axes.get_window_extent()) for axes in figure.axes)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("id", "time"),
    [("LQR-v0", "the problem's own unit"), ("Merton-v0", "years"), ("BrockMirman-v0", "periods")],
)
def test_no_panel_is_empty_and_axes_have_units(id, time):
    env = gym.make(id)
    quiet = make_agent("random", env=env, seed=0)
    figure = compare_figure({"analytic": make_agent("analytic", env=env, seed=0), "quiet": quiet}, env)
    require_full(figure)
    assert {text.get_text() for text in figure.legends[0].get_texts()} == {"optimum", "analytic", "quiet"}
    state = env.unwrapped.problem.observation.label(0)
    assert titled(figure, "value").get_xlabel() == state
    assert titled(figure, f"{state} on common noise").get_xlabel() == f"time ({time})"
    assert not any(axes.get_title() == "learning curve" for axes in figure.axes)


@pytest.mark.slow
def test_a_history_without_figures_is_no_panel():
    env = gym.make("LQR-v0")
    agent = make_agent("analytic", env=env, seed=0)
    agent.history = [{"evaluations": 1, "seconds": 0.1, "policy_error": None}]
    require_full(compare_figure({"mine": agent}, env))
    agent.history = [{"evaluations": 10**k, "seconds": 0.1, "policy_error": 0.1**k} for k in range(3)]
    figure = compare_figure({"mine": agent}, env)
    require_full(figure)
    curve = titled(figure, "learning curve")
    np.testing.assert_allclose(curve.lines[0].get_data(), [[1, 10, 100], [1.0, 0.1, 0.01]])
    assert curve.get_ylabel() == "policy_error"


@pytest.mark.slow
@pytest.mark.parametrize("count", range(1, 14))
def test_axes_fill_the_figure(count):
    figure, found = filled(count)
    assert len(found) == len(figure.axes) == count
    boxes = [axes.get_subplotspec().get_position(figure) for axes in found]
    rows = {round(box.y0, 6): sum(round(other.y0, 6) == round(box.y0, 6) for other in boxes) for box in boxes}
    assert len(rows) == -(-count // 3)
    assert max(rows.values()) <= 3
    assert max(rows.values()) - min(rows.values()) <= 1


class HalfSaver:
    """Saves half of cash on hand, whatever comes."""

    history = ()

    def __init__(self, economy):
        self.economy = economy

    def saving(self, assets, e, z, law):
        capital = self.economy.capital_of(law)[..., None]
        return self.economy.borrowing_limit + self.economy.cash(assets, e, np.asarray(z)[..., None], capital) / 2


@pytest.fixture(scope="module")
def households():
    """An environment of few nodes, and the figure of an agent that saves too little on it."""
    env = gym.make("KrusellSmith-v0", asset_nodes=40, asset_max=300.0)
    economy = env.unwrapped.problem.economy
    agents = {"analytic": make_agent("analytic", env=env, seed=0), "half": HalfSaver(economy)}
    reference = economy.reference_solution()
    at = SimpleNamespace(law=reference.ergodic.laws[0], z=int(reference.ergodic.z[0]))
    return SimpleNamespace(economy=economy, reference=reference, first=at, figure=compare_figure(agents, env))


@pytest.mark.slow
def test_households_have_five_full_panels(households):
    require_full(households.figure)
    titles = ["consumption", "households after", "Lorenz", "capital", "Euler"]
    assert all(axes.get_title().startswith(start) for axes, start in zip(households.figure.axes, titles, strict=True))
    assert [text.get_text() for text in households.figure.legends[0].get_texts()] == ["reference", "analytic", "half"]


@pytest.mark.slow
def test_consumption_is_what_is_not_saved(households):
    economy, first, lines = households.economy, households.first, titled(households.figure, "consumption").lines
    assert len(lines) == 9  # three skills, three policies
    states = len(economy.skill)
    capital = float((first.law * economy.assets).sum())
    for place, e in enumerate((0, (states - 1) // 2, states - 1)):
        half, reference = lines[3 * place + 1], lines[3 * place + 2]
        own = economy.assets[: len(half.get_xdata())]
        prices = economy.prices(np.array(capital), first.z)
        cash = (1 + prices.interest_rate) * own + prices.wage * economy.earnings[first.z, e]
        np.testing.assert_allclose(half.get_ydata(), cash / 2 - economy.borrowing_limit, rtol=1e-12)
        v = households.reference.moment.of(first.law, np.array(capital), np.array(first.z))
        c = households.reference.consumption(own, e, first.z, capital, float(v))
        np.testing.assert_allclose(reference.get_ydata(), c, rtol=1e-12)


@pytest.mark.slow
def test_the_path_of_capital_is_what_the_policy_makes_it(households):
    economy, first, axes = households.economy, households.first, titled(households.figure, "capital")
    analytic, half, reference = (np.asarray(line.get_ydata()) for line in axes.lines)
    capital = (first.law * economy.assets).sum()
    assert half[0] == reference[0] == pytest.approx(capital)
    prices = economy.prices(np.array(capital), first.z)
    cash = (1 + prices.interest_rate) * economy.assets + prices.wage * economy.earnings[first.z][:, None]
    assert half[1] == pytest.approx((first.law * (economy.borrowing_limit + cash / 2)).sum(), rel=1e-9)
    assert len(half) == len(reference) == QUARTERS + 1
    assert half[-1] < reference[-1] / 5
    np.testing.assert_allclose(analytic, reference, rtol=0.01)


@pytest.mark.slow
def test_lorenz_curves_and_histograms_are_of_one_law(households):
    path = households.reference.simulate(QUARTERS, law=households.first.law, z=_path(households), every=QUARTERS)
    masses, assets = path.laws[-1].sum(axis=0), households.economy.assets
    gini = (masses[:, None] * masses * np.abs(assets[:, None] - assets)).sum() / (2 * (masses * assets).sum())
    people, wealth = (np.asarray(part) / 100 for part in titled(households.figure, "Lorenz").lines[2].get_data())
    assert 1 - (np.diff(people) * (wealth[1:] + wealth[:-1])).sum() == pytest.approx(gini, rel=1e-6)
    for stairs in titled(households.figure, "households after").patches:
        assert stairs.get_data().values.sum() == pytest.approx(100.0)


def _path(households):
    from hacontrol_envs.economies.krusell_smith.paths import path_of_z

    return path_of_z(households.economy, QUARTERS, 0, first=households.reference.ergodic.z[0])


@pytest.mark.slow
def test_the_reference_has_the_least_euler_errors(households):
    analytic, half, reference = (np.asarray(line.get_ydata()) for line in titled(households.figure, "Euler").lines)
    assert np.median(reference) < 1e-3 < 0.1 < np.median(half)
    assert np.median(analytic) < 1e-2


def bad_files(tmp_path):
    (tmp_path / "folder.png").mkdir()
    return {
        "no suffix": (tmp_path / "figure", "is saved as one of"),
        "suffix": (tmp_path / "figure.txt", "is saved as one of"),
        "no folder": (tmp_path / "nowhere" / "figure.png", "there is no folder"),
        "folder": (tmp_path / "folder.png", "is a folder"),
        "in a file": (tmp_path / "file" / "figure.png", "there is no folder"),
        "long": (tmp_path / ("x" * 300 + ".png"), "cannot write"),
        "zero byte": (tmp_path / "a\0b.png", "NUL"),
    }


@pytest.mark.parametrize("which", ["no suffix", "suffix", "no folder", "folder", "in a file", "long", "zero byte"])
def test_files_that_cannot_be_written_are_refused_before_anything_is_learnt(which, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("not a folder")
    path, said = bad_files(tmp_path)[which]
    monkeypatch.setattr(cli, "_train", lambda *given: pytest.fail("it was trained"))
    assert cli.main(["compare", "LQR-v0", "--out", str(path)]) == 2
    message = capsys.readouterr().err.strip()
    assert said in message
    assert message.count("\n") == 0
    with pytest.raises(ParameterError, match=said):
        figure_path(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only to root")
def test_read_only_folders_are_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ParameterError, match="cannot write"):
        figure_path(tmp_path / "figure.png")


def test_asking_for_a_file_changes_nothing(tmp_path):
    assert figure_path(tmp_path / "figure.PDF") == tmp_path / "figure.PDF"
    assert not list(tmp_path.iterdir())
    (tmp_path / "old.png").write_bytes(b"as it was")
    figure_path(tmp_path / "old.png")
    assert (tmp_path / "old.png").read_bytes() == b"as it was"


def test_what_has_no_known_optimum_is_refused_before_anything_is_learnt(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cli, "_train", lambda *given: pytest.fail("it was trained"))
    small = '{"asset_nodes": 40, "asset_max": 300.0}'
    asked = ["compare", "KrusellSmithCloud-v0", "--parameters", small, "--out", str(tmp_path / "figure.png")]
    assert cli.main(asked) == 2
    assert "no known optimum" in capsys.readouterr().err
