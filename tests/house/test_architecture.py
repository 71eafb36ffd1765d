"""Imports point one way, files and functions are short, and nothing unpickles; `house` measures."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import statistics
import subprocess
import sys
from collections.abc import Iterator

import pytest

from common import house
from common.house import PACKAGES, ROOT

FORBIDDEN = {
    "hacontrol_envs": {"torch", "hacontrol_agents", "hacontrol_benchmarks", "stable_baselines3"},
    "hacontrol_agents": {"hacontrol_benchmarks"},
    "hacontrol_benchmarks": set(),
}
"""What no file of a package may import."""
UNPICKLERS = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
FILES = [pytest.param(name, path, id=str(path.relative_to(ROOT))) for name in PACKAGES for path in house.files(name)]


def imported(tree: ast.AST) -> Iterator[str]:
    """Top-level names of the modules that a file imports, wherever in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


def called(tree: ast.AST) -> Iterator[tuple[str, set[str]]]:
    """Dotted names of the functions that a file calls, and the keywords given."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {f"{k.arg}={ast.unparse(k.value)}" for k in node.keywords}


@pytest.mark.parametrize(("package", "path"), FILES)
def test_imports_point_one_way(package, path):
    wrong = FORBIDDEN[package] & set(imported(house.parsed(path)))
    assert not wrong, f"{path.name} of {package} imports {wrong}"


@pytest.mark.parametrize("package", PACKAGES)
def test_arrows_go_down_and_make_no_circle(package):
    """No module imports from a room on its own floor or above, other than its own; and every module has a room."""
    assert house.upward(package) == []
    assert house.circle(package) == []
    assert len(house.ROOMS[package]) <= 7


@pytest.mark.parametrize("package", PACKAGES)
def test_files_and_functions_are_short(package):
    found = house.figures(package)
    assert found.longest_file <= 400
    assert found.longest_function <= 80
    assert found.longest_kernel <= 80
    assert found.p90_function <= 25
    assert found.median_file <= 170


def test_half_of_all_files_are_short():
    assert statistics.median(house.lines(path) for package in PACKAGES for path in house.files(package)) <= 150


def test_no_lines_stand_twice():
    assert house.copies() == []


def test_a_house_in_disorder_is_seen(tmp_path, monkeypatch):
    """Arrows up, circles and copies in a package that has them."""
    copy = "\n".join(f"    x = x * {i} + 1  # {{}}" for i in range(7))
    (tmp_path / "low.py").write_text(f"from disorder import high\n\ndef f(x):\n{copy.format(*'abcdefg')}\n")
    (tmp_path / "high.py").write_text(f"import disorder.low\n\ndef g(x):\n    y = 1\n{copy.format(*'abcdefg')}\n")
    (tmp_path / "__init__.py").write_text("")
    monkeypatch.setattr(house, "PACKAGES", {"disorder": tmp_path})
    monkeypatch.setattr(house, "ROOMS", {"disorder": ["low", "high"]})
    assert house.upward("disorder") == [("disorder.low", "disorder.high")]
    assert set(house.circle("disorder")) == {"disorder.low", "disorder.high"}
    ((one, other, size),) = house.copies()
    assert (one.path.name, one.first, other.path.name, other.first, size) == ("high.py", 5, "low.py", 4, 7)


@pytest.mark.parametrize(("package", "path"), FILES)
def test_nothing_unpickles(package, path):
    tree = house.parsed(path)
    assert not UNPICKLERS & set(imported(tree))
    for name, keywords in called(tree):
        assert name != "torch.load", f"{path.name} calls torch.load; read safetensors"
        assert "allow_pickle=True" not in keywords, f"{path.name} calls {name} with allow_pickle=True"


@pytest.mark.parametrize("folder", ["agents", "benchmarks"])
def test_no_modules_outside_the_packages(folder):
    """`agents` and `benchmarks` are other people's package names: what lies directly in them must not be importable."""
    assert not list((ROOT / folder).glob("*.py"))


@pytest.mark.parametrize(
    ("package", "absent"),
    [("hacontrol_envs", ["torch", "hacontrol_agents"]), ("hacontrol_agents", ["hacontrol_benchmarks"])],
)
def test_import_does_not_load(package, absent):
    """Whatever is imported indirectly, too; importing the environments includes importing their checks."""
    modules = f"{package}, hacontrol_envs.checks" if package == "hacontrol_envs" else package
    code = f"import sys, {modules}; print([name for name in {absent!r} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_the_rules_can_fail():
    tree = ast.parse("import numpy\ndef f():\n    from torch.nn import Linear\n    torch.load(p, weights_only=False)")
    assert set(imported(tree)) == {"numpy", "torch"}
    assert list(called(tree)) == [("torch.load", {"weights_only=False"})]


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names_are_there(package):
    module = importlib.import_module(package)
    assert all(hasattr(module, name) for name in module.__all__)
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = module.no_such_name


def test_the_checks_are_imported_when_asked_for():
    code = "import hacontrol_envs as h, sys; print('hacontrol_envs.checks' in sys.modules, h.check_problem.__name__)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False", "check_problem"]


def test_every_agent_is_a_public_name():
    """Whatever file they are in (see also `test_the_table_of_agents_is_complete`)."""
    package = importlib.import_module("hacontrol_agents")
    for info in pkgutil.walk_packages(package.__path__, "hacontrol_agents."):
        importlib.import_module(info.name)
    ours = {kind.__name__ for kind in package.agents().values() if kind.__module__.startswith("hacontrol_agents.")}
    assert ours <= set(package.__all__)


@pytest.mark.parametrize(
    ("package", "missing", "extra"),
    [("hacontrol_agents", "torch", "agents"), ("hacontrol_benchmarks", "tyro", "benchmarks")],
)
def test_a_missing_extra_is_named(package, missing, extra):
    code = (
        "import importlib.util as modules; find = modules.find_spec\n"
        f"modules.find_spec = lambda name, *more: None if name == {missing!r} else find(name, *more)\n"
        f"import {package}"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    said = f"ModuleNotFoundError: {package} needs {missing}: pip install 'hacontrol[{extra}]'"
    assert run.stderr.splitlines()[-1] == said
