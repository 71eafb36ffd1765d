"""What starts at once imports little, and what is imported on demand is all there."""

from __future__ import annotations

import ast
import importlib
import json
import pkgutil
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import hacontrol_agents
from hacontrol_agents.core.registry import BUILT_IN, agent_classes
from hacontrol_envs.lazy import on_demand

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "krusell_smith"
HEAVY = {
    *("torch", "safetensors", "stable_baselines3", "matplotlib", "numba", "pandas"),
    *(f"scipy.{name}" for name in ("stats", "optimize", "signal", "integrate", "interpolate", "sparse", "linalg")),
}
"""Modules each of which takes longer to import than all else that the quick commands need, or adds to it much."""
SECONDS = 2.0
"""Of CPU that a quick command, or a worker before its task, may take on a busy machine; it takes .5 to .9."""
WORKER = "import hacontrol_benchmarks.running.worker"
MODULES = "import json, sys; print(json.dumps(sorted(sys.modules)))"


def start(code: str) -> tuple[set[str], float]:
    """What is imported when a new process has run this, and its CPU seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run = subprocess.run([sys.executable, "-c", f"{code}\n{MODULES}"], capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert run.returncode == 0, run.stderr
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return set(json.loads(run.stdout.splitlines()[-1])), seconds


def modules_after(code: str) -> set[str]:
    """What is imported when a new process has run this."""
    return start(code)[0]


def command(*arguments: str) -> str:
    """Code that carries out a command as `hacontrol` does, and goes on where it exits."""
    return (
        "from hacontrol_benchmarks.cli import main\n"
        f"try: code = main({list(arguments)!r})\n"
        "except SystemExit as ended: code = ended.code\n"
        "assert code == 0"
    )


@pytest.fixture
def quick(request, tmp_path):
    """Arguments of a command that should start at once."""
    if request.param != "report":
        return [request.param]
    return ["report", str(shutil.copytree(RESULTS, tmp_path / "results"))]


@pytest.mark.parametrize("quick", ["--help", "list", "report"], indirect=True)
def test_quick_commands_import_nothing_heavy_and_take_little_cpu(quick):
    modules, seconds = start(command(*quick))
    assert not HEAVY & modules
    assert seconds < SECONDS


@pytest.mark.slow
def test_hyperparameters_are_what_takes_torch():
    """So the test above sees an import where there is one."""
    assert {"torch", "safetensors"} <= modules_after(command("list", "--hyperparameters"))


@pytest.mark.parametrize("package", ["hacontrol_envs", "hacontrol_agents", "hacontrol_benchmarks"])
def test_packages_import_nothing_heavy(package):
    assert not HEAVY & modules_after(f"import {package}")


def test_a_worker_imports_nothing_heavy_before_its_task_and_takes_little_cpu():
    modules, seconds = start(WORKER)
    assert not HEAVY - {"safetensors"} & modules
    assert seconds < SECONDS


def test_a_worker_imports_the_agent_of_its_task_only(tmp_path):
    """Also where it learns, judges and publishes: an agent that learns nothing needs no torch."""
    found = modules_after(
        f"{WORKER}\n"
        "from hacontrol_benchmarks import Evaluation, Task\n"
        "from hacontrol_benchmarks.running.trial import run_task\n"
        "few = Evaluation(paths=4, points=4, max_steps=4)\n"
        "task = Task(title='', env='LQR-v0', label='', agent='analytic', evaluation=few)\n"
        f"result = run_task(task, {str(tmp_path)!r})\n"
        "assert result.status == 'ok', result.message"
    )
    assert "hacontrol_agents.baselines.analytic" in found
    others = {path.partition(":")[0] for path in BUILT_IN.values()} - {"hacontrol_agents.baselines.analytic"}
    assert not found & {"torch", "stable_baselines3", "matplotlib", *others}


@pytest.mark.parametrize("package", ["hacontrol_envs", "hacontrol_agents", "hacontrol_benchmarks"])
def test_names_on_demand_are_what_type_checkers_see(package):
    """`__all__` is what a type checker sees imported, and each name is the object of the module it is imported from."""
    module = importlib.import_module(package)
    tree = ast.parse(Path(module.__file__).read_text())
    seen = {
        alias.name: importlib.import_module(node.module)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module.startswith(f"{package}.") and node.module[-5:] != ".lazy"
        for alias in node.names
    }
    assert set(module.__all__) == set(seen)
    assert set(module.__all__) <= set(dir(module))
    assert all(getattr(module, name) is getattr(home, name) for name, home in seen.items())


def test_dir_lists_names_before_they_are_imported():
    code = "import hacontrol_agents as a, sys\nassert set(a.__all__) <= set(dir(a)) and 'torch' not in sys.modules"
    assert "torch" not in modules_after(code)


def test_on_demand_imports_the_name_asked_for_only():
    get, names = on_demand("hacontrol_envs", {"core.discrete": "Successors", "no_such_module": "Missing"})
    assert get("Successors").__module__ == "hacontrol_envs.core.discrete"
    assert {"Successors", "Missing"} <= set(names())
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        get("Missing")
    with pytest.raises(AttributeError, match="module 'hacontrol_envs' has no attribute 'Other'"):
        get("Other")


def test_the_table_of_agents_is_complete():
    """It names every agent in the package, each in its module and by its class, and no other."""
    for info in pkgutil.walk_packages(hacontrol_agents.__path__, "hacontrol_agents."):
        importlib.import_module(info.name)
    ours = {name: kind for name, kind in hacontrol_agents.agents().items() if kind.__module__.startswith("hacontrol_a")}
    assert {name: f"{kind.__module__}:{kind.__qualname__}" for name, kind in ours.items()} == BUILT_IN
    assert list(BUILT_IN) == sorted(BUILT_IN)


@pytest.mark.slow
def test_an_agent_is_found_without_the_others():
    found = modules_after(
        "import hacontrol_agents as a; assert a.find_agent('npi').__name__ == 'NeuralPolicyIteration'"
    )
    assert "hacontrol_agents.hjb.neural_policy_iteration" in found
    assert not found & {"stable_baselines3", "hacontrol_agents.q_learning.ctq", "hacontrol_agents.baselines.analytic"}


def test_an_unknown_agent_is_refused_without_importing_any():
    code = (
        "import hacontrol_agents as a\n"
        "try: a.find_agent('nqi')\n"
        "except LookupError as error: assert \"no agent is called 'nqi'; did you mean 'npi'?\" in str(error), error\n"
        "else: raise SystemExit('found')"
    )
    assert "torch" not in modules_after(code)


@pytest.mark.slow
def test_a_name_of_ours_can_be_taken_and_stays_taken():
    """Another's class that is called as one of ours is found by the name, whenever ours is imported."""
    code = (
        "import hacontrol_agents as a\n"
        "class Mine(a.Agent):\n    name = 'npi'\n"
        "assert a.find_agent('npi') is Mine\n"
        "assert a.NeuralPolicyIteration.name == 'npi' and a.find_agent('npi') is a.agents()['npi'] is Mine\n"
    )
    assert "hacontrol_agents.hjb.neural_policy_iteration" in modules_after(code)


def test_names_of_classes_are_known_without_importing_them():
    assert agent_classes() == {name: kind.__name__ for name, kind in hacontrol_agents.agents().items()}
