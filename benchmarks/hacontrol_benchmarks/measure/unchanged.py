"""Check that two revisions compute the same: the figures of `fixed_cases`, each revision in a process of its own.

    python -m hacontrol_benchmarks.measure.unchanged REVISION

compares the working tree with a git revision, whose files are copied to a temporary folder. A case is met if all its
figures are equal to the bit, or if it is listed in `CHANGED` with the reason why it is not. "difference" is the largest
|new - old| / max(|old|, largest |old| of the same array * 1e-12); "added" and "gone" name figures that only one has.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from numpy.typing import NDArray

from hacontrol_benchmarks.measure import fixed_cases, measured
from hacontrol_benchmarks.records.renamed import RENAMED
from hacontrol_envs.errors import ParameterError

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = {"hacontrol_envs": ".", "hacontrol_agents": "agents", "hacontrol_benchmarks": "benchmarks"}
"""Folder of each package in a checkout."""
CHANGED = {
    "metrics of analytic on FirmInvestment-v0": "the optimum of held actions weighs normal shocks by exp(-z^2/2) over "
    "its sum, where it had scipy.stats' density; they differ by rounding",
}
"""Reason of the change of each case that differs from the committed comparison's old revision."""

PROGRAM = """
import importlib, pathlib, runpy, sys
tree, cases, target, only = sys.argv[1:]
for package, folder in {packages!r}.items():
    file = pathlib.Path(importlib.import_module(package).__file__).resolve()
    assert file.is_relative_to(pathlib.Path(tree, folder).resolve()), f"{{package}} was imported from {{file}}"
runpy.run_path(cases)["write"](target, only)
"""


def measure(revision: str, only: str = "") -> list[measured.Row]:
    """Return a row for each case."""
    with tempfile.TemporaryDirectory(prefix="hacontrol-unchanged-") as name:
        folder = Path(name)
        before = figures(checked_out(revision, folder / "old"), folder, only)
        after = figures(ROOT, folder, only)
    return [compared(name, before.get(name, {}), after.get(name, {})) for name in {**before, **after}]


def checked_out(revision: str, folder: Path) -> Path:
    """Copy the files of a revision of this checkout into a new folder, and return it.

    Raises:
        ParameterError: there is no such revision, or no git.
    """
    archive = folder.with_suffix(".zip")
    command = ["git", "archive", "--format=zip", f"--output={archive}", "--end-of-options", revision]
    try:
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", None) or error
        raise ParameterError(f"git has no revision {revision!r} here: {str(said).strip()}") from error
    shutil.unpack_archive(archive, folder)
    return folder


def figures(tree: Path, folder: Path, only: str = "") -> dict[str, dict[str, NDArray[Any]]]:
    """Compute the figures of each case by the packages of a tree, on one thread and with an empty disk cache.

    Args:
        tree: checkout that the packages are imported from.
        folder: folder for temporary files.
        only: compute the cases whose names contain this.
    """
    target = folder / "figures.npz"
    paths = os.pathsep.join(str(tree / place) for place in PACKAGES.values())
    with tempfile.TemporaryDirectory(dir=folder) as kept:
        surroundings = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "HACONTROL_CACHE": kept}
        program = PROGRAM.format(packages=PACKAGES)
        command = [sys.executable, "-c", program, str(tree), fixed_cases.__file__, str(target), only]
        subprocess.run(command, cwd=kept, env=surroundings, check=True)
    found: dict[str, dict[str, NDArray[Any]]] = {}
    with np.load(target) as arrays:
        for key, array in arrays.items():
            case, _, name = key.partition("/")
            found.setdefault(case, {})[RENAMED.get(name, name)] = array
    return found


def compared(name: str, before: fixed_cases.Figures, after: fixed_cases.Figures) -> measured.Row:
    """Return the row of a case.

    Args:
        name: name of the case.
        before: its figures by the old revision.
        after: its figures by the working tree.
    """
    common = [part for part in before if part in after]
    same = bool(common) and all(identical(before[part], after[part]) for part in common)
    row: measured.Row = {
        "what": name,
        "figures": sum(int(before[part].size) for part in common),
        "equal": same,
        "difference": max((difference(before[part], after[part]) for part in common), default=0.0),
        "added": sorted(set(after) - set(before)),
        "gone": sorted(set(before) - set(after)),
    }
    reason = CHANGED.get(name, "")
    return row | {"reason": reason, "met": bool(reason) or (same and not row["gone"])}


def identical(old: NDArray[Any], new: NDArray[Any]) -> bool:
    """Return whether two arrays have the same type, shape and bits."""
    return (old.dtype, old.shape, old.tobytes()) == (new.dtype, new.shape, new.tobytes())


def difference(old: NDArray[Any], new: NDArray[Any]) -> float:
    """Return the largest relative difference; infinite where the shapes differ, or the entries that are finite."""
    if old.shape != new.shape or not np.array_equal(np.isfinite(old), np.isfinite(new)):
        return float("inf")
    finite = np.isfinite(old)
    one, other = np.asarray(old[finite], float), np.asarray(new[finite], float)
    size = np.abs(one)
    floor = max(float(size.max(initial=0.0)) * 1e-12, np.finfo(float).tiny)
    return float((np.abs(other - one) / np.maximum(size, floor)).max(initial=0.0))


COLUMNS = {"": "{what}", "figures": "{figures}", "equal to the bit": "{equal}", "difference": "{difference:.1e}"}
NOTE = "difference: the largest relative one."


def main(revision: tyro.conf.Positional[str], only: str = "", json: Path | None = None) -> int:
    """Compare what this working tree computes with what a revision did.

    Args:
        revision: a git revision, such as a commit or a tag.
        only: compare the cases whose names contain this.
        json: a file to write the comparison to.
    """
    settings = {"revision": revision, "only": only, "seed": fixed_cases.SEED}
    return measured.report("measure.unchanged", measure(revision, only), COLUMNS, settings, json, NOTE)


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
