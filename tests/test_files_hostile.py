"""Files, suites and command lines are data: forged, they run nothing, take no memory, and are refused in a sentence."""

import errno
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import gymnasium as gym
import msgspec
import numpy as np
import pytest
import torch
from rich.console import Console

from hacontrol_agents import AnalyticAgent, Learner, make_agent
from hacontrol_agents import checkpoint as files
from hacontrol_benchmarks import Evaluation, Task, load_suite, measure_fuzz, publish, read_result, read_results
from hacontrol_benchmarks.cli import main
from hacontrol_benchmarks.report import markdown, suite_results, write_report
from hacontrol_benchmarks.runner import check_tasks, run_suite
from hacontrol_benchmarks.scores import boards
from hacontrol_benchmarks.text import likeness, markdown_text, printable
from hacontrol_benchmarks.trial import agent_file, run_task
from hacontrol_envs.errors import CheckpointError, HacontrolError, ParameterError, UnknownNameError
from test_benchmarks_results import make_result
from test_benchmarks_suites import GOOD, written

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
        check_tasks([Task(problem="p", env="LQR-v0", parameters=parameters, label="npi", agent="npi")])
    with pytest.raises(ParameterError):
        Task(problem="p", env="FirmIndustry", parameters=parameters, label="x", agent="hjb-fp-pinn").make_env()
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
        task = Task(problem="p", env="LQR-v0", label="npi", agent="npi", hyperparameters={name: value})
        with pytest.raises(ParameterError, match=name):
            task.make_agent(task.make_env())


def test_results_name_registered_agents_only(tmp_path, trap, capsys):
    """Even where the agent's file is an archive that another library would unpickle."""
    for number, agent in enumerate(("stable_baselines3:PPO", "evil_module:Evil", "os:system")):
        folder = tmp_path / f"run-{number}"
        task = Task(problem="LQR-v0", env="LQR-v0", label="mine", agent=agent)
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
    for name in ("value_loss", "residual_law"):
        raw = msgspec.to_builtins(make_result())
        raw["metrics"][name] = odd
        seal(tmp_path, raw)
        code, error = main(["report", str(tmp_path)]), capsys.readouterr().err
        assert (code, error.count("\n")) == ((2, 1) if code else (0, 0))
        if not (name == "residual_law" and odd in ({}, True)):
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
        (("format",), 2),
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


MARKUP = [
    "[red]npi",
    "[/]",
    "[link=file:///etc]x[/link]",
    "a|b",
    "<script>x</script>",
    "`x`",
    "*x*",
    "[a](http://b)",
    "a\\",
]


@pytest.mark.parametrize("label", MARKUP)
def test_labels_are_shown_as_they_are(tmp_path, label):
    publish(make_result(label=label, problem=f"on {label}"), tmp_path)
    publish(make_result(label="broken", status="failed", message=f"{label}\n\x1b[2J\u202e"), tmp_path)
    console = Console(record=True, width=200, file=io.StringIO())
    page = write_report(tmp_path, console)
    assert label in console.export_text()
    document, html = (tmp_path / "report.md").read_text(), page.read_text()
    for text in (document, html):
        assert "<script>" not in text
        assert "\x1b" not in text
        assert "\u202e" not in text
    row = next(line for line in document.splitlines() if line.startswith("| 1 |") and "broken" not in line)
    assert row.replace("\\|", "").count("|") == row.count(" | ") + 2
    assert f"| {markdown_text(label)} |" in row


def test_markdown_keeps_nothing_that_it_would_read():
    shown = {"<b>": "&lt;b&gt;", "a|b": r"a\|b", "_x_": r"\_x\_", "a_b": "a_b", "# x": r"\# x", "x\ny": "x y"}
    shown |= {"[a](b)": r"[a\](b)", "&amp;": "&amp;amp;", "http://x": r"http\://x", "[1, 2]": "[1, 2]"}
    assert {text: markdown_text(text) for text in shown} == shown
    assert printable("a\x1b[31m\x00\u202e\tb") == r"a\x1b[31m\x00\u202e b"


@pytest.mark.parametrize(
    ("one", "other"),
    [("npi", "nрi"), ("a b", "a  b"), ("npi", "ｎpi"), ("TD3", "ΤD3"), ("a-b", "a−b"), ("\u00e9", "e\u0301")],
)
def test_two_labels_that_print_alike_are_refused(tmp_path, one, other):
    assert one != other
    assert likeness(one) == likeness(other)
    text = (
        GOOD.replace('name = "npi"', f'name = "npi"\nlabel = "{one}"') + f'[[agent]]\nname = "npi"\nlabel = "{other}"\n'
    )
    with pytest.raises(ParameterError, match="print alike"):
        load_suite(written(tmp_path, text)).tasks()


