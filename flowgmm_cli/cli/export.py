"""`flowgmm export`: a trained model as a folder that runs without PyTorch and flowgmm."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from flowgmm_cli.cli import options, output
from flowgmm_cli.cli.session import open_session
from flowgmm_cli.cli.validation import check_absent, split_arguments
from flowgmm_cli.errors import UsageError
from flowgmm_cli.messages import quote
from flowgmm_cli.user_files import explain_write_errors

if TYPE_CHECKING:
    from flowgmm_cli.export.scores import Operation
    from flowgmm_cli.inference.scores import OODRule
    from flowgmm_cli.trained_model import TrainedModel

SCHEMA = "flowgmm/export/1"
_CHECKED_ROWS = 2000

To = Annotated[Literal["onnx"], options.option("--to onnx", "Format of the model.")]
Folder = Annotated[Path | None, options.option("--save FOLDER", "New folder for the exported model.")]


def select_score(trained: TrainedModel, name: str | None, fpr: float | None) -> tuple[OODRule, Operation]:
    """Return the rule of a score and its operation; log p(x) replaces a default score that has none.

    Raises:
        UsageError: the score cannot be exported.
    """
    from flowgmm_cli.export.scores import NoOperationError, detector_operation
    from flowgmm_cli.inference.scores import OODRule

    detector = trained.require_detector()
    rule = OODRule.from_model(trained, name, fpr)
    try:
        return rule, detector_operation(detector, rule.score)
    except NoOperationError as error:
        part = "" if str(error) == rule.score else f" (it uses `{error}`)"
        text = f"the score `{rule.score}`{part} cannot be exported"
        if name is not None or "nll" not in detector.names:
            raise UsageError(text, hint="name a built-in score: --score entropy") from None
    output.warn(f"{text}; ood_score is -log p(x) and is_ood its flag, unlike those of `flowgmm predict`")
    rule = OODRule.from_model(trained, "nll", fpr)
    return rule, detector_operation(detector, "nll")


def export(
    run: options.Run = None,
    rows_file: options.RowsArgument = None,
    run_flag: options.RunFlag = None,
    to: To = "onnx",
    save: Folder = None,
    data: options.Data = None,
    data_format: options.DataFormat = None,
    score: options.Score = None,
    fpr: options.Fpr = None,
    as_json: options.Json = False,
) -> None:
    """Export a model to a folder that runs without PyTorch and flowgmm: it classifies, scores and embeds.

    model.onnx maps encoded rows to calibrated probabilities, log p(x), the out-of-distribution score and
    latents; model.json and the files beside it encode the cells of a row. The package flowgmm-runtime
    predicts csv and JSON lines with them. Before the folder is complete, onnxruntime must give the results of
    the run on some of its held-out rows, or on those of --data.

    It needs the extra `onnx`. The transforms, the flow and the mixture of every built-in model of tables,
    vectors and texts can be exported, with the encoders wordllama and tfidf_svd.

    Examples: flowgmm export --to onnx --save model · flowgmm export runs/digits/latest --save digits-onnx
    """
    from flowgmm_cli.export.graph import require_onnx

    run, data = split_arguments(run, rows_file, data)
    if save is None:
        raise UsageError("export writes a new folder", hint="name it: --save FOLDER")
    check_absent(save, "name a new folder with --save", force=False)
    require_onnx()
    with open_session(run, run_flag) as session:
        from flowgmm_cli.export.folder import Inputs, write_folder
        from flowgmm_cli.files import atomic_folder
        from flowgmm_cli.inference.inputs import read_first_rows

        inputs = Inputs.from_model(session.trained)
        rule, operation = select_score(session.trained, score, fpr)
        reader = session.open_rows(data, purpose="export without --data", data_format=data_format)
        rows = read_first_rows(reader, _CHECKED_ROWS)
        output.note("writing the graph and checking it…")
        with explain_write_errors(save), atomic_folder(save) as folder:
            checked = write_folder(session.trained, inputs, rule, operation, rows, session.context, folder)
    files = {path.name: path.stat().st_size for path in sorted(save.iterdir())}
    output.note(
        f"checked {checked.rows:,} rows with onnxruntime: probabilities differ by at most "
        f"{checked.probability:.1g}, flags are equal"
    )
    if as_json:
        output.print_json({
            "schema": SCHEMA,
            "run": str(session.run.path),
            "to": to,
            "saved": str(save),
            "files": files,
            "score": rule.score,
            "threshold": checked.threshold,
            "fpr": rule.fpr,
            "checked": {
                "rows": checked.rows,
                "probability_difference": checked.probability,
                "differing": checked.differing,
            },
        })  # fmt: skip
    else:
        sizes = [[name, f"{size / 1e6:,.2f}"] for name, size in files.items()]
        output.print_table(["file", "MB"], sizes, right=["MB"], title=str(save))
    command = f"flowgmm-runtime predict {quote(save)} --data new.csv"
    output.note(f"predict with it: pip install flowgmm-runtime && {command}")
