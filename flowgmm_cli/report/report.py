"""The report of a run: one HTML file, with its figures as PNG files beside it, and the plots of eval."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowgmm_cli.api import DataContext
from flowgmm_cli.errors import FlowgmmError
from flowgmm_cli.evaluation.metrics import Evaluation
from flowgmm_cli.files import write_bytes, write_text
from flowgmm_cli.inference.evaluate_run import load_model_and_rows, select_split
from flowgmm_cli.report import (
    baselines,
    galleries,
    guarantees,
    labels,
    latent,
    learning_curves,
    ood,
    predictions,
    reasons,
    samples,
    tables,
    unknown,
)
from flowgmm_cli.report.context import ReportContext, UnavailableError
from flowgmm_cli.report.figures import png
from flowgmm_cli.report.page import Part, Plot, Section, render
from flowgmm_cli.runs import Run

SCHEMA = "flowgmm/report/1"
BuildSection = Callable[[ReportContext], Iterable[Part]]

SECTIONS: tuple[tuple[str, str, BuildSection], ...] = (
    ("summary", "Summary", tables.summary_section),
    ("data", "Data and labels", tables.data_section),
    ("curves", "Learning curves", learning_curves.curves_section),
    ("classes", "Class by class", tables.classes_section),
    ("confusion", "Confusion", predictions.confusion_section),
    ("reliability", "Reliability", predictions.reliability_section),
    ("guarantees", "Doubtful rows", guarantees.guarantees_section),
    ("labels", "Labels that look wrong", labels.labels_section),
    ("latent", "Latent space", latent.latent_section),
    ("samples", "Samples", samples.samples_section),
    ("gallery", "Typical and odd rows", galleries.gallery_section),
    ("reasons", "Reasons", reasons.reasons_section),
    ("unknown", "Rows of unknown kinds", unknown.unknown_section),
    ("ood", "Out-of-distribution scores", ood.ood_section),
    ("baselines", "Simpler methods", baselines.baselines_section),
    ("race", "Search over settings", tables.search_section),
    ("calibration", "Calibration and class prior", predictions.calibration_section),
    ("settings", "Settings", tables.settings_section),
    ("versions", "Versions and provenance", tables.versions_section),
)


@dataclass(frozen=True)
class Report:
    """The files of a report."""

    path: Path
    sections: tuple[Section, ...]  # all of them, unavailable ones included
    figures: dict[str, Path]  # PNG files by name
    warnings: list[dict[str, Any]]  # that the page shows

    def to_dict(self, run: str) -> dict[str, Any]:
        """Return the JSON object of `flowgmm report --json`."""
        sections = [
            {"id": item.id, "title": item.title, "made": not item.reason, "reason": item.reason or None}
            for item in self.sections
        ]
        figures = {name: str(path) for name, path in self.figures.items()}
        return {
            "schema": SCHEMA,
            "run": run,
            "report": str(self.path),
            "sections": sections,
            "figures": figures,
            "warnings": self.warnings,
        }


def write_report(
    context: ReportContext,
    path: Path,
    *,
    progress: Callable[[int, int, str], None] = lambda done, total, what: None,
) -> Report:
    """Build every section and write the page; its figures go into a folder beside it with the page's name.

    `progress` is called before each section and at the end.

    Raises:
        OSError: the files cannot be written.
        RunError: the run is damaged.
    """
    title = f"{context.recipe.name}: report"
    subtitle = f"{context.run.path} · {context.status} · {str(context.info.get('created', ''))[:10]}"
    sections = []
    for index, (key, heading, build) in enumerate(SECTIONS):
        progress(index, len(SECTIONS), "report")
        sections.append(build_section(key, heading, build, context))
    progress(len(SECTIONS), len(SECTIONS), "report")
    figures = {}
    plots = [part for section in sections for part in section.parts if isinstance(part, Plot)]
    with ExitStack() as undo:  # a page that cannot be written leaves no new figures
        for part in plots:
            file = figures[part.name] = path.parent / path.stem / f"{part.name}.png"
            if not file.exists():
                undo.callback(_remove, file)
            write_bytes(file, part.png)
        write_text(path, render(title=title, subtitle=subtitle, sections=sections))
        undo.pop_all()
    return Report(path, tuple(sections), figures, context.list_warnings())


def _remove(file: Path) -> None:
    with suppress(OSError):
        file.unlink(missing_ok=True)
        file.parent.rmdir()


def build_section(key: str, title: str, build: BuildSection, context: ReportContext) -> Section:
    """Build a section. A failure makes this section unavailable and leaves the others as they are."""
    try:
        return Section(key, title, tuple(build(context)))
    except UnavailableError as error:
        reason = error.message
    except FlowgmmError as error:
        reason = f"This section cannot be made: {error.message}"
    except Exception as error:  # files of a run may be damaged in more ways than can be foreseen
        context.warn(f"report: the section {title} cannot be made ({type(error).__name__}: {error})")
        text = next(iter(str(error).strip().splitlines()), "")
        reason = f"This section cannot be made ({type(error).__name__}: {text})."
    return Section(key, title, reason=reason)


def write_plots(run: Run, evaluation: Evaluation, *, context: DataContext) -> list[Path]:
    """Draw the evaluation of a split of a run into `eval/<split>-<figure>.png`; return the files.

    Raises:
        DataError: the data cannot be read any more.
    """
    trained, rows = load_model_and_rows(run, context)
    figures = {
        "reliability": predictions.reliability_figure(evaluation.classification),
        "confusion": predictions.confusion_figure(evaluation.classification),
    }
    if trained.preprocessor.dim >= 2:
        members = len(trained.model.parts)
        title = "Latent space" if members == 1 else f"Latent space of the first of {members} members"
        held_out = trained.preprocessor.apply(select_split(rows, evaluation.split), context)
        latents = latent.latent_rows(trained, trained.encode_rows(held_out), held_out.labels.numpy())
        figures["latent"] = latent.latent_figure(latents, title=title)
    plane = latent.predict_plane(trained, rows.train)
    if plane is not None:
        figures["regions"] = latent.regions_figure(plane)
    paths = {name: run.path / "eval" / f"{evaluation.split}-{name}.png" for name in figures}
    for name, figure in figures.items():
        write_bytes(paths[name], png(figure))
    return list(paths.values())
