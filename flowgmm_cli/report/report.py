"""The report of a run: one HTML file that needs nothing else, and its figures as PNG files beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flowgmm_cli import __version__
from flowgmm_cli.errors import FlowgmmError
from flowgmm_cli.files import write_bytes, write_text
from flowgmm_cli.report import galleries, learning_curves, ood, provenance, results, rows, samples
from flowgmm_cli.report.context import ReportContext, UnavailableError
from flowgmm_cli.report.page import Part, Section, render

SCHEMA = "flowgmm/report/1"
Make = Callable[[ReportContext], Sequence[Part]]

SECTIONS: tuple[tuple[str, str, Make], ...] = (
    ("summary", "Summary", results.summary),
    ("data", "Data and labels", rows.data),
    ("curves", "Learning curves", learning_curves.curves),
    ("classes", "Class by class", results.classes),
    ("confusion", "Confusion", results.confusion),
    ("reliability", "Reliability", results.reliability),
    ("latent", "Latent space", rows.latent),
    ("samples", "Samples", samples.samples),
    ("gallery", "Typical and odd rows", galleries.gallery),
    ("ood", "Out-of-distribution scores", ood.ood),
    ("baselines", "Simpler methods", results.baselines),
    ("race", "Race of settings", learning_curves.race),
    ("calibration", "Calibration and class prior", learning_curves.calibration),
    ("settings", "Settings", provenance.settings),
    ("versions", "Versions and provenance", provenance.versions),
)


@dataclass(frozen=True)
class Report:
    """What was written.

    Attributes:
        path: the page.
        sections: all of them, those that could not be made included.
        figures: PNG files by name.
    """

    path: Path
    sections: tuple[Section, ...]
    figures: dict[str, Path]

    def to_dict(self, run: str) -> dict[str, Any]:
        """The JSON object of `flowgmm report --json`."""
        return {
            "schema": SCHEMA,
            "run": run,
            "report": str(self.path),
            "sections": [
                {"id": one.id, "title": one.title, "made": not one.missing, "reason": one.missing or None}
                for one in self.sections
            ],
            "figures": {name: str(path) for name, path in self.figures.items()},
        }


def write_report(
    found: ReportContext,
    path: Path,
    *,
    progress: Callable[[int, int, str], None] = lambda done, total, what: None,
) -> Report:
    """Make every section and write the page; the figures go into a folder beside it with the page's name.

    A section that cannot be made says why and takes nothing else down.

    Args:
        found: what the run has.
        path: the HTML file.
        progress: told of each section.

    Raises:
        OSError: the files cannot be written.
    """
    sections = []
    for place, (key, title, make) in enumerate(SECTIONS):
        progress(place, len(SECTIONS), "report")
        sections.append(make_section(key, title, make, found))
    progress(len(SECTIONS), len(SECTIONS), "report")
    text = render(
        title=f"{found.recipe.name}: report",
        subtitle=f"{found.run.path} · {found.status} · {str(found.info.get('created', ''))[:10]}",
        sections=sections,
        footer=f"Made by flowgmm {__version__} on {datetime.now(UTC):%Y-%m-%d %H:%M} UTC. This file needs "
        "nothing but itself.",
    )
    figures = {}
    for section in sections:
        for one in section.pictures:
            figures[one.name] = path.parent / path.stem / f"{one.name}.png"
            write_bytes(figures[one.name], one.png)
    write_text(path, text)
    return Report(path, tuple(sections), figures)


def make_section(key: str, title: str, make: Make, found: ReportContext) -> Section:
    """One section, or why there is none."""
    try:
        return Section(key, title, tuple(make(found)))
    except UnavailableError as reason:
        return Section(key, title, missing=str(reason))
    except FlowgmmError as error:
        return Section(key, title, missing=f"This section cannot be made: {error.message}")
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        OSError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        # files of a run may be damaged in more ways than can be foreseen; the other sections are still good
        found.warn(f"report: the section {title} cannot be made ({type(error).__name__}: {error})")
        text = next(iter(str(error).strip().splitlines()), "")
        return Section(key, title, missing=f"This section cannot be made ({type(error).__name__}: {text}).")
