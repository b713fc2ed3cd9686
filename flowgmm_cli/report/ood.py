"""The section on out-of-distribution scores: rows that belong against rows that do not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from flowgmm_cli.data.preprocessor import Split
from flowgmm_cli.errors import FlowgmmError
from flowgmm_cli.evaluation.detection import auroc, detection_metrics
from flowgmm_cli.files import read_json
from flowgmm_cli.inference.gallery import positions_by_quantile
from flowgmm_cli.inference.sampling import image_column
from flowgmm_cli.report.context import ReportContext, UnavailableError, error_text
from flowgmm_cli.report.galleries import EACH, score_figure
from flowgmm_cli.report.histogram import histogram_figure
from flowgmm_cli.report.page import Part, Prose, Table, picture
from flowgmm_cli.report.text import count, percent
from flowgmm_cli.scores.detector import Detector
from flowgmm_cli.seeds import derive_seed

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

_ROWS = 5000  # of a side: enough for a histogram
_FEW = 200  # rows below which a threshold of 5 % is uncertain by several points
_STORED = 6  # earlier comparisons that are shown


def ood(found: ReportContext) -> list[Part]:
    """Histograms of the default score, a table of all scores, and what `flowgmm ood` found before."""
    trained = found.trained
    detector = trained.detector
    if detector is None:
        raise UnavailableError(
            "This run has no out-of-distribution scores: it was trained by an older version. Train again to "
            "have them."
        )
    facts = dict(found.facts.get("ood") or {})
    fpr = float(facts.get("fpr", 0.05))
    parts: list[Part] = [Prose(_what(detector, fpr, facts))]
    try:
        parts += _compared(found, detector, fpr)
    except UnavailableError as reason:
        parts.append(Prose(f"There is no histogram. {reason}", "note"))
    except FlowgmmError as error:
        parts.append(Prose(f"There is no histogram: {error_text(error)}.", "note"))
    return [*parts, *_choice(facts), *_stored(found)]


def _what(detector: Detector, fpr: float, facts: Mapping[str, Any]) -> str:
    where = "held-out rows" if facts.get("held_out", "val") == "val" else "training rows"
    limit, rows = detector.threshold(detector.default, fpr), len(detector.held_out(detector.default))
    text = (
        "Every row gets a score of how far out it is; higher is further out. The run's default is "
        f"`{detector.default}`. Rows above {limit:.4g} are flagged: of the {rows:,} {where} from which this "
        f"threshold comes, {percent(fpr, 0)} lie above it, so about as many ordinary rows will be flagged by "
        "mistake."
    )
    return text if rows >= _FEW else f"{text} With so few rows that is a rough figure."


def _compared(found: ReportContext, detector: Detector, fpr: float) -> list[Part]:
    """In-distribution rows against `--out`, or against stand-ins made of themselves."""
    trained, held = found.trained, found.held
    rng = np.random.default_rng(derive_seed(trained.recipe.run.seed, "report"))
    split = _some(held.split, rng)
    if found.out is not None:
        outside, name = _some(found.read(found.out), rng), f"rows of {found.out}"
        about = f"The other rows are those of {found.out}. "
    else:
        outside, name = stand_ins(split, rng), "shuffled rows"
        about = (
            "The other rows are stand-ins: ordinary rows with half of their features taken from other rows, "
            "so that each feature is ordinary and their combination is not. Real rows of another kind may be "
            "easier or harder to tell; `flowgmm report --out FILE` shows yours. "
        )
    inside_scores = detector(trained.encode_rows(split))
    pixels = outside.inputs is not None or trained.image is None
    names = list(inside_scores) if pixels else [one for one in inside_scores if not _reads_pixels(found, one)]
    outside_scores = detector(trained.encode_rows(outside), names)
    score = detector.default if detector.default in outside_scores else names[0]
    inside_values, outside_values = inside_scores[score], outside_scores[score]
    figure = histogram_figure(
        inside_values,
        outside_values,
        threshold=detector.threshold(score, fpr),
        score=score,
        name_in=held.name,
        name_out=name,
        auroc=auroc(inside_values, outside_values),
    )
    caption = (
        f"How far out rows are: ordinary ones ({held.name}) and others. {about}What lies to the right of the "
        "dashed line is flagged. The less the two overlap, the better they are told apart: AUROC is the "
        "chance that one of the others scores higher than an ordinary row (0.5: no better than chance, 1: "
        "always)."
    )
    parts: list[Part] = [picture(figure, name="ood", caption=caption)]
    measured = {one: detection_metrics(inside_scores[one], outside_scores[one]) for one in names}
    names.sort(key=lambda one: -measured[one].auroc)
    rows = []
    for one in names:
        flagged = float((outside_scores[one] > detector.threshold(one, fpr)).mean())
        values = (measured[one].auroc, measured[one].aupr_in, measured[one].aupr_out, measured[one].fpr95)
        rows.append([one, *(f"{value:.3f}" for value in values), percent(flagged)])
    columns = ["score", "AUROC", "AUPR-in", "AUPR-out", "FPR95", "others flagged"]
    said = (
        f"The same for every score of the run, on {count(len(split), 'ordinary row')} and "
        f"{count(len(outside), 'other row')}. FPR95: share of ordinary rows flagged where 95 % of the others "
        "are."
    )
    parts.append(Table(columns, rows, said, right=columns[1:], strong=[names.index(score)]))
    limit = detector.threshold(score, fpr)
    return [*parts, *_pictures(found, (split, inside_values), (outside, outside_values), score, limit)]


def _pictures(
    found: ReportContext,
    inside: tuple[Split, Floats],
    outside: tuple[Split, Floats],
    score: str,
    threshold: float,
) -> list[Part]:
    """Images by score, where rows are images: of the other rows, if they have pixels, and ordinary ones."""
    column = image_column(found.trained.preprocessor.featuriser.columns)
    if column is None or inside[0].inputs is None:
        return []
    top = np.argsort(-inside[1], kind="stable")[:EACH]
    ordinary = _images(found, inside[0], top), inside[1][top]
    others = None
    if outside[0].inputs is not None:
        places = np.concatenate(positions_by_quantile(outside[1], EACH))
        others = _images(found, outside[0], places), outside[1][places]
    figure = score_figure(
        others,
        ordinary,
        limits=found.trained.preprocessor.featuriser.ranges.get(column.name),
        threshold=threshold,
        score=score,
        name=str(found.out) if others is not None else "",
    )
    caption = (
        "Images by score, from the least to the furthest out, and the ordinary images that lie furthest out; "
        "flagged ones are framed. `flowgmm ood --out FILE --gallery g.png` shows those of other files."
    )
    return [picture(figure, name="ood-images", caption=caption)]


def _images(found: ReportContext, split: Split, places: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    inputs = None if split.inputs is None else split.inputs[torch.from_numpy(places)]
    images = None if inputs is None else found.trained.preprocessor.images(inputs)
    if images is None:
        raise ValueError("not rows of images")
    return images.numpy()


def stand_ins(split: Split, rng: np.random.Generator) -> Split:
    """Rows with half of their features from other rows; they have no pixels and no labels."""
    size = tuple(split.x.shape)
    others = torch.from_numpy(rng.integers(size[0], size=size))
    swapped = torch.from_numpy(rng.random(size) < 0.5)
    x = torch.where(swapped, split.x.gather(0, others), split.x)
    return replace(split, x=x, labels=torch.full_like(split.labels, -1), inputs=None)


def _some(split: Split, rng: np.random.Generator) -> Split:
    if len(split) <= _ROWS:
        return split
    index = np.sort(rng.choice(len(split), _ROWS, replace=False))
    places = torch.from_numpy(index)
    return Split(
        split.x[places],
        split.log_det[places],
        split.labels[places],
        split.ids[index],
        None if split.inputs is None else split.inputs[places],
    )


def _reads_pixels(found: ReportContext, name: str) -> bool:
    from flowgmm_cli.recipe.schema import score_names
    from flowgmm_cli.scores.detector import reads_images

    components = found.trained.recipe.ood.scores
    named = dict(zip(score_names(components), components, strict=True))
    return name in named and reads_images(named[name])


def _choice(facts: Mapping[str, Any]) -> list[Part]:
    """Why the default score is the default."""
    table = facts.get("choice") or {}
    kinds = list(dict.fromkeys(kind for values in table.values() for kind in values))
    if not kinds:
        return []
    rows = [
        [name, *(f"{values[kind]:.3f}" if kind in values else None for kind in kinds)]
        for name, values in table.items()
    ]
    caption = (
        "How the default was chosen, without any foreign rows: AUROC of each score against stand-ins made of "
        "the run's own rows while training, by kind of stand-in."
    )
    strong = [place for place, row in enumerate(rows) if row[0] == facts.get("default")]
    folded = "how the default was chosen"
    return [Table(["score", *kinds], rows, caption, right=kinds, strong=strong, folded=folded)]


def _stored(found: ReportContext) -> list[Part]:
    """Comparisons that `flowgmm ood` has left in the run, the newest first."""
    files = sorted((found.run.path / "ood").glob("*.json"), key=lambda file: -file.stat().st_mtime)
    parts: list[Part] = []
    rows = []
    for place, file in enumerate(files[:_STORED]):
        try:
            value = read_json(file, "comparison")
            score = str(value["score"])
            metrics = value["scores"][score]
            between = metrics["intervals"]["auroc"]
            rows.append(
                [
                    value["in"],
                    value["out"],
                    f"{value['n_in']:,}",
                    f"{value['n_out']:,}",
                    score,
                    f"{metrics['auroc']:.3f}",
                    f"{between['low']:.3f} to {between['high']:.3f}",
                    percent(value["flagged_fraction"]),
                ]
            )
            if place == 0:
                figure = histogram_figure(
                    value["sample"]["in"],
                    value["sample"]["out"],
                    threshold=float(value["threshold"]),
                    score=score,
                    name_in=str(value["in"]),
                    name_out=str(value["out"]),
                    auroc=float(metrics["auroc"]),
                )
                caption = (
                    f"The last comparison made with `flowgmm ood`: {value['in']} against {value['out']}."
                )
                parts.append(picture(figure, name="ood-last", caption=caption))
        except (FlowgmmError, LookupError, TypeError, ValueError):
            continue  # another program's file, or an older version's
    if rows:
        columns = ["in", "out", "rows in", "rows out", "score", "AUROC", "95 % interval", "flagged"]
        said = "Comparisons made with `flowgmm ood --in X --out Y`."
        parts.append(Table(columns, rows, said, right=[columns[2], columns[3], *columns[5:]]))
    return parts