@pytest.mark.parametrize("label", [r"a\u001b[31mb", r"a\nb", r"\u202eipn", " npi", r"a\u200bb", "x" * 201, r"a\u0000b"])
def test_what_cannot_be_a_label_is_refused_at_the_door(tmp_path, label):
    for old, new in (('name = "npi"', f'name = "npi"\nlabel = "{label}"'), ('label = "big"', f'label = "{label}"')):
        with pytest.raises(HacontrolError) as caught:
            load_suite(written(tmp_path, GOOD.replace(old, new).replace('["big"]', f'["{label}"]'))).tasks()
        assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "name", ["../out", "/tmp/out", "..", ".hidden", "a/b", "a\\\\b", "", "x" * 101, r"a\nb", r"a\u0000"]
)
def test_the_name_of_a_suite_leads_nowhere(tmp_path, name, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path, GOOD.replace('"mine"', f'"{name}"'))
    before = sorted(tmp_path.iterdir())
    assert main(["run", path]) == 2
    assert "name of a suite" in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("name", ["../suites/quick", "/etc/passwd", "quick\0", "..", "/etc/hosts.toml", "x" * 300])
def test_suites_are_found_by_name_or_as_toml_files(name):
    with pytest.raises(UnknownNameError, match="no suite is called"):
        load_suite(name)


def test_a_report_replaces_links_and_never_follows_them(tmp_path):
    publish(make_result(), tmp_path / "board")
    for name in ("report.md", "index.html"):
        (tmp_path / f"precious {name}").write_text("precious")
        (tmp_path / "board" / name).symlink_to(tmp_path / f"precious {name}")
    write_report(tmp_path / "board", Console(quiet=True))
    for name in ("report.md", "index.html"):
        assert (tmp_path / f"precious {name}").read_text() == "precious"
        assert "LQR-v0" in (tmp_path / "board" / name).read_text()
        assert not (tmp_path / "board" / name).is_symlink()


