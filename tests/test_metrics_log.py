from __future__ import annotations

import json
from pathlib import Path

from flowgmm_cli.metrics_log import MetricsLog, read_metrics


def write(log: MetricsLog, step: int, split: str = "train", **values: float) -> None:
    log.write(step=step, epoch=step / 3, split=split, seconds=0.12345, **values)


def test_each_line_is_a_json_object_and_numbers_that_are_not_finite_are_null(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    write(MetricsLog(file), 2, loss=1.5, a=float("nan"), b=float("inf"))
    assert file.read_text().endswith("\n")
    assert json.loads(file.read_text()) == {
        "step": 2, "epoch": 0.6667, "split": "train", "seconds": 0.123, "loss": 1.5, "a": None, "b": None
    }  # fmt: skip


def test_resuming_drops_lines_after_the_checkpoint(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    log = MetricsLog(file)
    for step in (1, 2, 3):
        write(log, step, loss=1 / 3 / step)
        write(log, step, "val", loss=2.0)
    before = file.read_text().splitlines()
    log = MetricsLog(file, last_step=2)
    assert file.read_text().splitlines() == before[:4]
    write(log, 3)
    assert [(line["step"], line["split"]) for line in read_metrics(file)][4:] == [(3, "train")]


def test_a_line_cut_short_by_a_crash_is_dropped_and_does_not_spoil_the_next(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    write(MetricsLog(file), 1)
    with file.open("a") as stream:
        stream.write('{"step": 2, "ep')
    log = MetricsLog(file, last_step=5)
    write(log, 3)
    assert [line["step"] for line in read_metrics(file)] == [1, 3]
    damaged = b'\n[1]\n{"step": "4"}\n{"step": 5, "loss": NaN}\n' + b"[" * 100_000
    damaged += b'\n{"step": 5, "a": "\xff"}\n' + bytes(7)  # zeros, as a power cut leaves them
    file.write_bytes(file.read_bytes() + damaged)
    assert [line["step"] for line in read_metrics(file)] == [1, 3]


def test_without_a_file_nothing_is_written(tmp_path: Path) -> None:
    write(MetricsLog(None), 1)
    assert list(tmp_path.iterdir()) == []


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    for number, target in enumerate(("missing", "theirs")):
        file = tmp_path / f"metrics-{number}.jsonl"
        if target == "theirs":
            (tmp_path / target).write_text("precious")
        file.symlink_to(tmp_path / target)
        write(MetricsLog(file), 1)
        assert len(read_metrics(file)) == 1
    assert not (tmp_path / "missing").exists()
    assert (tmp_path / "theirs").read_text() == "precious"
