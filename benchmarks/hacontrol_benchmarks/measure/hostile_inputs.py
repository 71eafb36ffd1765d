"""Hostile inputs to hacontrol at each place that takes input; see `measure.fuzz`."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import io
import json as json_text
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import gymnasium as gym
import msgspec
import numpy as np
import torch

import hacontrol_envs
from hacontrol_agents import Learner, agents, make_agent
from hacontrol_agents.core import checkpoint
from hacontrol_agents.core.subjects import make_subject
from hacontrol_benchmarks.cli import main as command_line
from hacontrol_benchmarks.records.provenance import Code, Machine
from hacontrol_benchmarks.records.results import Result, Times, read_result
from hacontrol_benchmarks.records.suites import load_suite
from hacontrol_benchmarks.records.tasks import Task
from hacontrol_benchmarks.reporting.report import make_report, markdown
from hacontrol_benchmarks.running.runner import check_tasks
from hacontrol_envs.errors import HacontrolError

LONGEST = 2000
"""Most characters of an error message."""

Rng: TypeAlias = np.random.Generator
Try: TypeAlias = "Callable[[Rng, Path], None]"

NUMBERS = (0, 1, -1, 2, 0.5, -0.0, 1e-300, 1e300, -1e300, 1e-12, 2**31, 2**63, 10**18, 10**400, math.nan, math.inf)
WORDS = (
    "",
    "nan",
    "inf",
    "x" * 5000,
    "a\nb",
    "\x1b[31m",
    "\0",
    "[red]",
    "<b>",
    "../..",
    "os:system",
    "evil_module:Evil",
)
OTHERS: tuple[Any, ...] = (
    None,
    True,
    False,
    [],
    {},
    [1],
    [[1, 2], [3]],
    [1e400],
    {"a": 1},
    {"a": {"b": {"c": {"d": {"e": {}}}}}},
    [None],
)
KEYS = (
    "problem",
    "entry_point",
    "self",
    "env",
    "seed",
    "device",
    "render_mode",
    "id",
    "",
    "a b",
    "\0",
    "beta",
    "x" * 300,
)


def hostile(rng: Rng, like: Any = None) -> Any:
    """Draw a value that nobody would give; in place of a number, half the time another number of any size."""
    if isinstance(like, (int, float)) and not isinstance(like, bool) and abs(like) < 1e100 and rng.random() < 0.5:
        return float(like * 10.0 ** rng.uniform(-4, 4)) if rng.random() < 0.5 else int(rng.integers(-2, 100))
    pool: tuple[Any, ...] = (NUMBERS, WORDS, OTHERS)[rng.integers(3)]
    return copy.deepcopy(pool[rng.integers(len(pool))])


def mutated(rng: Rng, value: Any) -> Any:
    """Return the JSON value with one place replaced, removed, doubled or added to."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        changed, key = dict(value), list(value)[rng.integers(len(value))]
        choice = rng.random()
        if choice < 0.1:
            del changed[key]
        elif choice < 0.2:
            changed[KEYS[rng.integers(len(KEYS))]] = hostile(rng)
        else:
            changed[key] = mutated(rng, value[key])
        return changed
    if isinstance(value, list) and value and rng.random() < 0.7:
        place = int(rng.integers(len(value)))
        return [*value[:place], mutated(rng, value[place]), *value[place + 1 :]]
    return hostile(rng, value)


def several(rng: Rng, value: Any) -> Any:
    """Apply one to three mutations to a JSON value."""
    for _ in range(rng.integers(1, 4)):
        value = mutated(rng, value)
    return value


