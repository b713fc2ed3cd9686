from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from flowgmm_cli.api import DataContext
from flowgmm_cli.baselines.run import ComparedRows
from flowgmm_cli.errors import DataError
from flowgmm_cli.evaluation.metrics import Evaluation
from flowgmm_cli.inference.evaluate_run import evaluate_run
from flowgmm_cli.runs import Run
from flowgmm_cli.training.pipeline import TrainResult

TrainRun = Callable[..., tuple[Run, TrainResult]]
CONTEXT = DataContext()


def test_held_out_rows_score_if_their_labels_may_be_seen(shared_run: TrainRun) -> None:
    run, _ = shared_run("data.split.val_labels=true", "calibration.method=none")
    found = evaluate_run(run, split="val", context=CONTEXT)
    assert found.classification.n == 20
    hidden, _ = shared_run("calibration.method=none")
    with pytest.raises(DataError, match="no labelled val rows"):
        evaluate_run(hidden, split="val", context=CONTEXT)


@pytest.mark.parametrize(("words", "labelled"), [([], 12), (["calibration.method=none"], 0)])
def test_baselines_get_the_rows_and_folds_of_the_model(
    shared_run: TrainRun, monkeypatch: pytest.MonkeyPatch, words: list[str], labelled: int
) -> None:
    run, _ = shared_run(*words)
    given, reports = list[ComparedRows](), list[tuple[Any, ...]]()

    def fake(evaluation: Evaluation, rows: ComparedRows, **options: Any) -> Evaluation:
        given.append(rows)
        options["progress"](1, 8, "knn")
        return evaluation

    monkeypatch.setattr("flowgmm_cli.inference.evaluate_run.compare_with_baselines", fake)
    report = lambda *values: reports.append(values)  # noqa: E731
    evaluate_run(run, split="test", context=CONTEXT, with_baselines=True, progress=report)
    assert reports == [(1, 8, "baselines", "kNN")]
    (rows,) = given
    assert (len(rows.x), int((rows.labels >= 0).sum()), len(rows.x_held_out)) == (180, 12, 60)
    assert rows.held_out is not None
    assert len(rows.held_out) == 60
    assert (0 if rows.cross_fitted is None else len(rows.cross_fitted)) == labelled
    if rows.cross_fitted is not None:
        assert (rows.labels[rows.cross_fitted.rows] == rows.cross_fitted.labels).all()
