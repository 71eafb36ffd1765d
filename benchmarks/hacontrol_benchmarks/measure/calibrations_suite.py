"""The suite `calibrations`, written from draws: problems and economies at random, away from their defaults.

`python -m hacontrol_benchmarks.measure.calibrations_suite` writes the file that comes with the package;
`hacontrol run calibrations` learns what is in it.
"""

from __future__ import annotations

import json
from typing import Any

import tyro

from hacontrol_agents.core.files import publish
from hacontrol_benchmarks.measure import calibrations, sweep
from hacontrol_benchmarks.records.suites import FOLDER

DRAWN = {"lqr": 4, "merton": 4, "firm": 4, "brock_mirman": 4, "industry": 2, "krusell_smith": 2}
"""Number of draws by name, in `calibrations.DRAWS`."""
SEED = 9000
"""Seed of the draws."""
HEAD = """name = "calibrations"
description = "Problems and economies at calibrations drawn at random, away from the defaults."
seeds = [0]
"""


def text() -> str:
    """Return the suite as TOML."""
    titles: dict[str, list[str]] = {}
    parts = [HEAD]
    for name, draws in DRAWN.items():
        for index in range(draws):
            id, parameters = calibrations.drawn(name, SEED, index)
            title = f"{id}, draw {index}"
            parts.append(f"[[problem]]\nenv = {json.dumps(id)}\nlabel = {json.dumps(title)}\n{_table(parameters)}")
            for agent in sweep.FITTING.get(name, ["npi", "hjb-pinn"]):
                titles.setdefault(agent, []).append(title)
    for agent, problems in titles.items():
        listed = "".join(f"    {json.dumps(title)},\n" for title in problems)
        parts.append(f"[[agent]]\nname = {json.dumps(agent)}\nproblems = [\n{listed}]\n")
    return "\n".join(parts)


def _table(parameters: dict[str, Any]) -> str:
    """Return parameters as a table of the problem; JSON's numbers, strings, booleans and lists are TOML's."""
    lines = "".join(f"{name} = {json.dumps(_short(value))}\n" for name, value in parameters.items())
    return f"[problem.parameters]\n{lines}"


def _short(value: Any) -> Any:
    """Round floats, in lists too, to six digits, in which machines agree."""
    if isinstance(value, list):
        return [_short(one) for one in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def main() -> None:
    """Write the file of the suite."""
    path = FOLDER / "calibrations.toml"
    publish(path, text().encode())
    print(f"wrote {path}")


if __name__ == "__main__":
    tyro.cli(main)
