"""Result files: published once, read whole or not at all."""

import multiprocessing
import subprocess

import pytest

from common.results import make_result, race
from hacontrol_benchmarks.records.results import plain_history, plain_metrics, publish, read_result, read_results
from hacontrol_envs.errors import CheckpointError, ParameterError


def test_two_writers_race_and_one_wins(tmp_path):
    context = multiprocessing.get_context("spawn")
    barrier, queue = context.Barrier(2), context.Queue()
    writers = [context.Process(target=race, args=(tmp_path, loss, barrier, queue)) for loss in (1.0, 2.0)]
    for writer in writers:
        writer.start()
    answers = [queue.get(timeout=60) for _ in writers]
    for writer in writers:
        writer.join()
    winners = [loss for won, loss in answers if won]
    (result,) = read_results(tmp_path)
    assert winners == [result.metrics["value_loss"]]
    assert [path.suffix for path in tmp_path.iterdir()] == [".json"]


def test_a_result_returns_as_it_was_and_is_never_replaced(tmp_path):
    result = make_result(extra={"50%": 0.1}, none=None)
    assert publish(result, tmp_path)
    assert not publish(make_result(loss=9.0), tmp_path)
    assert read_results(tmp_path) == [result]


def test_every_altered_byte_and_every_truncation_is_refused(tmp_path):
    publish(make_result(), tmp_path)
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    broken = [
        content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :]
        for place in range(len(content))
    ]
    broken += [content[:place] for place in range(0, len(content), 7)]
    for damaged in broken:
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"torn|altered|not a result"):
            read_result(path)


def test_no_results_and_no_file_are_errors(tmp_path):
    with pytest.raises(CheckpointError, match="no result files"):
        read_results(tmp_path)
    with pytest.raises(CheckpointError, match="cannot read"):
        read_result(tmp_path / "missing.json")


def test_nan_is_refused_and_infinity_is_spelt_out(tmp_path):
    with pytest.raises(ParameterError, match=r"residual\.50% is NaN"):
        plain_metrics({"residual": {"50%": float("nan")}})
    with pytest.raises(ParameterError, match="NaN"):
        publish(make_result(loss=float("nan")), tmp_path)
    assert plain_metrics({"a": -float("inf"), "b": 1}) == {"a": "-inf", "b": 1}
    assert plain_history([{"loss": float("nan"), "evaluations": 3}]) == [{"loss": None, "evaluations": 3}]
    assert list(tmp_path.iterdir()) == []


def test_the_id_depends_on_the_content_only():
    one, same, other = (make_result(seed=seed).task.id for seed in (0, 0, 1))
    assert one == same != other
    assert subprocess.list2cmdline([one]) == one  # needs no quoting
