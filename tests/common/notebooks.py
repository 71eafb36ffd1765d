"""Notebooks of agents/notebooks, run without Jupyter.

`python tests/common/notebooks.py` runs all and keeps their outputs.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

FOLDER = Path(__file__).parents[2] / "agents" / "notebooks"
DPI = 60
"""Of the figures that are kept."""


def run(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The notebook with the outputs of its code cells, and the names that it leaves."""
    notebook, names, count = json.loads(path.read_text(encoding="utf-8")), dict[str, Any](), 0
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            count += 1
            cell["execution_count"] = count
            cell["outputs"] = executed("".join(cell["source"]), names, count)
    return notebook, names


def executed(source: str, names: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """Run a cell: what it printed, and the value of its last expression. Lines that begin with % are Jupyter's."""
    tree = ast.parse("\n".join("" if line.startswith("%") else line for line in source.splitlines()))
    last = ast.Expression(tree.body.pop().value) if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(tree, f"cell {count}", "exec"), names)
        value = eval(compile(last, f"cell {count}", "eval"), names) if last else None
    text = printed.getvalue()
    outputs: list[dict[str, Any]] = []
    if text:
        outputs.append({"name": "stdout", "output_type": "stream", "text": text.splitlines(keepends=True)})
    if value is not None:
        result = {"data": shown(value), "execution_count": count, "metadata": {}, "output_type": "execute_result"}
        outputs.append(result)
    return outputs


def shown(value: Any) -> dict[str, str]:
    """A value by media type."""
    found = {"text/plain": f"<Figure with {len(value.axes)} Axes>" if isinstance(value, Figure) else repr(value)}
    if isinstance(value, Figure):
        drawn = io.BytesIO()
        value.savefig(drawn, format="png", dpi=DPI)
        found["image/png"] = base64.b64encode(drawn.getvalue()).decode()
    return found


def main() -> int:
    for path in sorted(FOLDER.glob("*.ipynb")):
        notebook, _ = run(path)
        path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
