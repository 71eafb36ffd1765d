"""Files, suites and command lines are data: forged, they run nothing, take no memory, and are refused in a sentence."""

import hashlib
import json
import os
import shutil
import sys
from pathlib import Path

import gymnasium as gym
import msgspec
import pytest
import torch

from common.results import make_result
from hacontrol_agents import AnalyticAgent, Learner, make_agent
from hacontrol_agents.core import checkpoint as files
from hacontrol_benchmarks import Task, publish, read_result, read_results
from hacontrol_benchmarks.cli import main
from hacontrol_benchmarks.running.runner import check_tasks
from hacontrol_benchmarks.running.trial import agent_file
from hacontrol_envs.errors import CheckpointError, HacontrolError, ParameterError

EVIL = "from pathlib import Path\nPath({!r}).touch()\nclass Evil:\n    def __init__(self, *a, **k): pass\n"


@pytest.fixture
def trap(tmp_path, monkeypatch):
    """A module on the path which leaves a file when it is imported; the file."""
    (tmp_path / "evil_module.py").write_text(EVIL.format(str(tmp_path / "ran")))
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "ran"
    sys.modules.pop("evil_module", None)


def saved(tmp_path, name="random", **more):
    return make_agent(name, env=gym.make("LQR-v0"), seed=0, **more).save(tmp_path / f"{name}.safetensors")


def forged(path, **change):
    """The same file with other words in its record, sealed as it must be."""
    tensors, record = files.read(path)
    return files.write(path, tensors, {**record, **change})


SETTING = {"dt": 0.02, "scheme": "exact", "episode_steps": 100}
RESERVED = {"problem": "evil_module:Evil", "entry_point": "evil_module:Evil", "render_mode": "human", "self": 1}


@pytest.mark.parametrize("name", [*RESERVED, "id", "num_envs", "max_episode_steps", "disable_env_checker", "kwargs"])
def test_a_checkpoint_names_no_code(tmp_path, trap, name):
    for place in ("env", "parameters"):
        path = saved(tmp_path, "analytic")
        _, record = files.read(path)
        forged(path, **{place: {**record[place], name: RESERVED.get(name, "evil_module:Evil")}})
        with pytest.raises(ParameterError, match=name):
            AnalyticAgent.load(path)
    assert not trap.exists()


@pytest.mark.parametrize("problem", ["evil_module:Evil", "evil_module.Evil", "Evil", "", "LQR\0", "../LQR", "x" * 5000])
def test_a_checkpoint_finds_registered_problems_only(tmp_path, trap, problem):
    with pytest.raises(CheckpointError, match="no registered problem") as caught:
        AnalyticAgent.load(forged(saved(tmp_path, "analytic"), problem=problem))
    assert len(str(caught.value)) < 300
    assert not trap.exists()


