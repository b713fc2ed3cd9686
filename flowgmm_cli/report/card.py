"""`MODEL_CARD.md`: description, results and usage of a run's model, after Mitchell et al. (2019).

The layout is that of the Hugging Face Hub. It states facts of the run only; the owner of the model adds facts
that the run cannot know, such as a licence.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from flowgmm_cli.evaluation.unknown_rows import UnknownRows
from flowgmm_cli.files import file_digest, write_text
from flowgmm_cli.formatting import format_duration, format_number, format_optional
from flowgmm_cli.report import text
from flowgmm_cli.report.baselines import comparison_tables
from flowgmm_cli.report.context import ReportContext
from flowgmm_cli.report.text import percent

if TYPE_CHECKING:
    from huggingface_hub import ModelCardData

FILE = "MODEL_CARD.md"
MAX_LISTED = 60  # classes or columns; more are counted, not listed
METRICS = {
    "accuracy": "accuracy",
    "balanced accuracy": "balanced_accuracy",
    "macro F1": "macro_f1",
    "NLL (nats)": "nll",
    "Brier score": "brier",
    "ECE, 15 bins": "ece",
    "bits per dimension": "bits_per_dim",
}
_TEMPLATE = Path(__file__).parent / "templates" / "model_card.md.j2"
_TAGS = ["flowgmm", "normalizing-flow", "semi-supervised", "density-estimation", "out-of-distribution"]
_CODE = re.compile(r"(`[\w .,:=/+-]+`)")
_SPECIAL = re.compile(r"([\\`*\[\]|~]|(?<!\w)_|_(?!\w))")  # within a word, `_` is a letter


def write_card(context: ReportContext) -> Path | None:
    """Write the card of a finished run into its directory; return None if the card was edited.

    Raises `UnavailableError` if the run has no model.
    """
    path = context.run.path / FILE
    if path.exists() and file_digest(path) != context.run.info().get("card"):
        return None
    write_text(path, model_card(context))
    context.run.update(card=file_digest(path))
    return path


def model_card(context: ReportContext) -> str:
    """Render the card as Markdown. Raises `UnavailableError` if the run has no model."""
    from jinja2 import Environment

    info, trained = context.info, context.trained
    rows, versions = dict(info.get("rows") or {}), dict(info.get("versions") or {})
    others = {(str(item.get("package")), str(item.get("version"))) for item in info.get("components") or ()}
    # `ModelCard.from_template` keeps the line ends of the template's tags
    card = (
        Environment(trim_blocks=True)
        .from_string(_TEMPLATE.read_text(encoding="utf-8"))
        .render(
            card_data=_card_data(context).to_yaml(),
            recipe=context.recipe,
            info=info,
            rows=rows,
            trained=trained,
            evaluation=context.evaluation,
            search=context.search,
            unknown=UnknownRows.measure(context.facts.get("unknown")),
            parameters=sum(parameter.numel() for parameter in trained.model.parameters()),
            columns=[f"{item.name} ({item.kind})" for item in trained.preprocessor.columns],
            limits=_list_limits(context),
            version=versions.get("flowgmm-cli", ""),
            packages=[*versions.items(), *sorted(item for item in others if item[0] != "flowgmm-cli")],
            run_name=re.sub(r"[^A-Za-z0-9._-]", "_", context.run.path.name),
            metric_names=METRICS,
            max_listed=MAX_LISTED,
            text=text,
            comparison_tables=comparison_tables,
            format_number=format_number,
            format_duration=format_duration,
            format_optional=format_optional,
            escape=escape,
            enumerate=_enumerate,
        )
    )
    return f"{card.strip()}\n"


def escape(value: object) -> str:
    r"""Escape text so that Markdown shows it literally, on one line; code spans stay code.

    >>> escape("a|b <script>"), escape("`x_1` of latent_knn, _y")
    ('a\\|b &lt;script&gt;', '`x_1` of latent_knn, \\_y')
    """
    line = " ".join("".join(char if char.isprintable() else " " for char in str(value)).split())
    return "".join(
        part
        if _CODE.fullmatch(part)
        else _SPECIAL.sub(r"\\\1", html.escape(part, quote=False).replace("&lt; ", "< "))
        for part in _CODE.split(line)
    )


def _card_data(context: ReportContext) -> ModelCardData:
    from huggingface_hub import EvalResult, ModelCardData

    kinds = {column.kind for column in context.trained.preprocessor.columns}
    task = f"{kinds.pop()}-classification" if kinds in ({"text"}, {"image"}) else "tabular-classification"
    results = []
    if context.evaluation is not None:
        metrics = context.evaluation.classification
        results = [
            EvalResult(
                task_type=task,
                dataset_type=context.recipe.data.use,
                dataset_name=text.describe_source(context.recipe).replace("`", ""),
                metric_type=name,
                metric_value=round(value, 4),
            )
            for name, value in (("accuracy", metrics.accuracy), ("f1", metrics.macro_f1))
        ]
    return ModelCardData(
        library_name="flowgmm-cli",
        pipeline_tag=task,
        tags=list(_TAGS),
        metrics=["accuracy", "f1"],
        model_name=context.recipe.name if results else None,
        eval_results=results or None,
    )


def _enumerate(names: Iterable[str]) -> str:
    escaped = [escape(name) for name in names]
    rest = f" and {len(escaped) - MAX_LISTED:,} more" if len(escaped) > MAX_LISTED else ""
    return ", ".join(escaped[:MAX_LISTED]) + rest


def _list_limits(context: ReportContext) -> list[str]:
    limits = text.list_caveats(context.info, context.evaluation, context.facts)
    if context.evaluation and (weaknesses := text.describe_weaknesses(context.evaluation.classification)):
        limits.append(weaknesses)
    if prior := context.facts.get("class_prior"):
        shares = f"class frequencies between {percent(min(prior))} and {percent(max(prior))}"
        if max(prior) - min(prior) < 1e-6:
            shares = "equal class frequencies"
        limits.append(f"Probabilities assume {shares}; other frequencies shift them.")
    return limits
