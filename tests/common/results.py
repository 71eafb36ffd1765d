"""Results made by hand, and a process that publishes one."""

from hacontrol_benchmarks.records.provenance import Code, Machine
from hacontrol_benchmarks.records.results import Result, Times, publish
from hacontrol_benchmarks.records.tasks import Task


def make_result(seed=0, loss=0.5, label="npi", title="LQR-v0", status="ok", message="", **metrics):
    return Result(
        task=Task(title=title, env="LQR-v0", label=label, agent="npi", seed=seed),
        status=status,
        message=message,
        metrics={} if status == "failed" else {"value_loss": loss, **metrics},
        evaluations=None if status == "failed" else 1000,
        times=Times(started="2026-01-01T00:00:00+00:00", learning=None if status == "failed" else 12.0),
        code=Code("0.1.0", "abc", False),
        machine=Machine("a processor", 2, "3.11", {"numpy": "2"}),
    )


def race(folder, loss, barrier, queue):
    """Publish a result at the same time as others, and tell whether it was the first."""
    barrier.wait()
    queue.put((publish(make_result(loss=loss), folder), loss))
