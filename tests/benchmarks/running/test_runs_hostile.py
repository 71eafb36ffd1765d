"""Reports, runs and command lines: what is hostile is shown as it is, or refused in a sentence, and nothing is lost."""

import errno
import io
import os
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

from common.results import make_result
from common.suites import GOOD, written
from hacontrol_agents import make_agent
from hacontrol_benchmarks import Evaluation, Task, load_suite, publish, read_results
from hacontrol_benchmarks.cli import main
from hacontrol_benchmarks.measure import fuzz as measure_fuzz
from hacontrol_benchmarks.records.text import likeness, markdown_text, printable
from hacontrol_benchmarks.reporting.report import markdown, suite_results, write_report
from hacontrol_benchmarks.reporting.scores import boards
from hacontrol_benchmarks.running.runner import run_suite
from hacontrol_benchmarks.running.trial import run_task
from hacontrol_envs.errors import CheckpointError, HacontrolError, ParameterError, UnknownNameError

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
    publish(make_result(label=label, title=f"on {label}"), tmp_path)
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
    task = Task(title="LQR-v0", env="LQR-v0", label="random", agent="random")
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
        make_agent("random", env=gym.make("LQR-v0"), seed=0).save(tmp_path / "random.safetensors")
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
    monkeypatch.setattr("hacontrol_benchmarks.running.runner.check_tasks", lambda tasks: None)  # known to be good
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


@pytest.mark.slow
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
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background ignores it
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
    task = Task(title="LQR-v0", env="LQR-v0", label="random", agent="random", evaluation=evaluation)
    try:
        for threads in (1, 2):
            result = run_task(msgspec.structs.replace(task, threads=threads), tmp_path)
            assert (result.machine.threads, torch.get_num_threads()) == (threads, threads)
    finally:
        torch.set_num_threads(before)
    assert len({result.task.id for result in read_results(tmp_path)}) == 2
    assert load_suite("quick").threads == 1


WATCHING = """
import torch
from hacontrol_agents import RandomAgent

found = [torch.get_num_threads()]

class Watching:
    def __init__(self, env, seed):
        found.append(torch.get_num_threads())
        self.agent = RandomAgent(env=env, seed=seed)

    def predict(self, *given, **more):
        found.append(torch.get_num_threads())
        return self.agent.predict(*given, **more)

    def __getattr__(self, name):
        return getattr(self.agent, name)
"""


@pytest.mark.slow
def test_torch_has_the_tasks_threads_where_only_the_agent_imports_it(tmp_path):
    """From the agent's construction to its judging: a number that no machine would choose by itself."""
    (tmp_path / "watching.py").write_text(WATCHING)
    code = (
        "import sys\n"
        "from hacontrol_benchmarks import Evaluation, Task\n"
        "from hacontrol_benchmarks.running.trial import run_task\n"
        "assert 'torch' not in sys.modules\n"
        "few = Evaluation(paths=4, points=4, max_steps=4)\n"
        "task = Task(title='', env='LQR-v0', label='', agent='watching:Watching', threads=3, evaluation=few)\n"
        f"result = run_task(task, {str(tmp_path)!r})\n"
        "from watching import found\n"
        "assert result.status == 'ok', result.message\n"
        "assert found[0] == 1 and len(found) > 2 and set(found[1:]) == {3}, found\n"
    )
    surroundings = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=surroundings)
    assert run.returncode == 0, run.stderr


def test_committed_reports_are_what_the_results_give():
    folder = Path(__file__).parents[3] / "benchmarks" / "results" / "paper"
    from hacontrol_benchmarks.reporting.report import make_report

    assert markdown(make_report(folder)) == (folder / "report.md").read_text()
    _, results, _ = suite_results(folder)
    assert sum(row.runs for board in boards(results) for row in board.rows) == len(results)


@pytest.mark.slow
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