def test_a_run_writes_through_no_link(tmp_path):
    task = Task(problem="LQR-v0", env="LQR-v0", label="random", agent="random")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "board").mkdir()
    (tmp_path / "board" / "logs").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ParameterError, match="is a link"):
        run_suite([task], tmp_path / "board")
    assert not list((tmp_path / "elsewhere").iterdir())


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_said_in_one_sentence(tmp_path, monkeypatch, capsys):
    publish(make_result(), tmp_path)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match=r"cannot write .*No space left"):
        saved(tmp_path)
    assert main(["report", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "hacontrol: No space left on device\n"
    assert [path.suffix for path in tmp_path.iterdir()] == [".json"]  # and nothing half written is left


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "quick", "--folder", "{file}"],
        ["run", "quick", "--folder", "{file}/below"],
        ["run", "quick", "--folder", "x" * 300],
        ["run", "quick", "--workers", "9" * 400],
        ["run", "quick", "--workers", "0"],
        ["run", "a\0b"],
        ["run", "x" * 300],
        ["report", "{file}"],
        ["report", "x" * 300],
        ["report", "a\0b"],
        ["time-step", "{file}"],
        ["compare", "LQR-v0", "--parameters", '{"dimension": %s}' % ("9" * 400)],
        ["compare", "LQR-v0", "--parameters", '{"dimension": %s}' % ("9" * 5000)],
        ["compare", "LQR-v0", "--parameters", "[" * 100_000],
        ["compare", "LQR-v0", "--seed", "9" * 400],
        ["compare", "LQR-v0", "--run", "{file}"],
        ["compare", "LQR-v0", "--agent", "a\x1b[31m:b"],
        ["compare", "LQR-v0", "--agent", ":"],
    ],
)
def test_the_command_line_says_what_is_wrong_in_a_sentence(tmp_path, arguments, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "hacontrol_benchmarks.cli.check_tasks", lambda tasks: None
    )  # of a suite that is known to be good
    monkeypatch.setattr("hacontrol_benchmarks.runner.check_tasks", lambda tasks: None)
    (tmp_path / "file").write_text("a file")
    assert main([one.replace("{file}", str(tmp_path / "file")) for one in arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert len(error) < 700
    assert error.rstrip("\n").isprintable()


SLOW = """
import os, time
from dataclasses import dataclass
from pathlib import Path

@dataclass
class Slow:
    env: object
    seed: int = 0
    folder: str = ""

    def learn(self, total_timesteps=None, callback=None):
        with open(Path(self.folder) / f"start-{self.seed}", "a") as file:
            file.write(f"{os.getpid()} ")
        time.sleep(120)
"""
SUITE = """
name = "slow"
description = "Sleeps."
seeds = [0, 1, 2, 3]
[[problem]]
env = "LQR-v0"
[[agent]]
name = "slow_plugin:Slow"
hyperparameters = {{ folder = "{}" }}
"""


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z"
    except OSError:
        return False


def test_one_signal_ends_a_run_which_loses_nothing(tmp_path):
    """A real signal to the whole group, as a terminal sends it, while two workers are busy and two tasks wait."""
    (tmp_path / "slow_plugin.py").write_text(SLOW)
    runs = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        (folder := tmp_path / number.name).mkdir()
        (folder / "slow.toml").write_text(SUITE.format(folder))
        runs[number] = (
            folder,
            subprocess.Popen(
                [sys.executable, "-m", "hacontrol_benchmarks.cli", "run", "slow.toml", "--folder", "board"],
                cwd=folder,
                env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
                stderr=subprocess.PIPE,
                start_new_session=True,
                text=True,
            ),
        )
    for number, (folder, driver) in runs.items():
        deadline = time.monotonic() + 120
        while len(list(folder.glob("start-*"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        workers = [int(pid) for path in folder.glob("start-*") for pid in path.read_text().split()]
        assert len(workers) == 2
        assert all(map(alive, workers))
        began = time.monotonic()
        os.killpg(driver.pid, number)
        _, error = driver.communicate(timeout=60)
        assert time.monotonic() - began < 2
        assert driver.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}[number]
        assert "goes on from here" in error
        assert "Traceback" not in error
        assert not any(map(alive, workers))
        assert not list((folder / "board").glob("*.json"))  # no failure was made of it
        assert len(list(folder.glob("start-*"))) == 2  # and nothing that waited was begun


def test_the_number_of_threads_is_the_tasks_and_is_recorded(tmp_path):
    before = torch.get_num_threads()
    evaluation = Evaluation(paths=4, points=4, max_steps=4)
    task = Task(problem="LQR-v0", env="LQR-v0", label="random", agent="random", evaluation=evaluation)
    try:
        for threads in (1, 2):
            result = run_task(msgspec.structs.replace(task, threads=threads), tmp_path)
            assert (result.machine.threads, torch.get_num_threads()) == (threads, threads)
    finally:
        torch.set_num_threads(before)
    assert len({result.task.id for result in read_results(tmp_path)}) == 2
    assert load_suite("quick").threads == 1


def test_committed_reports_are_what_the_results_give():
    folder = Path(__file__).parent.parent / "benchmarks" / "results" / "paper"
    from hacontrol_benchmarks.report import make_report

    assert markdown(make_report(folder)) == (folder / "report.md").read_text()
    _, results, _ = suite_results(folder)
    assert sum(row.runs for board in boards(results) for row in board.rows) == len(results)


def test_a_small_fuzz_finds_no_fault():
    """Hostile values at every door are accepted or refused in a sentence, and no forged file runs its code."""
    *doors, forged, _ = measure_fuzz.measure(240, seed=int(os.environ.get("HACONTROL_FUZZ_SEED", "1")))
    assert [row["which"] for row in doors] == [{}] * len(doors)
    assert all(row["refused"] for row in doors)
    assert (forged["inputs"], forged["commands run"], forged["which"]) == (200, 0, {})


def test_the_fuzz_sees_faults_and_code_that_runs(tmp_path, monkeypatch):
    """A door that raises something else, that says it in two lines or that never ends is a fault."""
    rng = np.random.default_rng(0)

    def raising(error):
        def door(*_):
            raise error

        return measure_fuzz.outcome(door, rng, tmp_path)

    assert raising(KeyError("a")).startswith("KeyError")
    assert raising(ParameterError("a\nb")).startswith("not a sentence")
    assert raising(ParameterError("a")) == "refused"
    monkeypatch.setattr(measure_fuzz, "SECONDS", 1)
    assert "more than 1 s" in measure_fuzz.outcome(lambda *_: time.sleep(10), rng, tmp_path)
    monkeypatch.setattr(measure_fuzz, "forgeries", lambda: [lambda folder: __import__("evil_module")])
    assert measure_fuzz._forgery_row(tmp_path)["commands run"] == 1
    sys.modules.pop("evil_module")
