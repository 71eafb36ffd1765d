"""The runner: one subprocess per task, a few at a time; whatever is killed, each task ends with one result file."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TypeAlias

import gymnasium as gym
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from hacontrol_benchmarks.provenance import cores
from hacontrol_benchmarks.results import SUFFIX, Result, publish, read_result
from hacontrol_benchmarks.tasks import Task, agent_class
from hacontrol_benchmarks.trial import failure
from hacontrol_envs import economies
from hacontrol_envs.errors import ParameterError

ATTEMPTS = 5
"""How often a task is started whose process dies without a result."""

Note: TypeAlias = "Callable[[str], None]"


def run_suite(
    tasks: list[Task],
    folder: str | os.PathLike[str],
    *,
    workers: int = 2,
    retry_failed: bool = False,
    console: Console | None = None,
) -> list[Result]:
    """Run the tasks that have no result in `folder` yet, and return the results of all.

    Any process, this one too, may be killed at any time: run it again and it goes on. A task whose process dies
    without a result (killed, out of memory) is started up to ATTEMPTS times, and is then a result of status "failed".

    Args:
        workers: tasks at a time; the cores are shared out among them.
        retry_failed: first forget the failed results among these tasks.

    Raises:
        UnknownNameError, ParameterError: an environment or agent that does not exist, before anything is run.
        CheckpointError: a result file in the folder is torn or altered.
    """
    if workers < 1:
        raise ParameterError(f"workers must be at least 1, got {workers}")
    check_tasks(tasks)
    folder = Path(folder)
    for sub in ("agents", "logs"):
        (folder / sub).mkdir(parents=True, exist_ok=True)
    if retry_failed:
        _forget_failures(tasks, folder)
    missing = [task for task in tasks if not _result_file(task, folder).exists()]
    with _progress(console) as progress, ThreadPoolExecutor(workers) as pool:
        overall = progress.add_task("[bold]all tasks", total=len(tasks), completed=len(tasks) - len(missing))

        def one(task: Task) -> Task:
            line = progress.add_task(f"{task.problem} · {task.label} · seed {task.seed}", total=None)
            try:
                _run_to_result(task, folder, workers)
            finally:
                progress.remove_task(line)
            return task

        for future in as_completed([pool.submit(one, task) for task in missing]):
            result = read_result(_result_file(future.result(), folder))
            progress.advance(overall)
            progress.console.print(_summary(result))
    return [read_result(_result_file(task, folder)) for task in tasks]


def check_tasks(tasks: list[Task]) -> None:
    """Build every environment and find every agent once: an hour into a suite is late to hear of a misspelt name.

    Raises:
        UnknownNameError, ParameterError: an environment or agent that does not exist, or a parameter it does not have.
    """
    for _, task in {(task.env, repr(task.parameters)): task for task in tasks}.items():
        made = task.make_env()
        if isinstance(made, gym.Env):
            made.close()
    for name, env in dict.fromkeys((task.agent, task.env) for task in tasks):
        refuse_other_subject(name, env)


def refuse_other_subject(agent: str, env: str) -> None:
    """Raise ParameterError for an agent of environments on an economy, or the other way round."""
    wanted = getattr(agent_class(agent), "subject", "env")
    if wanted != ("industry" if env in economies() else "env"):
        kind = "an economy" if wanted == "industry" else "an environment"
        raise ParameterError(f"agent {agent!r} learns about {kind}, which {env!r} is not")


def _run_to_result(task: Task, folder: Path, workers: int) -> None:
    target, code = _result_file(task, folder), 0
    for _ in range(ATTEMPTS):
        code = _run_once(task, folder, workers)
        if target.exists():
            return
    how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    publish(failure(task, f"the process {how} without a result, {ATTEMPTS} times; see logs/{task.id}.log"), folder)


def _run_once(task: Task, folder: Path, workers: int) -> int:
    """Run a worker to its end; its exit code, or minus the signal that killed it."""
    threads = str(max(1, cores() // workers))
    environment = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), threads)
    environment["OPENBLAS_NUM_THREADS"] = threads
    command = [sys.executable, "-m", "hacontrol_benchmarks.worker", str(folder)]
    with open(folder / "logs" / f"{task.id}.log", "ab") as log:
        worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment)
        assert worker.stdin is not None
        try:
            worker.stdin.write(msgspec.json.encode(task) + b"\n")
            worker.stdin.flush()  # and left open: the worker takes its closing for our death
            return worker.wait()
        except BrokenPipeError:
            return worker.wait()
        except BaseException:
            worker.kill()
            raise
        finally:
            worker.stdin.close()


def _forget_failures(tasks: list[Task], folder: Path) -> None:
    for task in tasks:
        file = _result_file(task, folder)
        if file.exists() and read_result(file).status == "failed":
            file.unlink()


def _result_file(task: Task, folder: Path) -> Path:
    return folder / f"{task.id}{SUFFIX}"


def _progress(console: Console | None) -> Progress:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=console or Console(stderr=True), transient=True)


def _summary(result: Result) -> str:
    task = result.task
    name = f"{task.problem} · {task.label} · seed {task.seed}"
    if result.status == "failed":
        return f"[red]failed[/]  {name}: {result.message.splitlines()[0] if result.message else ''}"
    shown = [(name, result.metrics.get(name)) for name in ("value_loss", "price_error", "path_error")]
    lost = "".join(f"{name.replace('_', ' ')} {float(loss):.2e}, " for name, loss in shown if loss is not None)
    return f"[green]done[/]    {name}: {lost}learnt in {result.times.learning or 0:.0f} s"
