"""Result files: one immutable JSON file per task, published exactly once, refused when torn or altered.

    {"sha256": "<of the bytes of the value of result>", "result": {...}}

JSON has no infinities and no NaN. An infinite number is the string "inf" or "-inf" (a policy's value may be -inf).
NaN is refused in a metric, where it would be an error of ours, and becomes null in a learning curve, where it says "not
measured".

Files of format 1 have the metrics' old names (see `renamed`), and are read with the new ones.
"""

from __future__ import annotations

import hashlib
import math
import os
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec

from hacontrol_agents.core.files import content_of, written
from hacontrol_agents.core.plain import refuse_unplain, shown
from hacontrol_benchmarks.records.provenance import Code, Machine
from hacontrol_benchmarks.records.renamed import ByMetric, with_new_names
from hacontrol_benchmarks.records.tasks import Task
from hacontrol_envs.core.parameters import count, number
from hacontrol_envs.errors import CheckpointError, ParameterError

FORMAT = 2
"""Version of the file format that is written; any from 1 on is read."""
SUFFIX = ".json"
MOST_BYTES = 16_000_000
"""Largest size of a result file. [bytes]."""
MOST_ROWS = 100_000
"""Largest number of rows of a learning curve."""

Number: TypeAlias = float | bool | Literal["inf", "-inf"] | None
"""A number, or a string where it is infinite, or a truth value, or None where it does not apply."""


