"""The runner: crashes, kills and restarts lose nothing and duplicate nothing."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hacontrol_agents import make_agent
from hacontrol_benchmarks import Evaluation, Task, publish, run_suite
from hacontrol_benchmarks.judging.evaluation import watch
from hacontrol_benchmarks.running.trial import failure
from hacontrol_envs.errors import CheckpointError, ParameterError, UnknownNameError

pytestmark = pytest.mark.filterwarnings("ignore::hacontrol_envs.errors.ConvergenceWarning")
"""Most learners here are stopped long before they have learnt."""

PLUGIN = '''
import os, signal, time
from dataclasses import dataclass
from pathlib import Path

@dataclass
class Fake:
    """Plays the middle of the action box; does what `habit` says while it learns."""
    env: object
    seed: int = 0
    habit: str = "good"
    folder: str = ""
    evaluations: int = 0
    history: tuple = ()

    def learn(self, total_timesteps=None, callback=None):
        with open(Path(self.folder) / f"starts-{self.seed}", "a") as file:
            file.write("x")
        if self.habit == "slow":
            time.sleep(0.4)
        if self.habit == "raises":
            raise ArithmeticError("diverged on purpose")
        if self.habit == "dies" or (self.habit == "dies once" and self.starts() == 1):
            os.kill(os.getpid(), signal.SIGKILL)
        self.evaluations = 10
        return self

    def starts(self):
        return len((Path(self.folder) / f"starts-{self.seed}").read_text())

    def policy(self, t, x):
        if self.habit == "nan":
            return float("nan") * x
        return 0 * x

    def save(self, path):
        Path(path).write_text("fake")
'''
DRIVER = "import sys, msgspec; from hacontrol_benchmarks import Task, run_suite; \
run_suite(msgspec.json.decode(sys.stdin.read(), type=list[Task]), sys.argv[1])"


@pytest.fixture
def fakes(tmp_path, monkeypatch):
    (tmp_path / "fake_plugin.py").write_text(PLUGIN)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    monkeypatch.syspath_prepend(tmp_path)

    def task(seed, habit="good"):
        return Task(
            title="LQR-v0",
            env="LQR-v0",
            label="fake",
            agent="fake_plugin:Fake",
            hyperparameters={"habit": habit, "folder": str(tmp_path)},
            seed=seed,
            evaluation=Evaluation(paths=4, points=4, max_steps=4),
        )

    return task


@pytest.mark.slow
def test_every_ending_is_a_row_and_a_second_run_changes_nothing(fakes, tmp_path, monkeypatch):
    monkeypatch.setattr("hacontrol_benchmarks.running.runner.ATTEMPTS", 2)
    habits = ["good", "raises", "nan", "dies once", "dies"]
    tasks, folder = [fakes(seed, habit) for seed, habit in enumerate(habits)], tmp_path / "board"

    good, raised, nan, died_once, died = run_suite(tasks, folder)

    assert good.status == "ok"
    assert good.metrics["value_loss"] > 0
    assert good.evaluations == 10
    assert (folder / "logs" / f"{tasks[0].id}.log").read_text().strip() == "ok"  # and no warning
    assert (raised.status, raised.message) == ("failed", "ArithmeticError: diverged on purpose")
    assert nan.status == "failed"
    assert "not finite" in nan.message
    assert died_once.status == "ok"
    assert (died.status, "signal 9" in died.message) == ("failed", True)
    assert [(tmp_path / f"starts-{seed}").read_text() for seed in (3, 4)] == ["xx", "xx"]
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*.json")}
    assert len(before) == len(habits)
    run_suite(tasks, folder)
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*.json")} == before


@pytest.mark.slow
def test_kill_the_driver_and_go_on(fakes, tmp_path):
    import msgspec

    tasks, folder = [fakes(seed, "slow") for seed in range(3)], tmp_path / "board"
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(folder)], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    driver.stdin.write(msgspec.json.encode(tasks))
    driver.stdin.close()
    deadline = time.monotonic() + 60
    while not list(folder.glob("*.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    done = {path: path.read_bytes() for path in folder.glob("*.json")}
    assert 0 < len(done) < len(tasks)

    results = run_suite(tasks, folder)

    assert [result.status for result in results] == ["ok"] * len(tasks)
    assert len(list(folder.glob("*.json"))) == len(tasks)
    assert all(path.read_bytes() == content for path, content in done.items())
    seen = [path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")]
    assert {path.suffix for path in seen} == {".json"}  # a worker that dies while it writes may leave a hidden .tmp


def test_an_altered_result_stops_the_run(fakes, tmp_path):
    tasks = [fakes(0)]
    (tmp_path / f"{tasks[0].id}.json").write_text("{}")
    with pytest.raises(CheckpointError, match="torn"):
        run_suite(tasks, tmp_path)


def test_what_does_not_exist_is_refused_before_anything_runs(fakes, tmp_path):
    import msgspec

    good = fakes(0)
    for change, error, message in (
        ({"env": "Nowhere-v0"}, UnknownNameError, "no environment is called 'Nowhere-v0'"),
        ({"parameters": {"dimention": 3}}, ParameterError, "did you mean 'dimension'"),
        ({"agent": "nobody"}, UnknownNameError, "no agent is called 'nobody'"),
        ({"agent": "fake_plugin:Nobody"}, UnknownNameError, "no agent class is found"),
    ):
        with pytest.raises(error, match=message):
            run_suite([good, msgspec.structs.replace(good, **change)], tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.mark.slow
def test_failed_tasks_are_run_again_when_asked(fakes, tmp_path):
    task = fakes(0)
    publish(failure(task, "out of memory"), tmp_path / "board")
    (kept,) = run_suite([task], tmp_path / "board")
    (again,) = run_suite([task], tmp_path / "board", retry_failed=True)
    assert (kept.status, again.status) == ("failed", "ok")


@pytest.mark.slow
def test_the_learning_curve_knows_the_distance_from_the_optimum(tmp_path: Path) -> None:
    """The analytic agent's is 0 on the box, and npi's ends at what the judge finds there, up to other points."""
    from hacontrol_benchmarks.running.trial import run_task

    task = Task(title="Merton-v0", env="Merton-v0", label="npi", agent="npi", hyperparameters={"iterations": 4})
    result = run_task(task, tmp_path)
    curve = [row["policy_error"] for row in result.history]
    assert len(curve) == 4
    assert curve[-1] < curve[0]
    assert curve[-1] == pytest.approx(result.metrics["policy_error_box"], rel=0.5)
    env = task.make_env()
    analytic = make_agent("analytic", env=env)
    analytic.history.append({})
    watch(env)(analytic)
    assert analytic.history == [{"policy_error": 0.0}]
