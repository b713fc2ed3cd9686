"""Predictions of the runtime beside those of flowgmm, on the command line and in Python."""

import csv
import io
import json
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runtime_runs import Exported, draw_rows, read, save

from flowgmm_runtime import FolderError, InputError, load
from flowgmm_runtime.__main__ import main

pytest.importorskip("onnxscript", reason="the export needs the package onnxscript")


def compare(exported: Exported, actual: list[dict[str, str]]) -> None:
    """Fail unless predictions are those of flowgmm: cells are strings of csv files."""
    expected = exported.expected
    assert list(actual[0]) == list(expected[0])
    for name in ("id", "prediction", "is_ood"):
        assert [row[name] for row in actual] == [row[name] for row in expected]
    for name in expected[0].keys() - {"id", "prediction", "is_ood"}:
        first, second = ([float(row[name] or "nan") for row in rows] for rows in (expected, actual))
        tolerance = {"rtol": 1e-3} if name == "ood_score" else {"rtol": 0}
        np.testing.assert_allclose(second, first, atol=1e-5, **tolerance)


def predict(exported: Exported, folder: Path, *words: str, code: int = 0) -> list[dict[str, str]]:
    """Run the command line in this process."""
    out = folder / "out.csv"
    assert (
        main(["predict", str(exported.model), "--data", str(exported.data), "--save", str(out), *words])
        == code
    )
    return read(out) if out.exists() else []


def test_every_kind_of_column(table: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    compare(table, predict(table, tmp_path))
    assert "row r7: column `n` wants a number, got `many`" in capsys.readouterr().err
    assert predict(table, tmp_path / "absent", code=5) == []


def test_a_bad_row_may_stop_the_command(table: Exported, tmp_path: Path) -> None:
    assert predict(table, tmp_path, "--on-error", "fail", code=5) == []
    assert list(tmp_path.iterdir()) == []


def test_rows_of_python_have_the_same_predictions(table: Exported) -> None:
    model, rows = load(table.model), read(table.data)
    actual = model.predict(rows)
    assert [row["prediction"] or "" for row in actual] == [row["prediction"] for row in table.expected]
    assert actual[7]["is_ood"] is None
    latents = [[float(row[name] or "nan") for name in row if name != "id"] for row in table.latents]
    np.testing.assert_allclose(model.embed(rows), latents, atol=2e-4, rtol=1e-4)
    with pytest.raises(InputError, match="row 8: column `n`"):
        model.predict(rows, on_error="fail")
    with pytest.raises(InputError, match="there is no column `hour`"):
        model.predict([{name: row[name] for name in row if name != "hour"} for row in rows])
    assert model.predict([]) == []


def test_json_lines_have_the_types_of_json(table: Exported, tmp_path: Path) -> None:
    lines = tmp_path / "new.jsonl"
    rows: list[dict[str, Any]] = [dict(row) for row in read(table.data)]
    for row in rows:
        row |= {"n": row["n"] if row["n"] == "many" else int(row["n"]), "day": row["day"] or None}
        row["colour"] = 2.0 if row["colour"] == "2.0" else row["colour"]
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    out = tmp_path / "out.jsonl"
    assert main(["predict", str(table.model), "--data", str(lines), "--save", str(out)]) == 0
    answers = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(answers[0]))
    writer.writeheader()
    writer.writerows(
        {k: str(v).lower() if v in (True, False) and k == "is_ood" else v for k, v in row.items()}
        for row in answers
    )
    compare(table, list(csv.DictReader(io.StringIO(stream.getvalue()))))


def test_a_folder_without_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(tmp_path), "--data", "new.csv"]) == 6
    assert "is no exported model" in capsys.readouterr().err
    (tmp_path / "model.json").write_text('{"schema": "flowgmm/onnx/99"}')
    with pytest.raises(FolderError, match="another schema"):
        load(tmp_path)


def test_it_starts_quickly_and_without_pytorch(table: Exported, tmp_path: Path) -> None:
    save(tmp_path / "ten.csv", draw_rows(10, 0, 2))
    code = "import sys; from flowgmm_runtime.__main__ import main; main(sys.argv[1:]); print(*sys.modules)"
    words = [sys.executable, "-c", code, "predict", str(table.model), "--data", str(tmp_path / "ten.csv")]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    heavy = {"torch", "flowgmm_cli", "sklearn", "pandas", "pyarrow"}
    assert not heavy & set(done.stdout.splitlines()[-1].split())
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1


VECTORS = {
    "digits": ["digits", "data.labels.count=100"],
    "quantile": ["digits", "data.transforms=[{use: quantile}, {use: clip, limit: 5}]", "flow.mixing=lu"],
    "whitening": ["digits", "flow.whitening=discriminant", "flow.actnorm=true", "flow.mixing=permutation"],
    "ensemble": ["two_moons", "ensemble=2"],
    "one feature each": ["two_circles", "data.transforms=[{use: standardise}]", "prior.components=2"],
}
"""Words of trainings."""


@pytest.mark.slow
@pytest.mark.parametrize("name", VECTORS)
def test_flows_and_transforms(name: str, export: Callable[..., Exported], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    if VECTORS[name][0] == "digits":
        x, columns = rng.uniform(0, 1, (3000, 64)) ** 2, [f"pixels[{i}]" for i in range(64)]
    else:
        x, columns = rng.normal(0, 1, (3000, 2)), ["x1", "x2"]
    data = save(tmp_path / "new.csv", [dict(zip(columns, row, strict=True)) for row in x.tolist()])
    exported = export(data, *VECTORS[name])
    compare(exported, predict(exported, tmp_path))


@pytest.mark.slow
def test_the_code_of_the_readme_runs(
    table: Exported, export: Callable[..., Exported], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = save(tmp_path / "new.csv", [{f"pixels[{i}]": 0.5 for i in range(64)}])
    exported = export(data, "digits")
    monkeypatch.chdir(exported.model.parent)
    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    python, server = re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)
    names: dict[str, Any] = {}
    exec(python, names)
    assert names["latents"].shape == (1, 32)
    pytest.importorskip("fastapi")
    exec(server, names)
    (route,) = [route for route in names["app"].routes if route.path == "/predict"]
    assert route.endpoint([{"pixels": [0.5] * 64}]) == names["answers"]
    with pytest.raises(names["HTTPException"], match="wants a list of 64 numbers"):
        route.endpoint([{"pixels": [0.5]}])
