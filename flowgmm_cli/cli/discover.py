"""`flowgmm discover`: groups of kinds without a name among the unlabelled rows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from flowgmm_cli.cli import options, output
from flowgmm_cli.cli.session import open_session
from flowgmm_cli.cli.validation import check_input_kept, check_output, check_stdout, split_arguments
from flowgmm_cli.errors import UsageError
from flowgmm_cli.files import write_bytes
from flowgmm_cli.formatting import pluralise
from flowgmm_cli.messages import quote
from flowgmm_cli.user_files import explain_write_errors

if TYPE_CHECKING:
    from flowgmm_cli.cli.session import Session
    from flowgmm_cli.data.splits import SplitData
    from flowgmm_cli.inference.discovery import Discovery
    from flowgmm_cli.inference.scores import OODRule

SCHEMA = "flowgmm/discover/1"
NOTHING = "no unlabelled rows look like none of your classes"
_TYPICAL = 10  # rows of a group in the JSON output
_SHOWN = {4: 3, 12: 2}  # most groups -> typical rows of each on the screen; of more groups one

Accept = Annotated[
    list[str] | None,
    options.option(
        "--accept GROUP=CLASS,...",
        "Make classes of groups: write a table with these labels beside the given ones, and its recipe.",
    ),
]
RecipeFile = Annotated[
    Path | None,
    options.option(
        "--recipe FILE.yaml",
        "Recipe that --accept writes, with its table beside it; default: NAME_more.yaml.",
    ),
]
PlotFile = Annotated[Path | None, options.option("--plot FILE.png", "Write a map of the groups and classes.")]
Score = Annotated[
    str | None,
    options.option(
        "--score NAME",
        "Divide the rows that this out-of-distribution score flags, not those that are likely unknown.",
    ),
]


def discover(
    run: options.Run = None,
    rows_file: options.RowsArgument = None,
    run_flag: options.RunFlag = None,
    data: options.Data = None,
    data_format: options.DataFormat = None,
    save: options.Save = None,
    format_: options.Format = None,
    plot: PlotFile = None,
    accept: Accept = None,
    recipe: RecipeFile = None,
    score: Score = None,
    fpr: options.Fpr = None,
    force: options.Force = False,
    as_json: options.Json = False,
) -> None:
    """Find groups of kinds without a name among unlabelled rows, with the words or columns that mark them.

    Rows with a high p_unknown (prior.unknown) are divided into groups about as wide as the classes. --save
    writes id, group, p_unknown and the columns of each row in a group. --accept labels the more typical
    half of the rows of a group. Without --data the run's own unlabelled rows are searched.

    Examples: flowgmm discover · flowgmm discover --save groups.csv --plot groups.png ·
    flowgmm discover --accept 1=refunds,3=other · flowgmm discover --data new.csv --score combined
    """
    run, data = split_arguments(run, rows_file, data)
    names = parse_classes(accept)
    check_stdout(save, as_json=as_json)
    check_input_kept(data, save)
    check_output("--plot", plot, (".png",), "figures are PNG files")
    if recipe is not None and not names:
        raise UsageError("--recipe names what --accept writes", hint="--accept 1=refunds")
    check_output("--recipe", recipe, (".yaml", ".yml"), "a recipe is a YAML file")
    with open_session(run, run_flag) as session:
        from flowgmm_cli.data.writers.base import open_writer
        from flowgmm_cli.inference.discovery import discover as find_groups

        if names and data is not None:
            hint = "leave --data out; --save groups.csv has the rows of its groups"
            raise UsageError("--accept adds labels to the run's own rows", hint=hint)
        target = recipe or Path(f"{session.trained.recipe.name}_more.yaml")
        if names:
            session.check_target(target, force=force)
        rule = _select_rule(session, score, fpr)
        if rule is None and not session.trained.model.unknown:  # training searched and found none
            _print_nothing(session, save, as_json=as_json)
            return
        writer = open_writer(save, format=format_) if save is not None else None
        own, rows, scores, count = session.score_pile(data, data_format, rule, purpose="discover")
        discovery = find_groups(
            session.trained,
            rows,
            scores,
            count,
            lambda tried: session.progress(tried, 0, "divide into groups"),
        )
        groups = discovery.groups
        if wrong := sorted(set(names) - set(range(1, len(groups) + 1))):
            known = f"the groups are 1 to {len(groups)}" if len(groups) else "there are no groups"
            raise UsageError(f"--accept: there is no group {wrong[0]}", hint=f"{known}; `flowgmm discover`")
        with writer or nullcontext():
            if writer:
                writer.write(discovery.table())
        if plot is not None:
            _save_plot(plot, discovery)
        written = _accept(target, session, own, discovery, names) if names else []
    _print_result(session, discovery, save, written, as_json=as_json)
    if save not in (None, "-"):
        output.note(f"written {save}: {pluralise(int((groups.labels >= 0).sum()), 'row')}")
    for file in (plot, *written):
        if file is not None:
            output.note(f"written {file}")
    if written:
        from flowgmm_cli.inference.new_classes import train_command

        output.note(f"next: {train_command(written, own.columns, session.run.path)}")
    elif len(groups) and data is None:
        output.note(f"next: flowgmm discover {quote(session.run.path)} --accept 1=NAME")


def parse_classes(words: Sequence[str] | None) -> dict[int, str]:
    """Read the words of `--accept`: the class of each group; a name may have commas.

    >>> parse_classes(["1=refunds,3=other, mostly", "2=news"])
    {1: 'refunds', 3: 'other, mostly', 2: 'news'}
    """
    names: dict[int, str] = {}
    for part in (part for word in words or () for part in re.split(r",(?=\s*\d+=)", word)):
        number, equals, name = (piece.strip() for piece in part.partition("="))
        if not equals or not number.isdigit() or not name:
            raise UsageError(f"--accept {part}: it takes GROUP=CLASS", hint="--accept 1=refunds,3=other")
        if int(number) in names:
            raise UsageError(f"--accept names group {int(number)} twice", hint="name it once")
        names[int(number)] = name
    return names


def _select_rule(session: Session, score: str | None, fpr: float | None) -> OODRule | None:
    """Return the rule that selects rows: None for `p_unknown`.

    Raises:
        UsageError: training has not looked for unknown kinds, and no score was named.
    """
    from flowgmm_cli.inference.scores import OODRule

    if score is not None:
        return OODRule.from_model(session.trained, score, fpr)
    if fpr is not None:
        raise UsageError("--fpr belongs to a score", hint="--score combined --fpr 0.05")
    prior = session.trained.recipe.prior.config
    if session.trained.model.unknown or getattr(prior, "unknown", "off") != "off":
        return None
    raise UsageError(
        "training has not looked for unknown kinds (prior.unknown: off)",
        details=["`--score combined` divides the rows that the out-of-distribution score flags"],
        hint="train again with prior.unknown=auto, or: flowgmm discover --score combined",
    )


def _accept(
    target: Path, session: Session, own: SplitData, discovery: Discovery, names: Mapping[int, str]
) -> list[Path]:
    """Write the table and the recipe of `--accept`, and return their paths."""
    from flowgmm_cli.inference.inputs import training_rows
    from flowgmm_cli.inference.new_classes import label_groups, write_classes

    pile = training_rows(own)
    labels = label_groups(discovery.groups, {number - 1: name for number, name in names.items()})
    with explain_write_errors(target):
        hint = "--save groups.csv writes the rows of the groups"
        files = write_classes(target, session.trained.recipe, own, pile, labels, hint=hint)
    given = int((pile.labels >= 0).sum())
    output.note(
        f"labels  {len(labels):,} new beside the {given:,} given: the more typical half of each group"
    )
    return files


def _save_plot(path: Path, discovery: Discovery) -> None:
    from flowgmm_cli.report.figures import png
    from flowgmm_cli.report.groups import groups_figure

    names = [f"{number}: {text}" for number, text in enumerate(_describe_marks(discovery, 2), 1)]
    write_bytes(path, png(groups_figure(discovery, names)))


def _describe_marks(discovery: Discovery, most: int) -> list[str]:
    """Describe what marks each group: words of a text first, then columns."""
    return [
        ", ".join([*words[:most], *(mark.describe() for mark in marks[: most - len(words[:most])])])
        for words, marks in discovery.marks()
    ]


def _print_nothing(session: Session, save: str | None, *, as_json: bool) -> None:
    """Say that training has found no unknown kinds."""
    if as_json:
        output.print_json(
            {"schema": SCHEMA, "run": str(session.run.path), "n": 0, "groups": [], "saved": None}
        )
    elif save != "-":
        output.print_text(NOTHING)
    output.note(
        "`flowgmm discover --score combined` divides the rows that the out-of-distribution score flags"
    )


def _print_result(
    session: Session, discovery: Discovery, save: str | None, written: Sequence[Path], *, as_json: bool
) -> None:
    """Print the groups, unless stdout has the rows of `--save -`."""
    from flowgmm_cli.inference.discovery import to_dict

    groups, searched = discovery.groups, int(discovery.searched.sum())
    inside, candidates = int((groups.labels >= 0).sum()), int(discovery.candidates.sum())
    if as_json:
        output.print_json(
            {
                "schema": SCHEMA,
                "run": str(session.run.path),
                "n": searched,
                "candidates": candidates,
                "score": discovery.scores.rule.score if discovery.scores.rule else "p_unknown",
                "groups": to_dict(discovery, _TYPICAL),
                "saved": save,
                "accepted": [str(file) for file in written],
            }
        )
    elif save == "-":
        return
    elif not len(groups):
        output.print_text(NOTHING)
    else:
        _print_groups(session, discovery, f"{inside:,} of {searched:,} unlabelled rows")
    if rest := candidates - inside:
        output.note(f"{rest:,} more rows are likely unknown, but in no group: they lie nearer to a class")


def _print_groups(session: Session, discovery: Discovery, rows: str) -> None:
    """Print a table of the groups, and their most typical rows."""
    from flowgmm_cli.report.text import describe_row

    groups, searched = discovery.groups, int(discovery.searched.sum())
    name, certainty = discovery.certainty
    table = []
    for group, text in enumerate(_describe_marks(discovery, 5)):
        members = discovery.groups.members(group)
        cells = [f"{len(members):,}", f"{len(members) / searched:.1%}", f"{certainty[members].mean():.2f}"]
        predicted, share = discovery.likely_class(group)
        table.append([str(group + 1), *cells, f"{predicted} {share:.0%}", text])
    columns = ["group", "rows", "share", name, "predicted as", "marked by"]
    title = f"{session.run.path}: {rows} in {pluralise(len(groups), 'group')} of unknown kinds"
    output.print_table(
        columns, table, right=columns[:4], optional=["predicted as", name, "share"], title=title
    )
    output.print_text("")
    shown = next((count for most, count in _SHOWN.items() if len(groups) <= most), 1)
    lines = []
    for group in range(len(groups)):
        for place in groups.members(group)[:shown].tolist():
            text = describe_row(discovery.rows, discovery.columns, place)
            lines.append([str(group + 1), str(discovery.rows.ids[place]), text])
    output.print_table(["group", "row", "typical rows"], lines, right=["group"])
