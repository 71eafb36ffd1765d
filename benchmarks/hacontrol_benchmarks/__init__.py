"""The leaderboard: agents judged by their distance from the optimum, in stages that read each other's files.

    suite (TOML) -> tasks -> a subprocess and an immutable result file per task -> scores -> table, Markdown, HTML page

`hacontrol run quick` runs all stages. Each is also a function: `load_suite`, `run_suite`, `evaluate`, `read_results`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hacontrol_benchmarks import requirements  # noqa: F401  (the first: it says what is not installed)
from hacontrol_envs.lazy import on_demand
from hacontrol_envs.renamed import warn

if TYPE_CHECKING:
    from hacontrol_benchmarks.judging.evaluation import evaluate
    from hacontrol_benchmarks.judging.judges import judge_of
    from hacontrol_benchmarks.judging.regret import Regret, regret
    from hacontrol_benchmarks.records.results import Result, publish, read_result, read_results
    from hacontrol_benchmarks.records.suites import Suite, load_suite, suite_names
    from hacontrol_benchmarks.records.tasks import Evaluation, Task
    from hacontrol_benchmarks.running.runner import run_suite
else:  # so that what needs no torch, such as `hacontrol list`, need not wait for it
    _on_demand, __dir__ = on_demand(
        __name__,
        {
            "judging.evaluation": "evaluate",
            "judging.judges": "judge_of",
            "judging.regret": "Regret regret",
            "records.results": "Result publish read_result read_results",
            "records.suites": "Suite load_suite suite_names",
            "records.tasks": "Evaluation Task",
            "running.runner": "run_suite",
        },
    )

    def __getattr__(name: str) -> Any:
        if name != "METRICS":
            return _on_demand(name)
        warn("hacontrol_benchmarks.METRICS", "judge_of(id).metrics")
        return import_module("hacontrol_benchmarks.judging.judges").METRICS


__all__ = [
    "Evaluation",
    "Regret",
    "Result",
    "Suite",
    "Task",
    "evaluate",
    "judge_of",
    "load_suite",
    "publish",
    "read_result",
    "read_results",
    "regret",
    "run_suite",
    "suite_names",
]
