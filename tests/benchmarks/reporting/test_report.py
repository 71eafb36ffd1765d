"""The report and the command line."""

import html.parser
import re

import pytest
from rich.console import Console

from common.results import make_result
from hacontrol_benchmarks.cli import main
from hacontrol_benchmarks.records.results import publish
from hacontrol_benchmarks.reporting.page import LogAxis
from hacontrol_benchmarks.reporting.report import write_report
from hacontrol_benchmarks.reporting.statistics import Interval
from hacontrol_benchmarks.reporting.tables import show


@pytest.fixture
def folder(tmp_path):
    for seed in range(3):
        publish(make_result(seed, 1e-2 * (1 + seed), "ppo"), tmp_path)
        publish(make_result(seed, 1e-6 * (1 + seed), "npi", residual_visited={"95%": 1e-7}), tmp_path)
        publish(make_result(seed, "inf", "hopeless"), tmp_path)
    publish(make_result(0, 0.0, "analytic"), tmp_path)
    publish(make_result(0, 1e-9, "shaky"), tmp_path)
    publish(make_result(1, label="shaky", status="failed", message="ValueError: <b>no</b> | good"), tmp_path)
    publish(make_result(0, label="broken", status="failed", message="killed"), tmp_path)
    publish(make_result(0, 0.1, "npi", title="Merton <0>"), tmp_path)
    return tmp_path


class Resources(html.parser.HTMLParser):
    """Every attribute that could load something, and every tag that is left open."""

    def __init__(self):
        super().__init__()
        self.loads, self.open = [], []

    def handle_starttag(self, tag, attributes):
        self.loads += [value for name, value in attributes if name in ("src", "href", "srcset", "action", "data")]
        self.loads += [tag] * (tag in ("script", "iframe", "link", "object", "embed"))
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_agents_are_ranked_and_failures_shown(folder):
    page = write_report(folder, Console(quiet=True))
    markdown, text = (folder / "report.md").read_text(), page.read_text()
    agents = ["analytic", "npi", "ppo", "hopeless", "shaky", "broken"]
    board = markdown[markdown.index("## LQR-v0") : markdown.index("## Merton")]
    ranks = ["1", "2", "3", "4", "5", "–"]
    assert re.findall(r"^\| (\d|–) \| (\w+) ", board, flags=re.MULTILINE) == list(zip(ranks, agents, strict=True))
    places = [text.index(f'<th scope="row">{agent}</th>') for agent in agents]
    assert places == sorted(places)
    assert "1 of 2" in text
    assert "seed 1: ValueError: &lt;b&gt;no&lt;/b&gt; | good" in text
    assert "Merton &lt;0&gt;" in text
    assert "a processor" in text
    assert "hacontrol 0.1.0 at abc" in text


def test_the_page_needs_nothing_else_and_is_the_same_twice(folder):
    text = write_report(folder, Console(quiet=True)).read_text()
    found = Resources()
    found.feed(text)
    assert found.loads == []
    assert found.open == []
    assert not re.search(r"https?://|@import|url\(|nan%", text)
    assert write_report(folder, Console(quiet=True)).read_text() == text


def test_the_axis_holds_what_it_is_given():
    axis = LogAxis.over([Interval(1e-6, 1e-7, 1e-5), Interval(0.0, 0.0, 0.0), None])
    assert 2 <= axis(0.0) < axis(1e-7) < axis(1e-6) < axis(1e-5) <= 98
    assert LogAxis.over([]).ticks


def test_numbers_are_short():
    assert [show(number) for number in (None, 0.0, 0.25, 1.234e-5, 12345.0)] == ["–", "0", "0.25", "1.2e-5", "1.2e4"]
    assert [show(number) for number in (float("inf"), -float("inf"), 1e300, 1e298)] == ["inf", "-inf", "inf", "1.0e298"]
    assert (show(3.21, "seconds"), show(1e6, "count")) == ("3.2", "1,000,000")


def test_commands_that_read(folder, capsys):
    assert main(["report", str(folder)]) == 0
    assert "index.html" in capsys.readouterr().out
    assert main(["list"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in ("Merton-v0", "risk_aversion=2.0", "analytic", "quick"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "quik"], "did you mean 'quick'"),
        (["report", "nowhere"], "no result files"),
        (["compare", "Nowhere-v0"], "no environment is called"),
        (["compare", "LQR-v0", "--agent", "nobody"], "no agent is called"),
        (["compare", "LQR-v0", "--parameters", "{"], "must be JSON"),
    ],
)
def test_errors_are_one_line_and_exit_code_2(arguments, message, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.slow
def test_run_report_and_compare(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_text(
        'name = "tiny"\ndescription = "One task."\nseeds = [0]\n[evaluation]\npaths = 8\npoints = 16\nmax_steps = 20\n'
        '[[problem]]\nenv = "Merton-v0"\n[[agent]]\nname = "analytic"\n[[agent]]\nname = "random"\n'
    )
    assert main(["run", "tiny.toml"]) == 0
    page = (tmp_path / "leaderboard/tiny/index.html").read_text()
    assert "hacontrol run tiny" in page
    assert str(tmp_path) not in page
    assert main(["compare", "Merton-v0", "--agent", "random", "--agent", "analytic", "--run", "leaderboard/tiny"]) == 0
    assert (tmp_path / "compare.png").stat().st_size > 10_000
    assert "value_loss" in capsys.readouterr().out
    assert main(["compare", "Merton-v0", "--agent", "analytic", "--out", "figure.txt"]) == 2
