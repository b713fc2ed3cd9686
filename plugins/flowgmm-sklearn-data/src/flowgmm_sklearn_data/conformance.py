"""Conformance suites of the sources; they need no network."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from flowgmm_cli.testing import DataConformance


class LoaderConformance(DataConformance):
    """With a table that scikit-learn ships."""

    config: ClassVar = {"loader": "load_wine"}
    missing: ClassVar = {"loader": "load_files", "arguments": {"container_path": "no-such-folder"}}


class OpenMLConformance(DataConformance):
    """With a data set as scikit-learn's folder holds it after a download."""

    config: ClassVar = {"id": 1, "data_home": "home"}
    missing: ClassVar = {"id": 2}

    def write_data(self, folder: Path) -> None:
        """Write OpenML's data set 1: 40 rows of a number, a category and a class."""
        rows = [[f"{row / 7:.3f}", "ab"[row % 2], "no" if row % 3 else "yes"] for row in range(40)]
        rows[3][0] = rows[4][1] = "?"
        columns = {"size": "numeric", "kind": ["a", "b"], "class": ["no", "yes"]}
        write_download(str(folder / "home"), 1, columns, rows, target="class")


def write_download(
    home: str,
    number: int,
    columns: Mapping[str, str | Sequence[str]],
    rows: Sequence[Sequence[str]],
    *,
    target: str,
) -> None:
    """Write a data set as scikit-learn keeps it.

    Args:
        home: scikit-learn's folder.
        number: the data set's.
        columns: name -> `numeric`, `string`, or the categories.
        rows: cells as in an ARFF file.
        target: the column that OpenML takes for the class.
    """
    kinds = {n: k if isinstance(k, str) else "nominal" for n, k in columns.items()}
    types = {n: k if isinstance(k, str) else "{" + ",".join(k) + "}" for n, k in columns.items()}
    header = ["@RELATION made", *(f"@ATTRIBUTE {name} {kind}" for name, kind in types.items()), "@DATA"]
    arff = "\n".join([*header, *(",".join(row) for row in rows)]).encode() + b"\n"
    features = [
        {
            "index": str(index),
            "name": name,
            "data_type": kind,
            "is_target": str(name == target).lower(),
            "is_ignore": "false",
            "is_row_identifier": "false",
            "number_of_missing_values": "0",
        }
        for index, (name, kind) in enumerate(kinds.items())
    ]
    about = {
        "id": str(number),
        "name": "made",
        "version": "1",
        "description": "made",
        "format": "ARFF",
        "status": "active",
        "url": f"https://www.openml.org/data/v1/download/{number}/made.arff",
        "default_target_attribute": target,
        "md5_checksum": hashlib.md5(arff, usedforsecurity=False).hexdigest(),
    }
    api = "api/v1/json/data"
    files: dict[str, bytes] = {f"data/v1/download/{number}/made.arff": arff}
    for path, content in (
        (f"{api}/{number}", {"data_set_description": about}),
        (f"{api}/features/{number}", {"data_features": {"feature": features}}),
        (f"{api}/qualities/{number}", {"data_qualities": {"quality": []}}),
        (f"{api}/list/data_name/made/limit/2/status/active/", _search_result(number)),
    ):
        files[path] = json.dumps(content).encode()
    for path, data in files.items():
        file = Path(home, "openml", "openml.org", path + ".gz")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(gzip.compress(data))


def _search_result(number: int) -> dict[str, Any]:
    entry = {"did": number, "name": "made", "version": 1, "status": "active", "format": "ARFF"}
    return {"data": {"dataset": [entry]}}