def constructors(rng: Rng, folder: Path) -> None:
    """Make a problem or an economy with hostile parameters."""
    names = [*hacontrol_envs.registered_ids(), *hacontrol_envs.registered_economies()]
    weight = np.array([0.02 if name.startswith("KrusellSmith") else 1.0 for name in names])  # they take a second each
    name = str(rng.choice(names, p=weight / weight.sum()))
    parameters = several(rng, PARAMETERS.get(name, {}) | ({} if name == "FirmIndustry" else {"dt": 0.05}))
    if isinstance(parameters, dict):
        made = make_subject(name, {str(key): value for key, value in parameters.items()})
        if isinstance(made, gym.Env) and not name.startswith("KrusellSmith"):  # whose reset solves the economy
            made.reset(seed=0)


PARAMETERS: dict[str, dict[str, Any]] = {
    "BrockMirman-v0": {"discount_factor": 0.96},
    "FirmInvestment-v0": {"discount": 0.05, "depreciation": 0.1, "volatility": 0.1, "price": 1.0},
    "KrusellSmith-v0": {"calibration": "ssj", "asset_nodes": 50, "risk_aversion": 2.0, "observe": "moments"},
    "KrusellSmithCloud-v0": {"calibration": "ssj", "asset_nodes": 50},
    "LQR-v0": {"dimension": 2, "discount": 0.1, "noise_matrix": [[0.5, 0.0], [0.0, 0.5]], "control_cost": 1.0},
    "Merton-v0": {"risk_aversion": 3.0, "volatility": 0.2, "horizon": 1.0, "bequest": 1.0},
    "FirmIndustry": {"demand_elasticity": 1.0, "volatility": 0.1},
}
"""Valid parameters by id or name, of which some are altered."""


def hyperparameters(rng: Rng, folder: Path) -> None:
    """Make an agent with hostile hyperparameters."""
    weight = np.array([0.1 if name in SLOW else 1.0 for name in SUBJECTS])
    name = str(rng.choice(list(SUBJECTS), p=weight / weight.sum()))
    given = several(rng, _defaults(name))
    if isinstance(given, dict):
        Task(title="p", env=SUBJECTS[name], label="l", agent=name, hyperparameters=given).make_agent(_subject(name))


SUBJECTS = dict.fromkeys(("npi", "hjb-pinn", "ctq", "ppo", "sac", "td3", "dac", "random", "analytic"), "LQR-v0")
SUBJECTS |= {"deqn": "BrockMirman-v0", "hjb-fp-pinn": "FirmIndustry", "hjb-fp-published": "FirmIndustry"}
SLOW = ("ppo", "sac", "td3", "dac")
_MADE: dict[str, Any] = {}


def _subject(name: str) -> Any:
    """The environment or economy of an agent, made once."""
    id, parameters = SUBJECTS[name], {"adjustment": "as-published"} if name == "hjb-fp-published" else {}
    if (key := f"subject {id} {parameters}") not in _MADE:
        _MADE[key] = make_subject(id, parameters)
    return _MADE[key]


def _defaults(name: str) -> dict[str, Any]:
    """An agent's own hyperparameters as JSON gives them."""
    if (key := f"agent {name}") not in _MADE:
        kind: Any = agents()[name]
        agent = make_agent(name, **kind.about(_subject(name)), seed=0)
        _MADE[key] = json_text.loads(json_text.dumps(agent.hyperparameters))
        if "settings" in _MADE[key]:
            _MADE[key]["settings"] = {"learning_rate": 1e-3, "policy_kwargs": {"net_arch": [8, 8]}, "batch_size": 64}
    found: dict[str, Any] = _MADE[key]
    return found


SUITE: dict[str, Any] = {
    "name": "mine",
    "description": "For a fuzz.",
    "seeds": [0, 1],
    "threads": 1,
    "problem": [{"env": "LQR-v0", "label": "one", "parameters": {"dimension": 2}}, {"env": "Merton-v0"}],
    "agent": [
        {"name": "npi", "label": "npi", "hyperparameters": {"hidden": [8, 8]}, "total_timesteps": 1000},
        {"name": "random", "seeds": [0], "problems": ["one"], "physical_time": 10.0},
    ],
    "evaluation": {"paths": 8, "points": 8, "max_steps": 8, "seed": 1},
}


