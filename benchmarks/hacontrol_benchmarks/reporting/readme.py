"""Write the generated parts of the repository's pages: pages of environments, and tables of committed results.

A table stands between <!-- table: NAME --> and <!-- end -->; the text around it is written by hand.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

from hacontrol_agents.core.files import publish
from hacontrol_benchmarks.records.results import read_results
from hacontrol_benchmarks.reporting.entry import committed_pages
from hacontrol_benchmarks.reporting.report import make_report
from hacontrol_benchmarks.reporting.scores import Board, Row
from hacontrol_benchmarks.reporting.tables import cells, header, markdown_table, show
from hacontrol_benchmarks.reporting.time_step_study import studies
from hacontrol_envs.core.page import table
from hacontrol_envs.errors import UnknownNameError, nearest

RESULTS = Path("benchmarks", "results")
PAGES = Path("hacontrol_envs", "pages")
WITH_TABLES = (Path("README.md"), Path("benchmarks", "README.md"))
MARKED = re.compile(r"(<!-- table: (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)


class Shown(NamedTuple):
    """A row of the table of results in the first README."""

    title: str
    """Title of the problem in the table."""
    suite: str
    """Suite of the results."""
    board: str
    """Title of the board."""
    agent: str
    """Agent of the row."""
    loss: str = "{text}"
    """Format of the headline's text."""
    column: str = "policy error, visited"
    """Title of the column that is shown beside the headline."""
    error: str = "{text}"
    """Format of that column's "text" or "value"."""


SUMMARY = (
    Shown("LQR", "paper", "LQR-v0", "npi", "{text}, as the analytic policy: the price of a finite step"),
    Shown("LQR", "paper", "LQR-v0", "sac"),
    Shown("Merton", "paper", "Merton-v0", "npi"),
    Shown("Merton", "paper", "Merton-v0", "ppo"),
    Shown("an industry", "equilibrium", "industry, kinked", "hjb-fp-pinn", "price error {text}"),
    Shown(
        *("Krusell-Smith", "krusell_smith", "Krusell-Smith, ssj", "deqn"),
        *("path error {text} %", "Euler, mean", "Euler error 10^{value:.1f}"),
    ),
    Shown("trading", "certified", "PortfolioTrading-v0", "npi", "{text} at most, certified", "seconds", "–"),
)
POLICIES = {"policy error": "policy error, visited", "value error": "value error, visited", "seconds": "seconds"}
INDUSTRIES = {
    "output error": "output error",
    "policy error": "policy error, visited",
    "density error, L1": "density error, L1",
    "mass error": "mass error",
    "seconds": "seconds",
}
HOUSEHOLDS = {
    "largest": "path error, max",
    "Euler, mean": "Euler, mean",
    "Euler, largest": "Euler, max",
    "Den Haan, %": "Den Haan",
    "welfare, %": "welfare gain",
    "capital": "capital",
    "seconds": "seconds",
}
"""Titles of columns in the report, by their title in a table of the README."""
STUDIED = ("LQR-v0", "Merton-v0", "FirmInvestment-v0")
"""Environments that have a table of the time step."""
COMPARED = ("ctq", "sac", "dac", "ppo")
"""Agents in the tables of the time step."""


def write_pages(root: Path) -> list[Path]:
    """Write every page of a checkout that a command writes, and return those that changed.

    Raises:
        CheckpointError: committed results are missing or altered.
        UnknownNameError: a page asks for a table that nobody makes.
    """
    every = pages(root)
    changed = [path for path, text in every.items() if not path.is_file() or path.read_text("utf-8") != text]
    for path in changed:
        path.parent.mkdir(exist_ok=True)
        publish(path, every[path].encode())
    return changed


def pages(root: Path) -> dict[Path, str]:
    """Return the text of each page of a checkout that is written, whole or in part, by a command."""
    found = {root / PAGES / f"{name}.md": make() for name, make in committed_pages().items()}
    made = tables(root / RESULTS)
    return found | {root / page: with_tables((root / page).read_text("utf-8"), made) for page in WITH_TABLES}


def with_tables(text: str, made: Mapping[str, Callable[[], str]]) -> str:
    """Return a page whose text between markers is made anew.

    Raises:
        UnknownNameError: a marker names no table.
    """

    def fill(found: re.Match[str]) -> str:
        before, name, after = found.groups()
        if name not in made:
            raise UnknownNameError(f"no table is called {name!r}; {nearest(name, made)}there are: {', '.join(made)}")
        return f"{before}{made[name]()}\n{after}"

    return MARKED.sub(fill, text)


def tables(results: Path) -> dict[str, Callable[[], str]]:
    """Return a function that makes each table from the folder of committed results, by name."""
    return {
        "paper": partial(_leaderboard, results / "paper", "problem", "value_loss", "", POLICIES),
        "equilibrium": partial(_leaderboard, results / "equilibrium", "industry", "price_error", "", INDUSTRIES),
        "krusell_smith": partial(_leaderboard, results / "krusell_smith", "economy", "path_error", ", %", HOUSEHOLDS),
        "certified": partial(
            _leaderboard, results / "certified", "problem", "certified_gap", "", {"seconds": "seconds"}
        ),
        **{f"time_step {id}": partial(_time_steps, results / "time_step", id) for id in STUDIED},
        "summary": partial(_summary, results),
    }


def _leaderboard(folder: Path, first: str, headline: str, unit: str, columns: dict[str, str]) -> str:
    """The boards of a folder that rank by a headline, one below the other, with some of their columns."""
    rows = []
    for board in make_report(folder).boards:
        if board.headline == headline:
            places = [1, 2, *map(header(board).index, columns.values())]
            for place, row in enumerate(board.rows):
                text = cells(row, board)
                rows.append(["" if place else board.title, *(text[column] for column in places)])
    return "\n".join(markdown_table([first, "agent", f"{headline.replace('_', ' ')}{unit} [95 %]", *columns], rows))


def _time_steps(folder: Path, id: str) -> str:
    """Policy errors against the optimum of the sampled problem by time step: medians over seeds, in percent."""
    (study,) = (study for study in studies(read_results(folder)) if study.setting.split()[0] == id)
    first, *others = (f"{step:g}" for step in study.steps)
    found = {row.agent: [cell.median for cell in row.cells] for row in study.rows["policy_error_sampled"]}
    rows = [
        [f"`{agent}`", *("–" if median is None else f"{100 * median:.3g} %" for median in found[agent])]
        for agent in COMPARED
    ]
    return table(["agent", f"dt = {first}", *others], rows)


def _summary(results: Path) -> str:
    """The rows of the first page."""
    known = {
        (suite, board.title, row.agent): (board, row)
        for suite in dict.fromkeys(shown.suite for shown in SUMMARY)
        for board in make_report(results / suite).boards
        for row in board.rows
    }
    rows = [_summary_row(shown, *known[shown.suite, shown.board, shown.agent]) for shown in SUMMARY]
    return table(["problem", "agent", "value loss", "policy error"], rows)


def _summary_row(shown: Shown, board: Board, row: Row) -> list[str]:
    column = [column.title for column in board.columns].index(shown.column)
    loss, error = row.loss.estimate if row.loss else None, row.cells[column]
    said = shown.error.format(text=show(error, board.columns[column].style), value=error)
    return [shown.title, f"`{shown.agent}`", shown.loss.format(text=show(loss)), said]