class Times(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """When a task was started, and how long its parts took."""

    started: str
    """Time of the start, ISO 8601, UTC."""
    learning: float | None = None
    """Duration of learning; None where it did not end. [s]."""
    evaluation: float | None = None
    """Duration of the evaluation; None where it did not end. [s]."""


class Result(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The outcome of a task."""

    task: Task
    """Subject, agent, seed and budget of the run."""
    status: Literal["ok", "failed"]
    """"ok", or "failed" where learning or the evaluation raised an exception or the process died."""
    message: str = ""
    """Why the task failed; empty if it did not."""
    ending: Literal["", "certified", "not certified", "failed"] = ""
    """How learning ended, as `Learner.ending` says; empty where the agent, or an older result, does not."""
    reason: str = ""
    """Why learning did not end certified, and what to try."""
    metrics: dict[str, Number | dict[str, Number]] = {}
    """Metrics by name, as the judge of the subject lists them; None where a metric does not apply."""
    evaluations: int | None = None
    """Number of state-action points that learning evaluated; None where it did not end."""
    history: list[dict[str, Number]] = []
    """Rows of the learning curve."""
    problem_parameters: dict[str, Any] = {}
    """Every parameter of the problem, defaults included."""
    dt: float | None = None
    """The environment's time step; None for an economy."""
    agent_hyperparameters: dict[str, Any] = {}
    """Every hyperparameter of the agent, defaults included."""
    times: Times
    """When the task was started, and how long its parts took."""
    code: Code
    """The version of hacontrol that ran."""
    machine: Machine
    """The machine that it ran on."""
    format: int = FORMAT
    """Version of the file format."""

    @property
    def doubt(self) -> str:
        """Why learning did not end certified, of a learner that can certify what it has learnt; empty otherwise."""
        asked = self.ending == "not certified" and self.metrics.get("converged") is not None
        return self.reason if asked else ""

    def __post_init__(self) -> None:
        if self.evaluations is not None:
            count("evaluations", self.evaluations, at_least=0)
        if self.dt is not None:
            number("dt", self.dt, above=0.0)
        for name in ("learning", "evaluation"):
            if (seconds := getattr(self.times, name)) is not None:
                number(f"seconds of {name}", seconds, at_least=0.0)
        if len(self.history) > MOST_ROWS:
            raise ValueError(f"history must have at most {MOST_ROWS} rows, got {len(self.history)}")
        for held in ("problem_parameters", "agent_hyperparameters"):
            refuse_unplain(held, getattr(self, held))


class _Envelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    sha256: str
    result: msgspec.Raw


def publish(result: Result, folder: str | os.PathLike[str]) -> bool:
    """Write the result of a task to `folder`, whole, durably and exactly once; return False if there was one already.

    Raises:
        ParameterError: the result holds NaN, or something that JSON cannot hold.
    """
    body = msgspec.json.format(_encode(result), indent=1)
    content = msgspec.json.encode(_Envelope(hashlib.sha256(body).hexdigest(), msgspec.Raw(body)))
    return publish_once(Path(folder) / f"{result.task.id}{SUFFIX}", content)


def publish_once(target: Path, content: bytes) -> bool:
    """Create `target` with this content so that a crash leaves nothing or all of it; return False if it exists."""
    with written(target.parent, content) as temporary:
        try:
            os.link(temporary, target)
        except FileExistsError:
            return False
    _sync_folder(target.parent)
    return True


def read_result(path: str | os.PathLike[str]) -> Result:
    """Read the result in a file, which must be called by the id of its task: a copy or a swapped file is refused.

    Raises:
        CheckpointError: the file cannot be read, is not a result, is torn or altered, or has another task's name.
    """
    base = os.path.basename(path)
    name = shown(base)
    content = content_of(path, "result file", MOST_BYTES)
    try:
        envelope = msgspec.json.decode(content, type=_Envelope)
        body = bytes(envelope.result)
        if hashlib.sha256(body).hexdigest() != envelope.sha256:
            raise CheckpointError(
                f"result file {name} was altered: its SHA-256 does not match; delete it and run again"
            )
        result = msgspec.json.decode(body, type=Result)
        own = f"{result.task.id}{SUFFIX}"
    except (msgspec.MsgspecError, UnicodeError, RecursionError, OverflowError) as error:
        raise CheckpointError(
            f"result file {name} is torn or is not a result: {shown(error)}; delete it and run again"
        ) from error
    if not 1 <= result.format <= FORMAT:
        raise CheckpointError(f"result file {name} has format {result.format}, this version reads 1 to {FORMAT}")
    if base != own:
        raise CheckpointError(
            f"result file {name} holds the result of another task, whose file is {own!r}: it was renamed, copied or "
            "altered; delete it and run again"
        )
    metrics = result.metrics if result.format == FORMAT else with_new_names(result.metrics)
    return msgspec.structs.replace(result, metrics=ByMetric(metrics), format=FORMAT)


def read_results(folder: str | os.PathLike[str]) -> list[Result]:
    """Read every result in a folder, in the order of file names.

    Raises:
        CheckpointError: there are none, or one of them is torn or altered.
    """
    results = [read_result(path) for path in sorted(Path(folder).glob(f"*{SUFFIX}"))]
    if not results:
        raise CheckpointError(f"there are no result files in {os.fspath(folder)!r}; make some: hacontrol run quick")
    return results


def metric(result: Result, name: str, key: str | None = None) -> float | None:
    """Return a number among the metrics; None where it does not apply.

    Args:
        result: the result.
        name: name of the metric.
        key: name of the entry, of a metric that has several; None for one that is a number.

    Raises:
        CheckpointError: the result has something else there.
    """
    found: Any = result.metrics.get(name)
    if key is not None and found is not None:
        found = found.get(key, "no such entry") if isinstance(found, dict) else "no entries"
    if found is None or (isinstance(found, (int, float)) and not isinstance(found, bool)):
        return found
    if found in ("inf", "-inf"):
        return float(found)
    what = name if key is None else f"{name}[{key!r}]"
    raise CheckpointError(f"result {result.task.id!r} has {what} = {shown(found)}, which is not a number")


def plain_metrics(metrics: dict[str, Any]) -> dict[str, Any]:
    """Return metrics as JSON can hold them.

    Raises:
        ParameterError: one is NaN.
    """
    return {name: _plain(name, value) for name, value in metrics.items()}


def plain_history(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a learning curve as JSON can hold it."""
    return [{name: None if _is_nan(value) else _plain(name, value) for name, value in row.items()} for row in history]


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(f"{name}.{key}", entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(name, entry) for entry in value]
    if value is None or isinstance(value, (str, bool, int)):
        return value
    value = float(value)
    if math.isnan(value):
        raise ParameterError(f"{name} is NaN, which is not a result")
    return value if math.isfinite(value) else ("inf" if value > 0 else "-inf")


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _encode(result: Result) -> bytes:
    """JSON of a result; msgspec would turn what is not finite into null without a word."""
    try:
        _plain(result.task.id, msgspec.to_builtins(result))
        return msgspec.json.encode(result)
    except (TypeError, msgspec.MsgspecError) as error:
        raise ParameterError(f"result of {result.task.id!r} holds something that JSON cannot hold: {error}") from error


def _sync_folder(folder: Path) -> None:
    """Make a new name in the folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