def suites(rng: Rng, folder: Path) -> None:
    """Read a suite's TOML with hostile values, or with bytes altered."""
    given = SUITE if rng.random() < 0.2 else several(rng, SUITE)
    text = toml(given).encode("utf-8", "surrogatepass")
    (folder / "suite.toml").write_bytes(damaged(rng, text) if given is SUITE else text)
    tasks = load_suite(str(folder / "suite.toml")).tasks()
    check_tasks([task for task in tasks if ":" not in task.agent])


def toml(value: Any) -> str:
    """Return the TOML of a JSON value, inline below the top."""
    if not isinstance(value, dict):
        return f"x = {_inline(value)}"
    return "\n".join(f"{json_text.dumps(key)} = {_inline(entry)}" for key, entry in value.items())


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json_text.dumps(key)} = {_inline(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_inline, value)) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf"
    return '"null"' if value is None else json_text.dumps(value)


def damaged(rng: Rng, content: bytes) -> bytes:
    """Return the content with a few bytes altered, or cut off."""
    altered = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        altered[rng.integers(len(altered))] = rng.integers(256)
    return bytes(altered[: rng.integers(len(altered))] if rng.random() < 0.2 else altered)


COMMANDS: tuple[tuple[str, ...], ...] = (
    ("run", "{suite}", "--folder", "{folder}/board", "--workers", "0"),
    ("report", "{folder}/nowhere"),
    ("time-step", "{folder}/nowhere", "--out", "figure.png"),
    ("compare", "LQR-v0", "--agent", "nobody", "--total-timesteps", "10", "--seed", "0"),
    ("compare", "LQR-v0", "--run", "{folder}", "--agent", "npi", "--parameters", '{{"dimension": 2}}'),
    ("compare", "Nowhere-v0", "--parameters", "{{}}", "--out", "{folder}/figure.png"),
)
"""Command lines that are altered; as they stand, each ends with an error before it does anything."""


def commands(rng: Rng, folder: Path) -> None:
    """Run a command line with an argument replaced, removed or doubled; require an exit code of 0 or 2."""
    line = [part.format(folder=folder, suite=folder / "none.toml") for part in COMMANDS[rng.integers(len(COMMANDS))]]
    for _ in range(rng.integers(1, 3)):
        place = int(rng.integers(1, len(line)))
        pool = (
            *WORDS,
            *map(str, NUMBERS[:13]),
            "9" * 400,
            "[" * 5000,
            '{"dimension": 1e999}',
            "--seed",
            "--agent",
            "-1",
        )
        line[place] = pool[rng.integers(len(pool))]
        if rng.random() < 0.2:
            line.insert(place, line[place])
    error, out = io.StringIO(), io.StringIO()
    with contextlib.redirect_stderr(error), contextlib.redirect_stdout(out):
        try:
            code = command_line(line)
        except SystemExit as ended:
            code = int(ended.code or 0)
            error.truncate(0)  # tyro's own usage message has many lines
    if code not in (0, 2):
        raise AssertionError(f"exit code {code}")
    refuse_lines(error.getvalue().removesuffix("\n"))
    if code == 2:
        raise HacontrolError("refused by the command line")


def results(rng: Rng, folder: Path) -> None:
    """Report a result file with hostile values, sealed, under the name that its task would give it."""
    raw = several(rng, RESULT)
    content = sealed(raw)
    if rng.random() < 0.2:
        content = damaged(rng, content)
    for old in folder.glob("*.json"):
        old.unlink()
    path = folder / file_name(raw)
    path.write_bytes(content)
    read_result(path)
    markdown(make_report(folder))


def sealed(raw: Any) -> bytes:
    """Return a result file of this content, with the seal that it must have."""
    body = json_text.dumps(raw).encode()
    return b'{"sha256":"%s","result":%s}' % (hashlib.sha256(body).hexdigest().encode(), body)


