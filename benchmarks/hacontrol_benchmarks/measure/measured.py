"""Report figures of a command of `measure`: a table, and a JSON file with the code, machine and settings."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import msgspec
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from hacontrol_benchmarks.records import provenance
from hacontrol_envs.errors import ParameterError

WIDE = 140
"""Width of a table that goes to a file. [characters]."""

Row = dict[str, Any]
"""A figure by the names of its parts, with its target where it has one; "met" says whether it was reached."""


def report(
    command: str, rows: list[Row], columns: Mapping[str, str], settings: Row, json: Path | None, note: str = ""
) -> int:
    """Print the rows, write them to `json` if given, and return 0 if every target was met, else 1.

    Args:
        command: the module that measured, for the JSON file.
        rows: the figures; one without "met" has no target.
        columns: format of a row, such as "{ratio:.2f}", by the title of the column.
        settings: seeds and sizes, which are all that a repetition needs.
        json: file to write; None writes none.
        note: what the columns mean, in a sentence or two.
    """
    missed = [row for row in rows if not row.get("met", True)]
    table = Table(box=SIMPLE, caption=note or None, caption_justify="left")
    for place, title in enumerate([*columns, *([""] if missed else [])]):
        table.add_column(title, justify="left" if place == 0 else "right", no_wrap=True)
    for row in rows:
        cells = [shown.format_map(row) for shown in columns.values()]
        table.add_row(*cells, *(["[red]MISSED[/]" if row in missed else ""] if missed else []))
    Console(width=None if sys.stdout.isatty() else WIDE).print(table)
    if json is not None:
        write(json, command, rows, settings)
    return 1 if missed else 0


def write(path: Path, command: str, rows: list[Row], settings: Row) -> None:
    """Write rows with the settings, the code and the machine they come from.

    Args:
        path: the JSON file.
        command: the module that measured.
        rows: the figures.
        settings: seeds and sizes, which are all that a repetition needs.

    Raises:
        ParameterError: the file cannot be written.
    """
    content = {
        "command": f"python -m hacontrol_benchmarks.{command}",
        "settings": settings,
        "measured": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "code": provenance.code(),
        "machine": provenance.machine(),
        "rows": rows,
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=1) + b"\n")
    except OSError as error:
        raise ParameterError(f"cannot write {str(path)!r}: {error.strerror or error}") from error
