"""The command line: `hacontrol run`, `report`, `time-step`, `compare`, `list` and `readme`."""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import tyro
from rich.console import Console
from rich.table import Table

import hacontrol_envs
from hacontrol_agents import agents, find_agent
from hacontrol_agents.core.files import publish
from hacontrol_agents.core.registry import agent_classes
from hacontrol_agents.core.subjects import make_subject
from hacontrol_benchmarks.records.results import read_results
from hacontrol_benchmarks.records.suites import load_suite, suite_file, suite_names
from hacontrol_benchmarks.records.tasks import Task, about, agent_class
from hacontrol_benchmarks.records.text import printable, terminal
from hacontrol_benchmarks.reporting.tables import show
from hacontrol_envs.core.parameters import short
from hacontrol_envs.errors import HacontrolError, ParameterError, UnknownNameError

if TYPE_CHECKING:
    from hacontrol_agents import Learner

LEADERBOARD = Path("leaderboard")
"""Folder in which `hacontrol run` keeps results, a folder for each suite."""
DEFAULTS = ("npi", "hjb-fp-pinn", "deqn", "market-clearing")
"""Agents that `compare` tries in turn to learn about an environment or an economy, where it is given none."""


def run(
    suite: tyro.conf.Positional[str], folder: Path | None = None, workers: int = 2, retry_failed: bool = False
) -> int:
    """Run a suite, or resume it, and report.

    Args:
        suite: name of a suite (see `hacontrol list`), or a .toml file.
        folder: where results are kept; leaderboard/SUITE by default.
        workers: number of tasks that run at the same time.
        retry_failed: run failed tasks again.
    """
    from hacontrol_benchmarks.reporting.report import SUITE_FILE
    from hacontrol_benchmarks.running.runner import check_tasks, run_suite

    chosen = load_suite(suite)
    folder = folder or LEADERBOARD / chosen.name
    tasks = chosen.tasks()
    check_tasks(tasks)
    publish(folder / SUITE_FILE, suite_file(suite).read_bytes())
    results = run_suite(tasks, folder, workers=workers, retry_failed=retry_failed)
    _report(folder)
    return 1 if any(result.status == "failed" for result in results) else 0


def report(folder: tyro.conf.Positional[Path] = LEADERBOARD / "quick") -> int:
    """Print the tables of a folder of results, and write its report.md and index.html.

    Args:
        folder: where `hacontrol run` kept the results.
    """
    _report(folder)
    return 0


def time_step(folder: tyro.conf.Positional[Path], out: Path | None = None) -> int:
    """Show how agents depend on the time step, from the results of the same problem at several; write time_step.md.

    Args:
        folder: where `hacontrol run` kept the results.
        out: file of the figure; time_step.png in the folder by default.
    """
    from hacontrol_benchmarks.reporting.figures import figure_path, save_figure
    from hacontrol_benchmarks.reporting.time_step_figure import time_step_figure
    from hacontrol_benchmarks.reporting.time_step_study import FILE, write_studies

    target = figure_path(out) if out else folder / "time_step.png"
    found = write_studies(folder, Console())
    print(folder / FILE, save_figure(time_step_figure(found), target), sep="\n")
    return 0