def file_name(raw: Any) -> str:
    """Return the file name of a result, where its task can be read."""
    try:
        return f"{msgspec.convert(raw['task'], Task).id}.json"
    except Exception:  # whatever it is, reading it is what is tried
        return "some.json"


RESULT: dict[str, Any] = msgspec.to_builtins(
    Result(
        task=Task(title="LQR-v0", env="LQR-v0", label="npi", agent="npi"),
        status="ok",
        metrics={
            "value_loss": 0.1,
            "value_loss_error": 0.01,
            "policy_error_visited": 0.1,
            "residual_visited": {"95%": 0.1},
        },
        evaluations=1000,
        history=[{"evaluations": 10, "seconds": 1.0, "loss": 0.1}],
        problem_parameters={"dimension": 2},
        dt=0.1,
        agent_hyperparameters={"hidden": [8]},
        times=Times(started="2026-01-01T00:00:00+00:00", learning=1.0, evaluation=1.0),
        code=Code("0.1.0", "abc", False),
        machine=Machine("a processor", 2, "3.11", {"numpy": "2"}, 1),
    )
)


SAVED = {"random": 0.4, "analytic": 0.3, "npi": 0.15, "ctq": 0.1, "ppo": 0.05}
"""Share in the inputs of each agent whose files are altered."""


def checkpoints(rng: Rng, folder: Path) -> None:
    """Load a saved agent with a hostile record or altered tensors or bytes, sealed again."""
    name = str(rng.choice(list(SAVED), p=list(SAVED.values())))
    content = saved(name, folder)
    path = folder / "agent.safetensors"
    path.write_bytes(content)
    tensors, record = checkpoint.read(path)
    choice = rng.random()
    if choice < 0.7:
        try:
            checkpoint.write(path, tensors, several(rng, record))
        except (ValueError, TypeError):  # NaN, which our own writer refuses
            return
    elif choice < 0.85:
        tensors = tensors or {"empty": torch.zeros(0)}  # as in files of 0.1, where nothing is learnt
        key = list(tensors)[rng.integers(len(tensors))]
        other = (tensors[key] * float("nan"), tensors[key].flatten()[:1], tensors[key].float()[None])[rng.integers(3)]
        checkpoint.write(path, {**tensors, key: other}, record)
    else:
        path.write_bytes(_resealed(damaged(rng, content)))
    Learner.load(path, device="cpu")


def _resealed(content: bytes) -> bytes:
    start = content.find(b'"sha256":"') + 10
    if start < 10:
        return content
    blank = content[:start] + b"0" * 64 + content[start + 64 :]
    return content[:start] + hashlib.sha256(blank).hexdigest().encode() + content[start + 64 :]


def saved(name: str, folder: Path) -> bytes:
    """Return the file of a small agent on LQR-v0."""
    if (key := f"saved {name}") not in _MADE:
        small: dict[str, dict[str, Any]] = {"npi": {"hidden": (4,)}, "ctq": {"num_envs": 4}, "ppo": {"num_envs": 2}}
        agent = make_agent(name, env=_subject(name), seed=0, **small.get(name, {}))
        _MADE[key] = agent.save(folder / "small.safetensors").read_bytes()
    found: bytes = _MADE[key]
    return found


DOORS: dict[str, Try] = {
    door.__name__: door for door in (constructors, hyperparameters, suites, commands, results, checkpoints)
}


def refuse_lines(text: str) -> None:
    """Raise AssertionError for a message that is not one line of at most LONGEST characters that print."""
    if "\n" in text or len(text) > LONGEST or not text.isprintable():
        raise AssertionError(f"not a sentence: {text[:300]!r}")


def warm() -> None:
    """Load and compile all that the doors need, so that no input pays for it."""
    for name in SUBJECTS:
        _defaults(name)
    for id in PARAMETERS:
        if not id.startswith("KrusellSmith") and isinstance(made := make_subject(id, {}), gym.Env):
            made.reset(seed=0)
