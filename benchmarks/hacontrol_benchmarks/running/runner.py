"""The runner: one subprocess per task, a few at a time; whatever is killed, each task ends with one result file."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import IO, final

import gymnasium as gym
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from hacontrol_benchmarks.judging.judges import judge_of_results
from hacontrol_benchmarks.records.results import SUFFIX, Result, metric, publish, read_result
from hacontrol_benchmarks.records.tasks import Task, agent_class
from hacontrol_benchmarks.records.text import terminal
from hacontrol_benchmarks.running.trial import failure
from hacontrol_envs import Economy, Problem, registered_economies
from hacontrol_envs.core.parameters import count
from hacontrol_envs.core.registration import problem_class
from hacontrol_envs.errors import ParameterError

ATTEMPTS = 5
"""Largest number of times that a task is started whose process dies without a result."""
MOST_WORKERS = 1024
"""Largest number of tasks that run at the same time."""
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "NUMBA_NUM_THREADS")
"""Environment variables from which libraries read, when they are loaded, the number of threads."""


def run_suite(
    tasks: list[Task],
    folder: str | os.PathLike[str],
    *,
    workers: int = 2,
    retry_failed: bool = False,
    console: Console | None = None,
) -> list[Result]:
    """Run the tasks that have no result in `folder` yet, and return the results of all.

    Any process, this one too, may be killed at any time: a second call resumes. A task whose process dies without a
    result (killed, out of memory) is started up to ATTEMPTS times, and then has a result of status "failed". An
    exception in this process, such as that of Ctrl-C, ends the workers at once, and counts as no attempt.

    Args:
        tasks: the tasks.
        folder: folder of results; it is made where it does not exist.
        workers: number of tasks that run at the same time.
        retry_failed: first delete the failed results among these tasks.
        console: where progress is shown; None for the terminal.

    Raises:
        UnknownNameError, ParameterError: an environment or agent that does not exist, before anything is run.
        CheckpointError: a result file in the folder is torn or altered.
    """
    workers = count("workers", workers, at_most=MOST_WORKERS)
    check_tasks(tasks)
    folder = Path(folder)
    for sub in ("agents", "logs"):
        (folder / sub).mkdir(parents=True, exist_ok=True)
        if (folder / sub).is_symlink():
            raise ParameterError(f"{str(folder / sub)!r} is a link to another place, where nothing will be written")
    if retry_failed:
        _forget_failures(tasks, folder)
    missing = [task for task in tasks if not _result_file(task, folder).exists()]
    with _progress(console) as progress, _Crew(workers) as crew:
        overall = progress.add_task("[bold]all tasks", total=len(tasks), completed=len(tasks) - len(missing))

        def one(task: Task) -> Task:
            line = progress.add_task(terminal(_name(task)), total=None)
            try:
                _run_to_result(task, folder, crew)
            finally:
                progress.remove_task(line)
            return task

        for future in as_completed([crew.pool.submit(one, task) for task in missing]):
            result = read_result(_result_file(future.result(), folder))
            progress.advance(overall)
            progress.console.print(_summary(result))
    return [read_result(_result_file(task, folder)) for task in tasks]


def check_tasks(tasks: list[Task]) -> None:
    """Build every environment and find every agent once, so that a misspelt name is found before anything is run.

    Raises:
        UnknownNameError, ParameterError: an environment or agent that does not exist, or a parameter it does not have.
    """
    for _, task in {(task.env, repr(task.parameters)): task for task in tasks}.items():
        made = task.make_env()
        if isinstance(made, gym.Env):
            made.close()
    for name, env in dict.fromkeys((task.agent, task.env) for task in tasks):
        refuse_other_subject(name, env.rpartition(":")[2])


def refuse_other_subject(agent: str, env: str) -> None:
    """Raise ParameterError for an agent on an environment or economy that it does not learn about, as it declares."""
    kind, made = agent_class(agent), registered_economies().get(env) or problem_class(env)
    learns_about = getattr(kind, "learns_about", lambda other: issubclass(other, Problem))
    if made is None or learns_about(made):
        return
    wanted = getattr(kind, "learns", Problem)
    what = "an economy" if issubclass(wanted, Economy) else "an environment"
    if issubclass(made, Economy) == issubclass(wanted, Economy):
        what = f"a {wanted.__name__}"
    raise ParameterError(f"agent {agent!r} learns about {what}, which {env!r} is not")


@final
class _Crew:
    """Workers, so many at a time. Leaving by an exception cancels what waits, ends what runs, and lets none begin."""

    def __init__(self, workers: int) -> None:
        self.pool = ThreadPoolExecutor(workers)
        self.stopped = False
        self._busy: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()

    def __enter__(self) -> _Crew:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._stop()
        self.pool.shutdown(wait=True, cancel_futures=kind is not None)

    def _stop(self) -> None:
        with self._lock:
            self.stopped = True
            for worker in self._busy:
                _end(worker)

    def run(self, task: Task, folder: Path) -> int:
        """Run a worker to its end; its exit code, or minus the signal that killed it."""
        with _log(task, folder) as log, self._lock:
            if self.stopped:
                return 0
            worker = subprocess.Popen(
                [sys.executable, "-m", "hacontrol_benchmarks.running.worker", str(folder)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=os.environ | dict.fromkeys(THREADS, str(task.threads)),
                start_new_session=True,  # a terminal's Ctrl-C is for us, who end it
            )
            self._busy.add(worker)
        assert worker.stdin is not None
        try:
            worker.stdin.write(msgspec.json.encode(task) + b"\n")
            worker.stdin.flush()  # and left open: the worker takes its closing for our death
            return worker.wait()
        except BrokenPipeError:
            return worker.wait()
        except BaseException:
            _end(worker)
            raise
        finally:
            with contextlib.suppress(BrokenPipeError):
                worker.stdin.close()
            with self._lock:
                self._busy.discard(worker)


def _end(worker: subprocess.Popen[bytes]) -> None:
    """Kill a worker and what it has started; it is the head of their group."""
    if worker.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(worker.pid, signal.SIGKILL)


def _run_to_result(task: Task, folder: Path, crew: _Crew) -> None:
    target, code = _result_file(task, folder), 0
    for _ in range(ATTEMPTS):
        code = crew.run(task, folder)
        if crew.stopped or target.exists():
            return
    how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    publish(failure(task, f"the process {how} without a result, {ATTEMPTS} times; see logs/{task.id}.log"), folder)


def _log(task: Task, folder: Path) -> IO[bytes]:
    """The log of a task, to be appended to; a link in its place is not followed."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
    return os.fdopen(os.open(folder / "logs" / f"{task.id}.log", flags, 0o644), "ab")


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


def _name(task: Task) -> str:
    return f"{task.title} · {task.label} · seed {task.seed}"


def _summary(result: Result) -> str:
    name = terminal(_name(result.task))
    if result.status == "failed":
        return f"[red]failed[/]  {name}: {terminal(result.message.splitlines()[0] if result.message else '')}"
    judge = judge_of_results([result.task.subject], [result.metrics])
    known = [name for name, score in result.metrics.items() if score is not None]
    headline = judge.headline(known) or judge.headlines[0]
    loss = metric(result, headline)
    lost = "" if loss is None else f"{headline.replace('_', ' ')} {loss:.2e}, "
    doubt = f", not certified: {terminal(result.doubt)}" if result.doubt else ""
    return f"[green]done[/]    {name}: {lost}learnt in {result.times.learning or 0:.0f} s{doubt}"
