"""A look at the data before hours of training: enough labels for every point, and test rows."""

from __future__ import annotations

from collections.abc import Sequence

from flowgmm_cli.api import DataContext
from flowgmm_cli.errors import DataError
from flowgmm_cli.experiments.points import Point


def check_data(points: Sequence[Point], context: DataContext) -> None:
    """Load the rows of the points with the fewest and the most labels and divide them, as training would.

    Raises:
        DataError: the data cannot be read, has too few labels for a point, or no test rows.
    """
    from flowgmm_cli.data.prepare import load_rows

    if not points:
        return
    by_labels = sorted(points, key=lambda point: point.settings.get("labels", 0) or 0, reverse=True)
    for point in (by_labels[0], by_labels[-1])[: 2 if "labels" in by_labels[0].settings else 1]:
        try:
            rows = load_rows(point.recipe.data, context)
        except DataError as error:
            raise DataError(
                f"{point.describe()}: {error.message}", details=error.details, hint=error.hint
            ) from error
        if rows.test is None:
            raise DataError(
                "there are no test rows, so there is no accuracy to compare", hint="data.split.test=0.2"
            )