def compare(
    env: tyro.conf.Positional[str],
    agent: tyro.conf.UseAppendAction[tuple[str, ...]] = (),
    out: Path = Path("compare.png"),
    total_timesteps: int | None = None,
    run: Path | None = None,
    seed: int = 0,
    parameters: str = "{}",
) -> int:
    """Draw what agents have learnt, against the optimum where it is known, in one figure, and print the numbers.

    Args:
        env: id of the environment, such as Merton-v0, or of an economy, such as FirmIndustry.
        agent: name of an agent; give it more than once to compare several. By default the first of npi, hjb-fp-pinn,
            deqn and market-clearing that learns about `env`. On an economy the figure is of the last.
        out: file of the figure; its suffix decides the format.
        total_timesteps: budget of learning in state-action points.
        run: a folder of results whose trained agents are drawn instead of training.
        seed: seed of learning and of the trajectories.
        parameters: keyword arguments of the environment as JSON, such as '{"dimension": 2}'.
    """
    from hacontrol_benchmarks.judging.evaluation import evaluate
    from hacontrol_benchmarks.reporting.compare import compare_figure, economy_figure, refuse_unknown
    from hacontrol_benchmarks.reporting.figures import figure_path, save_figure
    from hacontrol_benchmarks.running.runner import refuse_other_subject

    figure_path(out)  # nothing is trained for a figure that cannot be written
    task = Task(title="", env=env, parameters=_read_parameters(parameters), label="", agent="", seed=seed)
    made = make_subject(env, task.parameters)  # a command line names what is registered, never code
    if env not in hacontrol_envs.registered_economies():
        refuse_unknown(made)
    found: dict[str, Any] = {}
    for name in agent or (_first_that_learns(env),):
        refuse_other_subject(name, env)
        found[name] = _load(run, task, name, made) if run else _train(name, made, seed, total_timesteps)
    _print_numbers({name: evaluate(trained, made) for name, trained in found.items()})
    for name, trained in found.items():
        print(printable(f"{name} ended {trained.ending}{': ' if trained.reason else ''}{trained.reason}"))
    draw = economy_figure if isinstance(made, hacontrol_envs.Economy) else compare_figure
    print(save_figure(draw(found, made, seed=seed), out))
    return 0


def list_names(name: tyro.conf.Positional[str | None] = None, hyperparameters: bool = False) -> int:
    """Show environments and economies with their parameters, agents, and suites; or all about one of them.

    Args:
        name: environment or economy whose page is shown, or agent whose hyperparameters are shown; all names by
            default.
        hyperparameters: show those of all agents too, which takes as long as importing torch does.
    """
    console = Console()
    if name is not None:
        from rich.markdown import Markdown

        from hacontrol_benchmarks.reporting.entry import entry

        console.print(Markdown(entry(name)))
        return 0
    console.print("[bold]Environments[/]  gym.make(id, **parameters)")
    for id in hacontrol_envs.registered_ids():
        module, _, name = gym.spec(id).kwargs["problem"].partition(":")
        kind = getattr(sys.modules[module], name)
        every = inspect.signature(kind).parameters.values()
        defaults = [f"**{p.name}" if p.kind is p.VAR_KEYWORD else f"{p.name}={p.default!r}" for p in every]
        _entry(console, id, [*defaults, f"dt={gym.spec(id).kwargs['dt']}"])
    console.print("\n[bold]Economies[/]  hacontrol_envs.NAME(**parameters)")
    for name, economy in hacontrol_envs.registered_economies().items():
        _entry(console, name, [str(parameter) for parameter in inspect.signature(economy).parameters.values()])
    console.print("\n[bold]Agents[/]  hacontrol_agents.make_agent(name, env=env, seed=0, **hyperparameters)")
    _list_agents(console, hyperparameters)
    console.print("\n[bold]Suites[/]  hacontrol run NAME")
    for name in suite_names():
        console.print(f"  [cyan]{name}[/]  {terminal(load_suite(name).description)}", highlight=False)
    return 0


def readme(checkout: tyro.conf.Positional[Path] = Path()) -> int:
    """Write the pages of environments and economies, and the tables of committed results in the README files.

    Args:
        checkout: the repository's folder.
    """
    from hacontrol_benchmarks.reporting.readme import write_pages

    print(*write_pages(checkout), sep="\n")
    return 0


def main(args: Sequence[str] | None = None) -> int:
    """Run a command and return the exit code: 0, or 1 if tasks failed, or 2 after a line that says what was wrong."""
    commands: dict[str, Callable[..., Any]] = {
        "run": run,
        "report": report,
        "time-step": time_step,
        "compare": compare,
        "list": list_names,
        "readme": readme,
    }
    before = (
        signal.signal(signal.SIGTERM, _terminate) if threading.current_thread() is threading.main_thread() else None
    )
    try:
        for argument in sys.argv[1:] if args is None else args:
            if "\0" in argument:
                raise ParameterError(f"an argument must not hold a NUL, got {short(argument)}")
        return int(tyro.extras.subcommand_cli_from_dict(commands, prog="hacontrol", description=__doc__, args=args))
    except (HacontrolError, OSError) as error:
        print(f"hacontrol: {_said(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        print("hacontrol: interrupted; the same command goes on from here", file=sys.stderr)
        code = 143 if isinstance(error, _Terminated) else 130
        if args is None:  # a process of our own, whose libraries would take seconds to leave
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        return code
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)


