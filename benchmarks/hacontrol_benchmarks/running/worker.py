"""The process of one task, `python -m hacontrol_benchmarks.running.worker FOLDER`.

The runner writes the task to its standard input, one line of JSON, and keeps that open while it wants the result. It
starts the process as the head of a group of its own, with the task's number of threads in the environment.

Nothing imports this module: `python -m` would run it a second time under another name, and warn.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

import msgspec

from hacontrol_benchmarks.records.tasks import Task
from hacontrol_benchmarks.running.trial import run_task


def _end_with_driver() -> None:
    """Standard input stays open as long as the driver lives: when it closes, so do we, and leave no orphan at work."""
    sys.stdin.read()
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def main() -> None:
    """Read a task from the first line of standard input and run it."""
    task = msgspec.json.decode(sys.stdin.readline(), type=Task)
    threading.Thread(target=_end_with_driver, daemon=True).start()
    result = run_task(task, sys.argv[1])
    print(result.status, result.message, flush=True)
    os._exit(0)  # the result is on disk; the thread that waits on standard input would hold up an ordinary exit


if __name__ == "__main__":
    main()
