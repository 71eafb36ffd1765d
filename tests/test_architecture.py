"""Imports point one way, and nothing unpickles."""

from __future__ import annotations

import ast
import graphlib
import importlib
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "hacontrol_envs": (
        ROOT / "hacontrol_envs",
        {"torch", "hacontrol_agents", "hacontrol_benchmarks", "stable_baselines3"},
    ),
    "hacontrol_agents": (ROOT / "agents" / "hacontrol_agents", {"hacontrol_benchmarks"}),
    "hacontrol_benchmarks": (ROOT / "benchmarks" / "hacontrol_benchmarks", set()),
}
ROOMS = {
    "hacontrol_envs": [
        "errors arrays lazy",
        "core numerics",
        "solvers simulation",
        "problems checks env",
        "economies.krusell_smith economies.industry",
        "economies",
    ],
    "hacontrol_agents": ["learning requirements", "core", "hjb euler q_learning baselines", "equilibrium"],
    "hacontrol_benchmarks": ["records requirements", "judging", "running reporting", "cli", "measure"],
}
"""Floors of each package, the lowest first, and the rooms on each: imports go down, or stay within a room."""
UNPICKLERS = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
FILES = [
    pytest.param(name, path, id=str(path.relative_to(ROOT)))
    for name, (folder, _) in PACKAGES.items()
    for path in sorted(folder.rglob("*.py"))
]


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
    wrong = PACKAGES[package][1] & set(imported(ast.parse(path.read_text())))
    assert not wrong, f"{path.name} of {package} imports {wrong}"


def arrows(package):
    """(importing module, imported module) of a package, without what is imported for types only."""
    folder = PACKAGES[package][0]
    modules = {
        ".".join([package, *path.relative_to(folder).with_suffix("").parts]).removesuffix(".__init__"): path
        for path in folder.rglob("*.py")
    }
    for name, path in modules.items():
        tree = ast.parse(path.read_text())
        typing = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node)]
        skipped = {id(node) for block in typing for node in ast.walk(block)}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and id(node) not in skipped:
                for alias in node.names:
                    full = f"{node.module}.{alias.name}"
                    if (target := full if full in modules else node.module) in modules:
                        yield name, target


def floors(package):
    """Floor of each room, the lowest 0."""
    return {room: floor for floor, rooms in enumerate(ROOMS[package]) for room in rooms.split()}


def room(package, module):
    """The room of a module: the longest that its name begins with; None of the package itself."""
    inner = module.removeprefix(package).removeprefix(".")
    return max((name for name in floors(package) if f"{inner}.".startswith(f"{name}.")), key=len, default=None)


@pytest.mark.parametrize("package", ROOMS)
def test_arrows_go_down(package):
    """No module imports from a room on its own floor or above, other than its own; and every module has a room."""
    floor = floors(package)
    for one, other in arrows(package):
        above, below = room(package, one), room(package, other)
        if one != package:
            assert above, f"{one} is in no room"
            assert above == below or floor[above] > floor[below], f"{one} imports {other}"
    assert len(ROOMS[package]) <= 7


@pytest.mark.parametrize("package", ROOMS)
def test_no_module_imports_itself_by_a_circle(package):
    order = graphlib.TopologicalSorter[str]()
    for one, other in arrows(package):
        order.add(one, other)
    order.prepare()  # raises CycleError


@pytest.mark.parametrize(("package", "path"), FILES)
def test_nothing_unpickles(package, path):
    tree = ast.parse(path.read_text())
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