@pytest.mark.parametrize(
    "parameters",
    [
        {"problem": "evil_module:Evil"},
        {"entry_point": "evil_module:Evil"},
        {"render_mode": "rgb_array"},
        {"self": 1},
        {"dimension": {"a": {"b": {"c": {"d": {"e": 1}}}}}},
        {"dimension": [1] * 30_000},
    ],
)
def test_suites_and_command_lines_give_parameters_only(tmp_path, trap, parameters, capsys):
    with pytest.raises(ParameterError):
        check_tasks([Task(title="p", env="LQR-v0", parameters=parameters, label="npi", agent="npi")])
    with pytest.raises(ParameterError):
        Task(title="p", env="FirmIndustry", parameters=parameters, label="x", agent="hjb-fp-pinn").make_env()
    assert main(["compare", "LQR-v0", "--parameters", json.dumps(parameters)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not trap.exists()


@pytest.mark.parametrize(
    "env", ["evil_module:LQR-v0", "evil_module:Evil", "hacontrol/LQR-v0", "CartPole-v1", "\x1b[2J"]
)
def test_only_what_is_registered_is_made(trap, env, capsys):
    assert main(["compare", env]) == 2
    error = capsys.readouterr().err
    assert "no environment is called" in error
    assert "\x1b" not in error
    assert not trap.exists()


def test_hyperparameters_do_not_replace_what_the_task_says():
    for name, value in (("env", 1), ("seed", 3), ("self", 1)):
        task = Task(title="p", env="LQR-v0", label="npi", agent="npi", hyperparameters={name: value})
        with pytest.raises(ParameterError, match=name):
            task.make_agent(task.make_env())


def test_results_name_registered_agents_only(tmp_path, trap, capsys):
    """Even where the agent's file is an archive that another library would unpickle."""
    for number, agent in enumerate(("stable_baselines3:PPO", "evil_module:Evil", "os:system")):
        folder = tmp_path / f"run-{number}"
        task = Task(title="LQR-v0", env="LQR-v0", label="mine", agent=agent)
        publish(msgspec.structs.replace(make_result(), task=task), folder)
        agent_file(task, folder).write_bytes(b"PK\x03\x04 an archive")
        assert main(["compare", "LQR-v0", "--agent", "mine", "--run", str(folder)]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert not trap.exists()


HUGE = [
    {"hidden": [10**9]},
    {"hidden": [16_000, 16_000]},
    {"hidden": [8] * 1000},
    {"hidden": "wide"},
    {"hidden": [1.5]},
]
HUGE += [{"points": 10**12}, {"visits": 10**9}, {"iterations": True}, {"box_share": "half"}, {"margin": None}]
HUGE += [{"margin": 10**400}, {"activation": ["tanh"]}, {"value_scale": 7}, {"device": "cpu"}, {"layers": 3}]


@pytest.mark.parametrize("change", HUGE)
def test_a_forged_header_takes_no_memory(tmp_path, change):
    path = saved(tmp_path, "npi", hidden=(4,))
    hyperparameters = {**files.read(path)[1]["hyperparameters"], **change}
    with pytest.raises((ParameterError, CheckpointError)):
        Learner.load(forged(path, hyperparameters=hyperparameters))


@pytest.mark.parametrize(
    "settings",
    [
        {"policy_kwargs": {"net_arch": [10**9]}},
        {"policy_kwargs": {"net_arch": {"pi": [10**6, 10**6], "vf": [4]}}},
        {"policy_kwargs": {"activation_fn": "os.system"}},
        {"policy_kwargs": "os.system"},
        {"buffer_size": 10**14},
        {"tensorboard_log": "/tmp"},
        {"replay_buffer_class": "evil"},
        {"learning_rate": "fast"},
        {"device": "cpu"},
        {"nothing": 1},
    ],
)
def test_settings_of_sb3_are_data(settings):
    with pytest.raises(ParameterError):
        make_agent("sac", env=gym.make("LQR-v0"), seed=0, num_envs=2, settings=settings)


CHANGES = [
    *({"evaluations": value} for value in (-1, "1", None, True, 1.5)),
    *({"seconds": value} for value in (-1.0, "soon", None)),
    *({"history": value} for value in ({}, [1], [{"loss": "low"}], [[]])),
    *({"state": value} for value in ([], {}, {"iteration": "1"}, None)),
    *({"seed": value} for value in (-1, "0", 2**70, None, 0.5)),
    *({"hyperparameters": value} for value in ([], None, {"self": 1}, {"env": 1})),
    *({"agent": value} for value in ("nobody", "", 3, None, "evil_module:Evil")),
    {"env": {"dt": "long"}},
    {"more": 1},
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_record_of_the_wrong_kind_is_refused(tmp_path, change):
    with pytest.raises(HacontrolError):
        Learner.load(forged(saved(tmp_path, "npi", hidden=(4,)), **change))


def test_tensors_of_the_wrong_kind_are_refused(tmp_path):
    path = saved(tmp_path, "npi", hidden=(4,))
    tensors, record = files.read(path)
    weights = tensors["parameters"]
    wrong = [weights[:-1], torch.cat([weights, weights]), weights.float(), weights[None], weights * float("nan")]
    for other in wrong:
        files.write(path, {**tensors, "parameters": other}, record)
        with pytest.raises(CheckpointError):
            Learner.load(path)
    files.write(path, {"else": weights}, record)
    with pytest.raises(CheckpointError, match="lacks"):
        Learner.load(path)


def test_a_file_of_an_agent_that_learns_nothing_has_no_tensor_and_may_have_an_empty_one(tmp_path):
    """Those of 0.1 have one."""
    path = saved(tmp_path, "random")
    tensors, record = files.read(path)
    assert tensors == {}
    files.write(path, {"empty": torch.zeros(0)}, record)
    for found in (Learner.load(path), Learner.load(saved(tmp_path, "random"))):
        assert found.policy(0.0, [[0.0]]) == make_agent("random", env=gym.make("LQR-v0"), seed=0).policy(0.0, [[0.0]])


def test_only_ordinary_files_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    with open(tmp_path / "sparse.json", "wb") as sparse:
        sparse.truncate(2**40)
    for path in (tmp_path / "pipe.json", tmp_path / "sparse.json", tmp_path, tmp_path / "a\0b", tmp_path / ("x" * 300)):
        for read in (read_result, Learner.load):
            with pytest.raises(CheckpointError, match="cannot read"):
                read(path)


def seal(folder, result, name=None):
    """A result file of this raw content, with a seal that is right."""
    body = json.dumps(result).encode()
    target = Path(folder) / (name or f"{make_result().task.id}.json")
    target.write_bytes(b'{"sha256":"%s","result":%s}' % (hashlib.sha256(body).hexdigest().encode(), body))
    return target


ODD = ["nan", "low", [], True, {}, {"50%": 1.0}, {"a": {"b": 1}}, {"95%": "x"}, [1.0]]


@pytest.mark.parametrize("odd", ODD)
def test_metrics_that_are_no_numbers_are_refused_in_a_sentence(tmp_path, odd, capsys):
    for name in ("value_loss", "residual_visited"):
        raw = msgspec.to_builtins(make_result())
        raw["metrics"][name] = odd
        seal(tmp_path, raw)
        code, error = main(["report", str(tmp_path)]), capsys.readouterr().err
        assert (code, error.count("\n")) == ((2, 1) if code else (0, 0))
        if not (name == "residual_visited" and odd in ({}, True)):
            assert code == 2, (name, odd)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("evaluations",), -1),
        (("evaluations",), 10**400),
        (("dt",), -1.0),
        (("dt",), "long"),
        (("times", "learning"), -5.0),
        (("times", "started"), 7),
        (("history",), [[]]),
        (("history",), [{"loss": [1]}]),
        (("machine", "packages"), {"numpy": 2}),
        (("problem_parameters",), {"a": {"b": {"c": {"d": {"e": {"f": 1}}}}}}),
        (("task", "seed"), -1),
        (("task", "label"), "two\nlines"),
        (("task", "threads"), 10**6),
        (("format",), 3),
        (("format",), 0),
        (("status",), "splendid"),
    ],
)
def test_a_result_of_the_wrong_kind_is_refused(tmp_path, place, value):
    raw = msgspec.to_builtins(make_result())
    held = raw
    for name in place[:-1]:
        held = held[name]
    held[place[-1]] = value
    with pytest.raises(CheckpointError) as caught:
        read_result(seal(tmp_path, raw))
    assert "\n" not in str(caught.value)


def test_nesting_and_length_are_bounded(tmp_path):
    body = b'{"task":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    path = tmp_path / "deep.json"
    path.write_bytes(b'{"sha256":"%s","result":%s}' % (hashlib.sha256(body).hexdigest().encode(), body))
    with pytest.raises(CheckpointError, match="not a result"):
        read_result(path)
    raw = msgspec.to_builtins(make_result())
    raw["history"] = [{"loss": 1.0}] * 100_001
    with pytest.raises(CheckpointError, match="at most 100000 rows"):
        read_result(seal(tmp_path, raw))


def test_a_result_belongs_to_its_file(tmp_path):
    one, other = make_result(seed=0), make_result(seed=1)
    for result in (one, other):
        publish(result, tmp_path)
    here, there = (tmp_path / f"{result.task.id}.json" for result in (one, other))
    shutil.copy(here, tmp_path / "copy.json")
    with pytest.raises(CheckpointError, match="another task"):
        read_results(tmp_path)
    (tmp_path / "copy.json").unlink()
    here.rename(tmp_path / "aside"), there.rename(here), (tmp_path / "aside").rename(there)
    for path in (here, there):
        with pytest.raises(CheckpointError, match="renamed, copied or altered"):
            read_result(path)
