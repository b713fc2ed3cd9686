"""`MODEL_CARD.md`: description, results and usage of a run's model, after Mitchell et al. (2019).

The layout is that of the Hugging Face Hub. It states facts of the run only; the owner of the model adds facts
that the run cannot know, such as a licence.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowgmm_cli.evaluation.metrics import Evaluation
from flowgmm_cli.files import write_text
from flowgmm_cli.report import text
from flowgmm_cli.report.context import ReportContext
from flowgmm_cli.report.text import percent, pluralise

if TYPE_CHECKING:
    from huggingface_hub import ModelCardData

    from flowgmm_cli.scores.detector import Detector

FILE = "MODEL_CARD.md"
MAX_LISTED = 60  # classes or columns; more are counted, not listed
_TEMPLATE = Path(__file__).parent / "templates" / "model_card.md.j2"
_TAGS = ["flowgmm", "normalizing-flow", "semi-supervised", "density-estimation", "out-of-distribution"]
_SPECIAL = re.compile(r"([\\`*_\[\]|~])")


def write_card(context: ReportContext) -> Path:
    """Write the card of a finished run into its directory. Raises `UnavailableError` if it has no model."""
    path = context.run.path / FILE
    write_text(path, model_card(context))
    return path


def model_card(context: ReportContext) -> str:
    """Render the card as Markdown. Raises `UnavailableError` if the run has no model."""
    from jinja2 import Environment

    template = Environment(trim_blocks=True).from_string(_TEMPLATE.read_text(encoding="utf-8"))
    card = template.render(card_data=_card_data(context).to_yaml(), **_facts(context))
    return f"{card.strip()}\n"


def escape(value: object) -> str:
    r"""Escape text so that Markdown shows it literally, on one line.

    >>> escape("a|b <script>")
    'a\\|b &lt;script&gt;'
    """
    line = " ".join("".join(char if char.isprintable() else " " for char in str(value)).split())
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _SPECIAL.sub(r"\\\1", line)


def _card_data(context: ReportContext) -> ModelCardData:
    """Metadata that the Hub reads."""
    from huggingface_hub import EvalResult, ModelCardData

    kinds = {column.kind for column in context.trained.preprocessor.columns}
    task = {"text": "text-classification", "image": "image-classification"}.get(
        next(iter(kinds)) if len(kinds) == 1 else "", "tabular-classification"
    )
    results = []
    if context.evaluation is not None:
        metrics = context.evaluation.classification
        results = [
            EvalResult(
                task_type=task,
                dataset_type=context.recipe.data.use,
                dataset_name=text.describe_source(context.recipe).strip("`"),
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


def _facts(context: ReportContext) -> dict[str, Any]:
    """Variables of the template."""
    trained, info, evaluation = context.trained, context.info, context.evaluation
    rows, versions = dict(info.get("rows") or {}), dict(info.get("versions") or {})
    classes, members = len(trained.class_names), len(trained.model.parts)
    others = {(str(item.get("package")), str(item.get("version"))) for item in info.get("components") or ()}
    return {
        "recipe": context.recipe,
        "info": info,
        "best": info.get("best") or {},
        "search": context.search,
        "description": text.describe_model(context.recipe, rows, classes, members),
        "source": text.describe_source(context.recipe),
        "flow": context.recipe.flow.to_dict(),
        "members": members,
        "parameters": sum(parameter.numel() for parameter in trained.model.parameters()),
        "dim": trained.preprocessor.dim,
        "columns": [f"{item.name} ({item.kind})" for item in trained.preprocessor.columns],
        "class_names": trained.class_names,
        "detection": _describe_detection(trained.detector),
        "calibration": _describe_calibration(context),
        "limits": _list_limits(context),
        "versions": {"flowgmm-cli": "", **versions},
        "packages": [*versions.items(), *sorted(item for item in others if item[0] != "flowgmm-cli")],
        "run_name": re.sub(r"[^A-Za-z0-9._-]", "_", context.run.path.name),
        "max_listed": MAX_LISTED,
        "rows": lambda name: f"{rows.get(name, 0):,}",
        "escape": escape,
        "enumerate": _enumerate,
        "pluralise": pluralise,
        **_results(evaluation),
    }


def _enumerate(names: Iterable[str]) -> str:
    escaped = [escape(name) for name in names]
    rest = f" and {len(escaped) - MAX_LISTED:,} more" if len(escaped) > MAX_LISTED else ""
    return ", ".join(escaped[:MAX_LISTED]) + rest


def _results(evaluation: Evaluation | None) -> dict[str, Any]:
    if evaluation is None:
        return {"metrics": None}
    metrics = evaluation.classification
    values = {
        "accuracy": metrics.accuracy,
        "balanced accuracy": metrics.balanced_accuracy,
        "macro F1": metrics.macro_f1,
        "NLL (nats)": metrics.nll,
        "Brier score": metrics.brier,
        "ECE, 15 bins": metrics.ece,
        "bits per dimension": evaluation.bits_per_dim,
    }
    keys = {"balanced accuracy": "balanced_accuracy", "macro F1": "macro_f1"}
    intervals = {name: metrics.intervals.get(keys.get(name, name)) for name in values}
    baselines = sorted(evaluation.baselines.items(), key=lambda item: -item[1].accuracy)
    return {
        "metrics": metrics,
        "metric_values": values,
        "intervals": intervals,
        "baselines": [(text.method_name(name), result.accuracy) for name, result in baselines],
    }


def _describe_detection(detector: Detector | None) -> str:
    if detector is None:
        return "This run has no fitted out-of-distribution scores."
    score, rows = detector.default, len(detector.reference_scores(detector.default))
    return (
        f"Default score: {escape(score)} (higher = further out). Rows with a score above "
        f"{detector.threshold(score):.6g} are flagged; 5 % of {rows:,} held-out rows exceed it. Available "
        f"scores: {escape(', '.join(detector.names))}. Their power depends on the kind of "
        "out-of-distribution rows; `flowgmm ood --out FILE` measures it."
    )


def _describe_calibration(context: ReportContext) -> str:
    calibration = context.info.get("calibration")
    if not calibration:
        return ""
    description = text.describe_calibration(calibration)
    if context.evaluation:
        description += f" {text.describe_confidence(context.evaluation.classification)}"
    return description


def _list_limits(context: ReportContext) -> list[str]:
    limits = text.list_caveats(context.info, context.evaluation, context.facts)
    if context.evaluation and (weaknesses := text.describe_weaknesses(context.evaluation.classification)):
        limits.append(weaknesses)
    prior = context.facts.get("class_prior")
    if prior:
        shares = f"class frequencies between {percent(min(prior))} and {percent(max(prior))}"
        if max(prior) - min(prior) < 1e-6:
            shares = "equal class frequencies"
        limits.append(f"Probabilities assume {shares}; other frequencies shift them.")
    return limits
