"""`flowgmm embed`: rows as vectors."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from flowgmm_cli.cli import options, output
from flowgmm_cli.cli.session import (
    note_totals,
    open_session,
    open_table,
    print_warnings,
    totals_to_dict,
    write_table,
)
from flowgmm_cli.cli.validation import split_arguments

SCHEMA = "flowgmm/embed/1"


class Command(options.Command):
    """The command line of `embed`, where `--map` alone means `--map pca`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Give `--map` its default value if no value follows."""
        expanded = [
            "--map=pca" if word == "--map" and following.startswith("-") else word
            for word, following in zip(args, [*args[1:], "-"], strict=True)
        ]
        return super().parse_args(ctx, expanded)


Space = Annotated[
    Literal["latent", "input"],
    typer.Option(
        metavar="latent|input",
        help="Vectors of the latent space, or the inputs of the flow: features after the transforms.",
    ),
]
MapMethod = Annotated[
    Literal["pca", "tsne", "umap"] | None,
    options.option(
        "--map pca|tsne|umap",
        "Add map_0 and map_1: principal axes of the first 10,000 rows, or t-SNE or UMAP of up to 20,000.",
    ),
]


def embed(
    run: options.Run = None,
    rows_file: options.RowsArgument = None,
    run_flag: options.RunFlag = None,
    data: options.Data = None,
    data_format: options.DataFormat = None,
    save: options.Save = None,
    format_: options.Format = None,
    only: options.Only = None,
    with_: options.With = None,
    space: Space = "latent",
    map_: MapMethod = None,
    on_error: options.OnError = "keep",
    device: options.Device = "auto",
    processes: options.Processes = 1,
    as_json: options.Json = False,
) -> None:
    """Embed rows: one vector for each row of the input, in order, to a file or to stdout.

    Columns: id, then z_0 to z_{D-1}; in parquet, jsonl and npz one column z of lists. A row that cannot be
    scored keeps its place with empty cells. The vectors of an ensemble are those of its first member. Without
    --data the run's own test rows are embedded.

    Examples: flowgmm embed --data new.csv --save z.parquet · flowgmm embed --map pca --only id,map_0,map_1 ·
    flowgmm embed runs/digits/latest --space input --save x.npz
    """
    run, data = split_arguments(run, rows_file, data)
    table = open_table(data, save, format_, as_json=as_json)
    with open_session(run, run_flag) as session:
        from flowgmm_cli.inference.drift import Drift
        from flowgmm_cli.inference.embedding import check_map, embedding_columns
        from flowgmm_cli.inference.scores import select_columns

        trained = session.trained
        check_map(map_)
        names = select_columns(only, ["id", "z", *(["map_0", "map_1"] if map_ else [])])
        if space == "latent" and len(trained.model.parts) > 1:
            output.note(f"ensemble of {len(trained.model.parts)}: the vectors are those of the first member")
        reader = session.open_rows(
            data, purpose="embed without --data", data_format=data_format, on_error=on_error, keep=with_
        )
        drift = Drift(trained, reader.name)
        work: dict[str, Any] = {"on_error": on_error, "device": device, "processes": processes}
        stream = session.score(reader, "embed", space=space, drift=drift, **work)
        totals = write_table(table, embedding_columns(stream, map_), names)
    warnings = print_warnings(drift.warnings())
    if save not in (None, "-"):
        output.note(f"written {save}: {totals.n:,} rows of {trained.preprocessor.dim} dimensions")
    if as_json:
        own = {"space": space, "dim": trained.preprocessor.dim, "map": map_, "warnings": warnings}
        output.print_json(totals_to_dict(SCHEMA, session, totals, save, **own))
    note_totals(reader.name, totals)
