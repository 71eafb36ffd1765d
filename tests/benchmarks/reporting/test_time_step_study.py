"""The time-step study, from results made by hand."""

import math

import msgspec
import numpy as np
import pytest
from rich.console import Console

from common.results import make_result
from hacontrol_benchmarks.cli import main
from hacontrol_benchmarks.records.results import publish
from hacontrol_benchmarks.records.tasks import Task
from hacontrol_benchmarks.reporting.statistics import stratified_bootstrap
from hacontrol_benchmarks.reporting.time_step_study import studies, write_studies
from hacontrol_envs.errors import CheckpointError

pytest.importorskip("matplotlib")

from hacontrol_benchmarks.reporting.figures import COLOURS
from hacontrol_benchmarks.reporting.time_step_figure import HUGE, time_step_figure

STEPS = (0.1, 0.02, 0.001)


def made(label, dt, seed, policy, loss, env="LQR-v0", failed=False, **parameters):
    """A result; dt None leaves the registered step, 0.02 for LQR-v0."""
    given = parameters if dt is None else {"dt": dt, **parameters}
    task = Task(title=f"{env} {given}", env=env, parameters=given, label=label, agent="npi", seed=seed)
    if failed:
        return msgspec.structs.replace(make_result(status="failed", message="killed by\nnobody"), task=task)
    return msgspec.structs.replace(make_result(loss=loss, policy_error_sampled=policy), task=task)


def results():
    """ctq is as good at every step, sac is hurt by small ones, hopeless is far off, broken fails, once or always."""
    found = []
    for dt in (0.001, None, 0.1):
        size = dt or 0.02
        for seed in range(10):
            found.append(made("ctq", dt, seed, 0.01 * (1 + seed), 1e-4 * (1 + seed)))
            found.append(made("sac", dt, seed, 10 ** (seed / 10) / size, 1e-2 / size**2))
            found.append(made("hopeless", dt, seed, 1.0, "inf"))
            fails = seed < 3 if dt == 0.1 else size == 0.001
            found.append(made("broken", dt, seed, 0.5, 0.5, failed=fails))
        found.append(made("exact", dt, 0, 0.0, -1e-18))
    found += [made("ctq", dt, 0, 0.3, 0.2, env="Merton-v0", risk_aversion=3.0) for dt in (0.1, 0.01)]
    found.append(made("ctq", 0.1, 0, 0.3, 0.2, env="Merton-v0", risk_aversion=4.0))
    found.append(made("ctq", None, 0, 0.3, 0.2, env="FirmIndustry"))
    return found


def rows(study, metric):
    return {row.agent: row for row in study.rows[metric]}


def test_problems_that_differ_in_dt_alone_are_studied_together():
    lqr, merton = studies(results())
    assert (lqr.setting, lqr.steps) == ("LQR-v0", STEPS)
    assert (merton.setting, merton.steps) == ("Merton-v0 with risk_aversion = 3.0", (0.1, 0.01))
    assert [row.agent for row in lqr.rows["value_loss"]] == ["ctq", "sac", "hopeless", "broken", "exact"]


def test_episodes_are_the_same_if_they_last_as_long():
    found = [made("ctq", dt, 0, 0.3, 0.2, episode_steps=steps) for dt, steps in ((0.1, 50), (0.01, 500), (0.001, 50))]
    (study,) = studies(found)
    assert (study.setting, study.steps) == ("LQR-v0 with episode time = 5", (0.1, 0.01))


def test_cells_are_interquartile_means_of_logarithms():
    policy = rows(studies(results())[0], "policy_error_sampled")
    middle = np.mean(np.log10(0.01 * np.arange(3, 9)))  # of ten sorted, trimming cuts two off each end
    for cell in policy["ctq"].cells:
        assert cell.interval.estimate == pytest.approx(10**middle)
        expected = stratified_bootstrap(np.log10(0.01 * np.arange(1, 11))[:, None])
        assert np.log10(cell.interval) == pytest.approx(expected)
        assert cell.interval.low < cell.interval.estimate < cell.interval.high
        assert cell.median == pytest.approx(0.055)
    for cell, dt in zip(policy["sac"].cells, STEPS, strict=True):
        assert cell.interval.estimate == pytest.approx(10**0.45 / dt)


def test_the_factor_is_of_medians_across_steps():
    study = studies(results())[0]
    policy, loss = rows(study, "policy_error_sampled"), rows(study, "value_loss")
    assert policy["ctq"].factor == pytest.approx(1)
    assert policy["sac"].factor == pytest.approx(100)
    assert loss["sac"].factor == pytest.approx(1e4)
    assert loss["hopeless"].factor is None
    assert loss["exact"].factor is None
    assert policy["broken"].factor is None


def test_the_factor_is_of_medians_not_of_means():
    values = {0.1: (1.0, 2.0, 9.0), 0.03: (0.5, 3.0, 1.0), 0.01: (0.25, 0.25, 70.0)}
    (study,) = studies(made("ctq", dt, seed, x, x) for dt, each in values.items() for seed, x in enumerate(each))
    assert study.rows["value_loss"][0].factor == 8


def test_the_factor_of_zero_and_of_infinity():
    found = [made("lucky", dt, 0, 0.0 if dt == 0.1 else 0.5, "inf" if dt == 0.1 else 0.5) for dt in (0.1, 0.01)]
    (study,) = studies(found)
    assert [study.rows[metric][0].factor for metric in study.rows] == [math.inf, math.inf]


