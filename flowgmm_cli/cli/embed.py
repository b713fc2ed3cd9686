"""`flowgmm embed`: rows as vectors."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from flowgmm_cli.cli.options import (
    Data,
    Device,
    Format,
    InputFormat,
    Json,
    Offline,
    OnError,
    Only,
    PluginModule,
    Processes,
    Quiet,
    Run,
    RunFlag,
    Save,
    Verbose,
)

SCHEMA = "flowgmm/embed/1"


class Command(TyperCommand):
    """The command line of `embed`, where `--map` alone means `--map pca`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Give `--map` its value where none follows."""
        following = [*args[1:], "-"]
        spelled = [
            "--map=pca" if word == "--map" and after.startswith("-") else word
            for word, after in zip(args, following, strict=True)
        ]
        return super().parse_args(ctx, spelled)


def embed(
    run: Run = None,
    run_flag: RunFlag = None,
    data: Data = None,
    data_format: InputFormat = None,
    save: Save = None,
    format_: Format = None,
    only: Only = None,
    space: Annotated[
        str,
        typer.Option(
            metavar="latent|input",
            help="Vectors of the latent space, or what the flow is given: features after the transforms.",
        ),
    ] = "latent",
    map_: Annotated[
        str | None,
        typer.Option(
            "--map",
            metavar="pca|tsne|umap",
            help="Add map_0 and map_1: two principal axes of the first 10,000 rows, or t-SNE or UMAP of at "
            "most 20,000 rows.",
            show_default=False,
        ),
    ] = None,
    on_error: OnError = "keep",
    device: Device = "auto",
    processes: Processes = 1,
    offline: Offline = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    plugin_module: PluginModule = None,
) -> None:
    """Embed rows: one vector for each row of the input, in order, to a file or to stdout.

    Columns: id, then z_0 to z_{D-1}; in parquet, jsonl and npz one column z of lists. A row that cannot be
    scored keeps its place with empty cells. Of an ensemble the vectors are its first member's. Without --data
    the run's own test rows are embedded.

    Examples: flowgmm embed --data new.csv --save z.parquet · flowgmm embed --map pca --only id,map_0,map_1 ·
    flowgmm embed runs/digits/latest --space input --save x.npz
    """
    from flowgmm_cli.cli import console
    from flowgmm_cli.cli.answers import check_words, rows_in, say_totals, stopped_by_terminate, watched
    from flowgmm_cli.cli.work import chosen_run, data_context
    from flowgmm_cli.data.writers.open import open_writer
    from flowgmm_cli.errors import UsageError

    policy = check_words(data, save, as_json=as_json, on_error=on_error)
    if space not in ("latent", "input"):
        raise UsageError(f"--space is latent or input, not `{space}`", hint="--space latent")
    # with --json alone there is no table to write
    writer = None if as_json and save is None else open_writer(save or "-", format=format_)
    chosen = chosen_run(run, run_flag)
    console.note("loading torch…")

    from flowgmm_cli.inference.embedding import check_map, embedding_columns
    from flowgmm_cli.inference.predictions import Totals, select_columns
    from flowgmm_cli.inference.scoring import score
    from flowgmm_cli.trained import TrainedModel

    kind = check_map(map_)
    names = select_columns(only, ["id", "z", *(["map_0", "map_1"] if kind else [])])
    with console.progress() as progress, stopped_by_terminate():
        context = data_context(progress, offline=offline)
        trained = TrainedModel.load(chosen.path, context=context)
        if space == "latent" and len(trained.model.parts) > 1:
            console.note(
                f"{len(trained.model.parts)} members of an ensemble: the vectors are the first one's"
            )
        reader = rows_in(
            trained,
            chosen.info(),
            context,
            data,
            data_format=data_format,
            on_error=policy,
            purpose="embed without --data",
        )
        totals = Totals(len(trained.class_names))
        stream = score(
            trained,
            reader,
            latents=space == "latent",
            inputs=space == "input",
            context=context,
            on_error=policy,
            device=device,
            processes=processes,
            folder=chosen.path,
        )
        rows = embedding_columns(
            watched(stream, progress, reader.total, "embed"),
            "latent" if space == "latent" else "input",
            kind,
        )
        if writer is None:
            for scored, _ in rows:
                totals.add(scored)
        else:
            with writer:
                for scored, columns in rows:
                    writer.write({name: columns[name] for name in names})
                    totals.add(scored)
    if save not in (None, "-"):
        console.note(f"written {save}: {totals.n:,} rows of {trained.preprocessor.dim} dimensions")
    if as_json:
        console.print_json(
            {
                "schema": SCHEMA,
                "run": str(chosen.path),
                "n": totals.n,
                "unscorable": totals.unscorable,
                "reasons": totals.reasons,
                "saved": save,
                "space": space,
                "dim": trained.preprocessor.dim,
                "map": kind,
                "seconds": round(totals.seconds, 3),
                "rows_per_second": round(totals.rows_per_second, 1),
            }
        )
    say_totals(totals, reader.name)
