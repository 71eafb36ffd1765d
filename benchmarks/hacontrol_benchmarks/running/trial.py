"""Carry out one task: learn, judge, publish."""

from __future__ import annotations

import os
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import gymnasium as gym
import msgspec

from hacontrol_agents.core.learner import Learner
from hacontrol_benchmarks.judging.evaluation import evaluate, watch
from hacontrol_benchmarks.records import provenance
from hacontrol_benchmarks.records.results import Result, Times, plain_history, plain_metrics, publish
from hacontrol_benchmarks.records.tasks import Task, agent_class


def run_task(task: Task, folder: str | os.PathLike[str]) -> Result:
    """Learn, judge the agent, and publish the result in `folder`, where the trained agent is kept too.

    An exception in learning or in the evaluation gives a result of status "failed" that carries its message. Where the
    agent's class has imported torch, torch computes with the task's number of threads from then on; NumPy's linear
    algebra does where the process was started so, as the runner starts its workers.
    """
    started = _now()
    known: dict[str, Any] = {}
    try:
        env = task.make_env()
        agent_class(task.agent)
        if torch := sys.modules.get("torch"):
            torch.set_num_threads(task.threads)
        agent = task.make_agent(env)
        known = {**_about(env), "agent_hyperparameters": getattr(agent, "hyperparameters", task.hyperparameters)}
        clock = time.perf_counter()
        agent.learn(total_timesteps=task.total_timesteps, callback=watch(env) if "dt" in known else None)
        learning = time.perf_counter() - clock
        if isinstance(agent, Learner):
            known |= {"ending": agent.ending, "reason": agent.reason[:2000]}
        known |= {"evaluations": agent.evaluations, "history": plain_history(agent.history)}
        agent.save(agent_file(task, folder))
        clock = time.perf_counter()
        metrics = plain_metrics(evaluate(agent, env, task.evaluation))
        times = Times(started=started, learning=learning, evaluation=time.perf_counter() - clock)
        result = Result(task=task, status="ok", metrics=metrics, times=times, **known, **_here(task))
        publish(result, folder)
    except Exception as error:
        result = failure(task, f"{type(error).__name__}: {error}", started, **known)
        publish(result, folder)
    return result


def _about(env: Any) -> dict[str, Any]:
    """Return the parameters of an environment's problem and its step, or those of an economy."""
    if not isinstance(env, gym.Env):
        return {"problem_parameters": env.parameters}
    inner: Any = env.unwrapped
    return {"problem_parameters": inner.problem.parameters, "dt": inner.dt}


def failure(task: Task, message: str, started: str | None = None, **known: Any) -> Result:
    """Return the result of a task that failed.

    Args:
        task: the task.
        message: why it failed; at most 2000 characters are kept.
        started: time of the start, ISO 8601; None for now.
        known: other fields of the result that are known.
    """
    times = Times(started=started or _now())
    return Result(task=task, status="failed", message=message[:2000], times=times, **known, **_here(task))


def agent_file(task: Task, folder: str | os.PathLike[str]) -> Path:
    """Return the file of a task's trained agent, in a folder that exists."""
    path = Path(folder) / "agents" / f"{task.id}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _here(task: Task) -> dict[str, Any]:
    machine = msgspec.structs.replace(provenance.machine(), threads=task.threads)
    return {"code": provenance.code(), "machine": machine}


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