class _Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a command as Ctrl-C does."""


def _terminate(*_: object) -> None:
    raise _Terminated


def _said(error: Exception) -> str:
    """Return an error in one line; for one of the system, what could not be done with which file."""
    if isinstance(error, HacontrolError) or not isinstance(error, OSError):
        return printable(str(error))
    where = f": {short(os.fspath(error.filename))}" if isinstance(error.filename, (str, Path)) else ""
    return printable(f"{error.strerror or error}{where}")


def _report(folder: Path) -> None:
    from hacontrol_benchmarks.reporting.report import write_report

    console = Console()
    page = write_report(folder, console)
    console.print(f"The page: {page}", highlight=False, soft_wrap=True)


def _read_parameters(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ParameterError(f"parameters must be JSON, got {short(text)}: {error}") from error
    if not isinstance(found, dict):
        raise ParameterError(f"parameters must be a JSON object, got {short(text)}")
    return found


def _train(name: str, env: Any, seed: int, total_timesteps: int | None) -> Learner:
    from hacontrol_benchmarks.judging.evaluation import watch

    kind = agent_class(name)
    agent: Learner = kind(**about(kind, env), seed=seed)
    callback = watch(env) if isinstance(env, gym.Env) else None
    return agent.learn(total_timesteps=total_timesteps, callback=callback, progress_bar=True)


def _first_that_learns(env: str) -> str:
    """Return the first of the default agents that learns about an environment or economy; npi where none does."""
    from hacontrol_benchmarks.running.runner import refuse_other_subject

    for name in DEFAULTS:
        with contextlib.suppress(ParameterError):
            refuse_other_subject(name, env)
            return name
    return DEFAULTS[0]


def _load(folder: Path, asked: Task, name: str, env: Any) -> Learner:
    """Load the trained agent of this name or label, on this environment, with the first seed there is.

    Results are data: they name registered agents only, which are read from our own sealed format.
    """
    from hacontrol_benchmarks.running.trial import agent_file

    for result in read_results(folder):
        task = result.task
        same = task.env == asked.env and task.parameters == asked.parameters and name in (task.label, task.agent)
        if same and agent_file(task, folder).is_file():
            return find_agent(task.agent).load(agent_file(task, folder), env=env)
    where = f"{asked.env} with {asked.parameters}"
    raise UnknownNameError(f"{str(folder)!r} has no trained agent called {name!r} on {where}")


def _print_numbers(scores: dict[str, dict[str, Any]]) -> None:
    table = Table(box=None, padding=(0, 2))
    table.add_column("metric")
    for name in scores:
        table.add_column(terminal(name), justify="right")
    for metric in next(iter(scores.values())):
        found = [score[metric] for score in scores.values()]
        if all(value is None for value in found):
            continue
        if not any(isinstance(value, dict) for value in found):
            table.add_row(metric, *map(show, found))
            continue
        keys = next(value for value in found if isinstance(value, dict))
        for key in keys:
            table.add_row(f"{metric}  {key}", *(show(value and value[key]) for value in found))
    Console().print(table)


def _list_agents(console: Console, hyperparameters: bool) -> None:
    """Print each agent with the name of its class, or, once all are imported, with its hyperparameters."""
    if not hyperparameters:
        for name, kind in agent_classes().items():
            console.print(f"  [cyan]{name}[/]  {kind}", highlight=False)
        return
    for name, agent in agents().items():
        chosen = [f for f in fields(agent) if f.name in (*agent.hyperparameter_names(), "device")]
        _entry(console, name, [f"{f.name}={_default(f)}" for f in chosen])


def _entry(console: Console, name: str, arguments: list[str]) -> None:
    console.print(f"  [cyan]{name}[/]", highlight=False)
    console.print(f"      {', '.join(arguments)}", highlight=False, markup=False)


def _default(field: Any) -> str:
    if field.default is not MISSING:
        return repr(field.default)
    return repr(field.default_factory()) if field.default_factory is not MISSING else "required"


if __name__ == "__main__":
    sys.exit(main())
