"""`MODEL_CARD.md`: what a run's model is, how good it is and how to use it, after Mitchell et al. (2019).

The layout is that of the Hugging Face Hub, whose header programs can read. Facts of the run only: what the
run cannot know, such as a licence, is left to its owner, and the card says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowgmm_cli.evaluation.evaluate import Evaluation
from flowgmm_cli.files import write_text
from flowgmm_cli.recipe.yaml import write_yaml
from flowgmm_cli.report import text as words
from flowgmm_cli.report.context import ReportContext
from flowgmm_cli.report.figures import method_name
from flowgmm_cli.report.text import count, percent

if TYPE_CHECKING:
    from flowgmm_cli.trained import TrainedModel

FILE = "MODEL_CARD.md"
_MANY = 60  # classes or columns; more are counted, not listed
_SPECIAL = re.compile(r"([\\`*_\[\]|~])")


def write_card(found: ReportContext) -> Path:
    """Write the card of a finished run into its directory. Raises `MissingError` if it has no model."""
    path = found.run.path / FILE
    write_text(path, model_card(found))
    return path


def model_card(found: ReportContext) -> str:
    """The card as Markdown. Raises `MissingError` if the run has no model."""
    trained = found.trained
    parts = [
        f"---\n{write_yaml(_header(found, trained))}---",
        f"# {plain(found.recipe.name)}",
        _opening(found, trained),
        _details(found, trained),
        _use(trained),
        _data(found),
        _training(found),
        _evaluation(found.evaluation),
        _calibration(found),
        _ood(trained),
        _limits(found),
        _how(found),
        _versions(found),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def plain(text: object) -> str:
    r"""Text as Markdown shows it word for word, on one line.

    >>> plain("a|b <script>")
    'a\\|b &lt;script&gt;'
    """
    line = " ".join("".join(one if one.isprintable() else " " for one in str(text)).split())
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _SPECIAL.sub(r"\\\1", line)


def _header(found: ReportContext, trained: TrainedModel) -> dict[str, Any]:
    kinds = {column.kind for column in trained.preprocessor.featuriser.columns}
    task = "text-classification" if kinds == {"text"} else "tabular-classification"
    if kinds == {"image"}:
        task = "image-classification"
    header: dict[str, Any] = {
        "library_name": "flowgmm-cli",
        "pipeline_tag": task,
        "tags": [
            "flowgmm",
            "normalizing-flow",
            "semi-supervised",
            "density-estimation",
            "out-of-distribution",
        ],
        "metrics": ["accuracy", "f1"],
    }
    if found.evaluation is None:
        return header
    one = found.evaluation.classification
    values = {"accuracy": one.accuracy, "f1": one.macro_f1}
    header["model-index"] = [
        {
            "name": found.recipe.name,
            "results": [
                {
                    "task": {"type": task},
                    "dataset": {
                        "name": words.source_of(found.recipe).strip("`"),
                        "type": found.recipe.data.use,
                    },
                    "metrics": [{"type": name, "value": round(value, 4)} for name, value in values.items()],
                }
            ],
        }
    ]
    return header


def _opening(found: ReportContext, trained: TrainedModel) -> str:
    rows = dict(found.info.get("rows") or {})
    members = len(trained.model.parts)
    text = words.what_was_trained(found.recipe, rows, len(trained.class_names), members)
    more = "One model classifies, scores density, generates, embeds and detects rows unlike its own."
    return f"{plain(text)} {more}"


def _details(found: ReportContext, trained: TrainedModel) -> str:
    flow = found.recipe.flow.to_dict()
    columns = trained.preprocessor.featuriser.columns
    listed = ", ".join(f"{plain(one.name)} ({one.kind})" for one in columns[:_MANY])
    rest = f" and {len(columns) - _MANY:,} more" if len(columns) > _MANY else ""
    parameters = sum(one.numel() for one in trained.model.parameters())
    settings = ", ".join(f"{key} {value}" for key, value in flow.items() if key != "use")
    return _section(
        "Model details",
        _list(
            f"Developed with flowgmm-cli {plain(_versions_of(found).get('flowgmm-cli', ''))} (FlowGMM, "
            "Izmailov et al., ICML 2020)",
            f"Flow: {plain(flow['use'])} ({plain(settings)})",
            f"Members averaged: {len(trained.model.parts)}; parameters: {parameters:,}",
            f"Latent space: {trained.preprocessor.dim} dimensions, one Gaussian or more for each class",
            f"Input columns: {listed}{rest}",
            f"Classes: {_names(trained.class_names)}",
            "Licence: not known to the run; whoever shares the model states it",
        ),
    )


def _use(trained: TrainedModel) -> str:
    return _section(
        "Intended use",
        f"For rows of the same kind as the training rows: it gives each one of {len(trained.class_names)} "
        "classes with a calibrated probability, says how unlike the training rows it is, maps it to a latent "
        "vector, and makes new rows by class.\n\n"
        "Not intended for rows with other columns or of another origin, and not as the only ground of "
        "decisions about people. It always answers with one of its classes: a row of a class it was not "
        "shown gets one of these too, and only the out-of-distribution score may tell.",
    )


def _data(found: ReportContext) -> str:
    rows = dict(found.info.get("rows") or {})
    table = _table(
        ["split", "rows", "labels used"],
        [
            ["training", f"{rows.get('train', 0):,}", f"{rows.get('labelled', 0):,}"],
            ["held out", f"{rows.get('val', 0):,}", f"{rows.get('val_labelled', 0):,}"],
            ["test", f"{rows.get('test', 0):,}", "for the evaluation alone"],
        ],
    )
    text = (
        f"Source `{plain(found.recipe.data.use)}`, {plain(words.source_of(found.recipe))}. The rows without "
        f"a label were trained on as well."
    )
    return _section("Data and labels", f"{text}\n\n{table}")


def _training(found: ReportContext) -> str:
    recipe, info = found.recipe, found.info
    regularisers = ", ".join(one.use for one in recipe.regularisers) or "none"
    overlays = [str(name) for name in info.get("overlays") or ()]
    best = info.get("best") or {}
    watched = f"; kept: epoch {best.get('epoch')} by {best['metric']}" if best.get("metric") else ""
    race = found.search
    said = f"Settings won a race judged by the labelled rows: {plain(race['reason'])}" if race else ""
    return _section(
        "Training procedure",
        _list(
            f"Overlays of the recipe: {plain(', '.join(overlays))}" if overlays else "",
            f"Objective {plain(recipe.objective.use)}, regularisers {plain(regularisers)}",
            f"{recipe.train.optimiser}, learning rate {recipe.train.lr:g}, {info.get('epochs')} epochs, "
            f"{info.get('steps')} steps{plain(watched)}",
            f"Device {plain(info.get('device'))}, precision {plain(info.get('precision'))}, seed "
            f"{info.get('seed')}, {float(info.get('seconds') or 0):.0f} seconds until the card was written",
            said,
            "Every setting is in `resolved.yaml` beside this card",
        ),
    )


def _evaluation(found: Evaluation | None) -> str:
    if found is None:
        return _section("Evaluation", "There were no labelled test rows, so nothing was measured.")
    one = found.classification

    def between(name: str) -> str:
        interval = one.intervals.get(name)
        return f"{interval.low:.4f} to {interval.high:.4f}" if interval else ""

    metrics = _table(
        ["metric", "value", "95 % interval"],
        [
            ["accuracy", f"{one.accuracy:.4f}", between("accuracy")],
            ["balanced accuracy", f"{one.balanced_accuracy:.4f}", between("balanced_accuracy")],
            ["macro F1", f"{one.macro_f1:.4f}", between("macro_f1")],
            ["NLL (nats)", f"{one.nll:.4f}", ""],
            ["Brier score", f"{one.brier:.4f}", ""],
            ["ECE, 15 bins", f"{one.ece:.4f}", ""],
            *([["bits per dimension", f"{found.bits_per_dim:.4f}", ""]] if found.bits_per_dim else []),
        ],
    )
    classes = ""
    if len(one.per_class) <= _MANY:
        classes = "\n\n" + _table(
            ["class", "precision", "recall", "F1", "test rows"],
            [
                [
                    plain(row.name),
                    f"{row.precision:.4f}",
                    f"{row.recall:.4f}",
                    f"{row.f1:.4f}",
                    f"{row.support:,}",
                ]
                for row in one.per_class
            ],
        )
    baselines = ""
    if found.baselines:
        named = ", ".join(
            f"{method_name(name)} {result.accuracy:.4f}"
            for name, result in sorted(found.baselines.items(), key=lambda item: -item[1].accuracy)
        )
        baselines = f"\n\nAccuracy of simpler methods on the same rows and labels: {named}."
    return _section("Evaluation", f"On {count(one.n, 'test row')}:\n\n{metrics}{classes}{baselines}")


def _calibration(found: ReportContext) -> str:
    calibration = found.info.get("calibration")
    if not calibration:
        return ""
    text = words.calibration_words(calibration)
    if found.evaluation:
        text += f" {words.how_sure(found.evaluation.classification)}"
    return _section("Calibration", plain(text))


def _ood(trained: TrainedModel) -> str:
    detector = getattr(trained, "detector", None)
    if detector is None:
        text = "This run has no fitted out-of-distribution scores."
    else:
        name = detector.default
        text = (
            f"Default score: {plain(name)} (higher = further out). Rows that score above "
            f"{detector.threshold(name):.6g} are flagged; on {len(detector.held_out(name)):,} held-out rows "
            f"that is 5 %. Scores there are: {plain(', '.join(detector.names))}. How well they tell rows of "
            "another kind depends on that kind; `flowgmm ood --out FILE` measures it."
        )
    return _section("Out-of-distribution detection", text)


def _limits(found: ReportContext) -> str:
    said = [plain(text) for text in words.caveats(found.info, found.evaluation, found.facts)]
    if found.evaluation and (weak := words.weak_spots(found.evaluation.classification)):
        said.append(plain(weak))
    prior = found.facts.get("class_prior")
    if prior:
        shares = f"class shares between {percent(min(prior))} and {percent(max(prior))}"
        if max(prior) - min(prior) < 1e-6:
            shares = "that all classes are equally frequent"
        said.append(f"Probabilities assume {shares}; where the classes come in other proportions they shift.")
    said.append("The intervals speak of chance in the test rows, not of rows from elsewhere or later.")
    return _section("Limits", _list(*said))


def _how(found: ReportContext) -> str:
    run = found.run.path.name
    return _section(
        "How to use",
        "With this folder (a run directory) at hand; its name is put in place of RUN:\n\n"
        "```sh\n"
        "flowgmm predict RUN --data new.csv --save predictions.csv\n"
        "flowgmm ood RUN --out unknown.csv\n"
        "flowgmm report RUN\n"
        "```\n\n"
        "```python\n"
        "from flowgmm_cli import load\n\n"
        f'model = load("{re.sub(r"[^A-Za-z0-9._-]", "_", run)}")  # or its path\n'
        "```",
    )


def _versions(found: ReportContext) -> str:
    rows = [[plain(name), plain(version)] for name, version in _versions_of(found).items()]
    packages = {
        (plain(one.get("package")), plain(one.get("version"))) for one in found.info.get("components") or ()
    }
    others = sorted(package for package in packages if package[0] != "flowgmm-cli")
    text = _table(["package", "version"], [*rows, *([name, version] for name, version in others)])
    return _section("Versions", text)


def _versions_of(found: ReportContext) -> dict[str, Any]:
    return dict(found.info.get("versions") or {})


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(plain(name) for name in names[:_MANY])
    return f"{shown} and {len(names) - _MANY:,} more" if len(names) > _MANY else shown


def _section(title: str, text: str) -> str:
    return f"## {title}\n\n{text}"


def _list(*lines: str) -> str:
    return "\n".join(f"- {line}" for line in lines if line)


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