def test_the_worst_run_is_shown_though_medians_do_not_see_it():
    found = [
        made("ctq", dt, seed, 0.1, 50.0 if (dt, seed) == (0.1, 3) else 1.0) for dt in (0.1, 0.01) for seed in range(9)
    ]
    (study,) = studies(found)
    (row,) = study.rows["value_loss"]
    assert (row.worst, row.factor) == (50.0, 1.0)


def test_a_loss_below_zero_counts_as_its_standard_error():
    """As of a policy under which paths explode, of which a few say nothing."""
    found = [made("dac", dt, 0, 0.5, -2.88) for dt in (0.1, 0.01)]
    for result in found:
        result.metrics["value_loss_error"] = 7.43
    (study,) = studies(found)
    (row,) = study.rows["value_loss"]
    assert row.worst == row.cells[0].median == 7.43
    assert row.cells[0].interval.estimate == pytest.approx(7.43)


def test_failures_are_counted_and_named():
    study = studies(results())[0]
    cells = rows(study, "value_loss")["broken"].cells
    assert [(cell.runs, cell.failed) for cell in cells] == [(10, 3), (10, 0), (10, 10)]
    assert [cell.text for cell in cells] == ["0.5 (7 of 10)", "0.5", "failed (0 of 10)"]
    assert len(study.failures) == 13
    assert study.failures[-1] == "broken, dt = 0.1, seed 2: killed by nobody"


def test_results_without_the_metric_are_shown_as_such():
    old = [made("ctq", dt, 0, None, 0.2) for dt in (0.1, 0.01)]
    (study,) = studies(old)
    assert [cell.text for cell in study.rows["policy_error_sampled"][0].cells] == ["–", "–"]
    assert time_step_figure([study]).axes


@pytest.fixture
def folder(tmp_path):
    for result in results():
        publish(result, tmp_path)
    return tmp_path


def test_tables_are_written(folder):
    write_studies(folder, Console(quiet=True))
    text = (folder / "time_step.md").read_text()
    lines = text.splitlines()
    assert lines.count("| agent | dt = 0.1 | dt = 0.02 | dt = 0.001 | factor | worst |") == 2
    (losses,) = [part for part in text.split("\n### ") if part.startswith("value loss") and "0.02" in part]
    table = {line.split("|")[1].strip(): line for line in losses.splitlines() if line.startswith("|")}
    assert table["sac"] == "| sac | 1 | 25 | 1.0e4 | 1.0e4 | 1.0e4 |"
    assert table["broken"] == "| broken | 0.5 (7 of 10) | 0.5 | failed (0 of 10) | – | 0.5 |"
    assert table["hopeless"] == "| hopeless | inf | inf | inf | – | inf |"
    assert table["exact"] == "| exact | 0 | 0 | 0 | – | 0 |"
    assert "* failed: broken, dt = 0.1, seed 2: killed by nobody" in lines
    assert [line for line in lines if line.startswith("## ")] == ["## LQR-v0", "## Merton-v0 with risk_aversion = 3.0"]


def test_lines_differ_where_colours_come_again():
    agents = [f"agent {place}" for place in range(len(COLOURS) + 1)]
    figure = time_step_figure(studies(made(agent, dt, 0, 0.1, 0.1) for agent in agents for dt in (0.1, 0.01)))
    first, *_, last = figure.axes[0].lines
    assert first.get_color() == last.get_color()
    assert first.get_linestyle() != last.get_linestyle()


def test_the_figure_has_a_column_for_each_problem_and_a_line_for_each_agent():
    figure = time_step_figure(studies(results()))
    assert len(figure.axes) == 4
    policy, _, loss, _ = figure.axes
    assert all(axes.get_xlim()[0] > axes.get_xlim()[1] for axes in figure.axes)  # from large steps to small ones
    lines = {line.get_label(): line for line in policy.lines}
    assert list(lines) == ["ctq", "sac", "hopeless", "broken", "exact"]
    assert [line.get_color() for line in lines.values()] == list(COLOURS[:5])
    assert len(policy.collections) == 5
    np.testing.assert_allclose(lines["sac"].get_xdata(), STEPS)
    np.testing.assert_allclose(lines["sac"].get_ydata(), 10**0.45 / np.array(STEPS))
    assert {policy.get_xscale(), policy.get_yscale(), loss.get_yscale()} == {"log"}
    assert [text.get_text() for text in policy.texts] == ["7 of 10", "0 of 10", "0", "0", "0"]
    top = loss.get_ylim()[1]
    assert top < 100 * HUGE
    far = next(line for line in loss.lines if line.get_label() == "hopeless")
    np.testing.assert_allclose(far.get_ydata(), top)
    assert [text.get_text() for text in loss.texts].count("inf") == 3
    near = next(line for line in policy.lines if line.get_label() == "exact")
    np.testing.assert_allclose(near.get_ydata(), policy.get_ylim()[0])
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == list(lines)


def test_the_command(folder, capsys):
    assert main(["time-step", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert "7 of 10" in printed.replace("\n", " ")
    assert "failed: broken, dt = 0.1, seed 2: killed by nobody" in printed
    assert (folder / "time_step.md").is_file()
    assert (folder / "time_step.png").stat().st_size > 10_000


def test_nothing_to_study_is_one_line(tmp_path, capsys):
    publish(make_result(), tmp_path)
    with pytest.raises(CheckpointError, match="at two time steps"):
        write_studies(tmp_path, Console(quiet=True))
    assert main(["time-step", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
