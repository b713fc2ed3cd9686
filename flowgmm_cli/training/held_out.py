"""What a recipe wants measured on held-out rows must be there; better said before training than after."""

from __future__ import annotations

from flowgmm_cli.data.prepare import SplitRows
from flowgmm_cli.errors import RecipeError
from flowgmm_cli.recipe.schema import Recipe


def require_held_out(recipe: Recipe, rows: SplitRows) -> None:
    """Check that the rows and labels the recipe watches, stops by or calibrates on are held out.

    Raises:
        RecipeError: they are not; all settings that need them are named.
    """
    held_out = rows.val is not None
    labelled = rows.val is not None and bool((rows.val.labels >= 0).any())
    metric, calibration = recipe.checkpoint.best.metric, recipe.calibration
    problems = []
    if metric.startswith("val.") and not labelled:
        problems.append(f"checkpoint.best.metric  {metric} needs held-out rows with labels")
    elif metric != "auto" and not held_out:
        problems.append(f"checkpoint.best.metric  {metric} needs held-out rows")
    if recipe.train.early_stopping is not None and not held_out:
        problems.append("train.early_stopping  needs held-out rows")
    if calibration.method != "none" and calibration.on == "val" and not labelled:
        problems.append("calibration.on  val needs held-out rows with labels")
    if problems:
        has = "held-out rows, but may not see their labels" if held_out else "no held-out rows"
        raise RecipeError(
            f"this run has {has}",
            details=problems,
            hint="data.split.val_labels=true lets their labels be used; metric: auto and on: auto need none"
            if held_out
            else "data.split.val=0.1 holds out a tenth of the training rows",
        )
