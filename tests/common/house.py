"""How the packages are built: rooms, floors, sizes of files and functions, lines that stand twice.

`python tests/common/house.py` prints the figures of each package, and the runs of lines that stand in two places.
`test_architecture` guards them.
"""

from __future__ import annotations

import ast
import graphlib
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "hacontrol_envs": ROOT / "hacontrol_envs",
    "hacontrol_agents": ROOT / "agents" / "hacontrol_agents",
    "hacontrol_benchmarks": ROOT / "benchmarks" / "hacontrol_benchmarks",
}
ROOMS = {
    "hacontrol_envs": [
        "errors arrays lazy renamed",
        "core numerics",
        "solvers simulation economies.economy",
        "problems checks env",
        "economies.krusell_smith economies.industry",
        "economies",
    ],
    "hacontrol_agents": [
        "learning requirements",
        "core",
        "certificates",
        "hjb euler q_learning baselines",
        "equilibrium",
    ],
    "hacontrol_benchmarks": ["records requirements", "judging", "running reporting", "cli", "measure"],
}
"""Floors of each package, the lowest first, and the rooms on each: imports go down, or stay within a room. The highest
floor may use the public names of the package."""
RUN = 6
"""Lines of logic, at least, that count as a copy if they stand in two places."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def files(package: str) -> list[Path]:
    return sorted(PACKAGES[package].rglob("*.py"))


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """All nodes of a file's syntax tree."""
    return tuple(ast.walk(parsed(path)))


@cache
def imported(path: Path) -> tuple[ast.Import | ast.ImportFrom, ...]:
    """The imports of a file, without those for types only."""
    typing = [node for node in nodes(path) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)]
    skipped = {id(node) for block in typing for statement in block.body for node in ast.walk(statement)}
    found = (node for node in nodes(path) if isinstance(node, ast.Import | ast.ImportFrom))
    return tuple(node for node in found if id(node) not in skipped)


def arrows(package: str) -> Iterator[tuple[str, str]]:
    """(importing module, imported module) of a package, without what is imported for types only."""
    folder = PACKAGES[package]
    modules = {
        ".".join([package, *path.relative_to(folder).with_suffix("").parts]).removesuffix(".__init__"): path
        for path in files(package)
    }

    def targets(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        else:
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in modules else str(node.module) for name in whole)

    for name, path in modules.items():
        for node in imported(path):
            yield from ((name, target) for target in targets(node) if target in modules)


def floors(package: str) -> dict[str, int]:
    """Floor of each room, the lowest 0."""
    return {room: floor for floor, rooms in enumerate(ROOMS[package]) for room in rooms.split()}


def room(package: str, module: str) -> str | None:
    """The room of a module: the longest that its name begins with; None of the package itself."""
    inner = module.removeprefix(package).removeprefix(".")
    return max((name for name in floors(package) if f"{inner}.".startswith(f"{name}.")), key=len, default=None)


def upward(package: str) -> list[tuple[str, str]]:
    """Arrows to a room on the same floor or above, other than the module's own, or from a module in no room."""
    floor = {**floors(package), package: len(ROOMS[package]) - 1}
    found = []
    for one, other in arrows(package):
        above, below = room(package, one), room(package, other) or package
        highest = above is not None and below == package and floor[above] == floor[package]
        if one != package and above != below and not highest and (above is None or floor[above] <= floor[below]):
            found.append((one, other))
    return found


def circle(package: str) -> list[str]:
    """A circle of modules that import each other, or none."""
    order = graphlib.TopologicalSorter[str]()
    for one, other in arrows(package):
        order.add(one, other)
    try:
        order.prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def floors_of_files(package: str) -> int:
    """Modules on the longest way down along the arrows."""
    below: dict[str, set[str]] = defaultdict(set)
    for one, other in arrows(package):
        below[one].add(other)
    height: dict[str, int] = {}
    for module in graphlib.TopologicalSorter(below).static_order():
        height[module] = 1 + max((height[other] for other in below[module]), default=0)
    return max(height.values())


def functions(path: Path) -> Iterator[Function]:
    return (node for node in nodes(path) if isinstance(node, Function))


def is_compiled(function: Function) -> bool:
    """Whether a function is a kernel that numba compiles."""
    return any("compiled" in ast.unparse(decorator) for decorator in function.decorator_list)


def length(function: Function) -> int:
    """Lines of a function from `def` to its end, docstring included."""
    return len(span(function))


def span(node: ast.stmt) -> range:
    """The numbers of the lines on which a statement stands."""
    return range(node.lineno, (node.end_lineno or node.lineno) + 1)


def code(path: Path) -> dict[int, str]:
    """Lines of code by number, stripped: neither blank, nor comment, nor string that stands alone."""
    texts = {
        number
        for node in nodes(path)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for number in span(node)
    }
    numbered = enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
    stripped = ((number, line.strip()) for number, line in numbered if number not in texts)
    return {number: line for number, line in stripped if line and not line.startswith("#")}


def logic(path: Path) -> Iterator[list[tuple[int, str]]]:
    """Lines of code of each outermost function's body with their numbers, without imports and signatures."""
    written = code(path)
    nested = {id(inner) for outer in functions(path) for inner in ast.walk(outer) if inner is not outer}
    for function in functions(path):
        if id(function) in nested:
            continue
        left_out: set[int] = set()
        for node in ast.walk(function):
            if isinstance(node, ast.Import | ast.ImportFrom):
                left_out |= set(span(node))
            elif isinstance(node, Function):
                left_out |= set(range(node.lineno, node.body[0].lineno))
        yield [(number, written[number]) for number in span(function) if number in written and number not in left_out]


class Place(NamedTuple):
    """A run of lines of logic."""

    path: Path
    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.first}-{self.last}"


def copies(least: int = RUN) -> list[tuple[Place, Place, int]]:
    """Pairs of places with the same lines of logic, as long as they can be, and how many lines."""
    bodies = [(path, body) for package in PACKAGES for path in files(package) for body in logic(path)]
    return copied(bodies, least)


def copied(bodies: list[tuple[Path, list[tuple[int, str]]]], least: int) -> list[tuple[Place, Place, int]]:
    """Such pairs among bodies of functions."""
    met: dict[tuple[str, ...], list[tuple[int, int]]] = defaultdict(list)
    for body, (_, numbered) in enumerate(bodies):
        for start in range(len(numbered) - least + 1):
            met[tuple(line for _, line in numbered[start : start + least])].append((body, start))
    shifts: dict[tuple[int, int, int], list[int]] = defaultdict(list)
    for starts in met.values():
        for place, (one, at) in enumerate(starts):
            for other, there in starts[place + 1 :]:
                shifts[one, other, there - at].append(at)
    found = []
    for (one, other, shift), ats in shifts.items():
        for _, group in groupby(enumerate(sorted(ats)), key=lambda pair: pair[1] - pair[0]):
            run = [at for _, at in group]
            size = len(run) + least - 1
            found.append((_place(bodies[one], run[0], size), _place(bodies[other], run[0] + shift, size), size))
    return found


def _place(body: tuple[Path, list[tuple[int, str]]], start: int, size: int) -> Place:
    path, numbered = body
    return Place(path, numbered[start][0], numbered[start + size - 1][0])


class Figures(NamedTuple):
    """What is measured of a package."""

    circles: int
    upward: int
    floors_of_rooms: int
    floors_of_files: int
    files: int
    median_file: float
    longest_file: int
    median_function: float
    p90_function: float
    longest_function: int
    longest_kernel: int
    code: int


def figures(package: str) -> Figures:
    sizes = [lines(path) for path in files(package)]
    every = [function for path in files(package) for function in functions(path)]
    lengths = [length(function) for function in every]
    return Figures(
        circles=int(bool(circle(package))),
        upward=len(upward(package)),
        floors_of_rooms=len(ROOMS[package]),
        floors_of_files=floors_of_files(package),
        files=len(sizes),
        median_file=statistics.median(sizes),
        longest_file=max(sizes),
        median_function=statistics.median(lengths),
        p90_function=statistics.quantiles(lengths, n=10)[-1],
        longest_function=max(length(function) for function in every if not is_compiled(function)),
        longest_kernel=max((length(function) for function in every if is_compiled(function)), default=0),
        code=sum(len(code(path)) for path in files(package)),
    )


def main() -> int:
    found = {package: figures(package) for package in PACKAGES}
    print(f"{'':20}" + "".join(f"{package:>22}" for package in found))
    for name in Figures._fields:
        print(f"{name.replace('_', ' '):20}" + "".join(f"{getattr(one, name):>22g}" for one in found.values()))
    twice = copies()
    middle = statistics.median(lines(path) for package in PACKAGES for path in files(package))
    print(f"\nmedian file of all: {middle:g} lines")
    print(f"\n{len(twice)} runs of {RUN} or more lines that stand in two places")
    for one, other, size in sorted(twice, key=lambda pair: -pair[2]):
        print(f"{size:4}  {one}  {other}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
