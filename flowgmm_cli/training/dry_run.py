"""Everything a run does up to its first step, keeping nothing: does it fit together?"""

from __future__ import annotations

import torch

from flowgmm_cli.api import DataContext
from flowgmm_cli.recipe.schema import Recipe
from flowgmm_cli.seeds import generator
from flowgmm_cli.training.engine import make_engine
from flowgmm_cli.training.fitting import Fitting, Talk
from flowgmm_cli.training.guard import explain
from flowgmm_cli.training.inputs import prepare
from flowgmm_cli.training.interrupt import Interrupt
from flowgmm_cli.training.optim import make_teacher
from flowgmm_cli.training.random_layers import seeded_layers
from flowgmm_cli.training.step import StepInput
from flowgmm_cli.training.viewing import Forms


def dry_run(recipe: Recipe, *, context: DataContext, talk: Talk) -> dict[str, float]:
    """Read the data, build the model and compute one step with its gradients.

    Returns:
        The loss terms at the start of training.

    Raises:
        RunFailedError: a loss or gradient is not finite.
    """
    data = prepare(recipe, context)
    for line in (*data.rows.notes, *data.preprocessor.notes, *data.describe()):
        talk.note(line)
    engine = make_engine(
        device=recipe.run.device, precision=recipe.train.precision, features=data.preprocessor.dim
    )
    talk.note(f"device  {engine.describe()}")
    fitting = Fitting(recipe, data, engine, talk, Interrupt())
    for line in fitting.short_of_ramps():
        talk.note(line)
    step = fitting.start(data.train.labels)
    teacher = make_teacher(step.model)
    forms = Forms.of(data.train)
    seen = (data.train.labels >= 0).nonzero().flatten()[: recipe.train.labelled_batch_size]
    rows = StepInput(
        labelled=forms[seen].to(engine.device),
        labels=data.train.labels[seen].to(engine.device),
        unlabelled=forms[: recipe.train.batch_size].to(engine.device),
        step=0,
        epoch=0.0,
    )

    def randomness() -> torch.Generator:
        return generator(recipe.run.seed, "step", device=engine.device)

    with engine.autocast(), seeded_layers(randomness()):
        terms = step(teacher, rows, randomness())
    loss = torch.stack(list(terms.values())).sum()
    torch.autograd.backward(loss)
    gradients = [p.grad for p in step.model.parameters() if p.grad is not None]
    if not all(bool(value.isfinite().all()) for value in (loss, *gradients)):
        raise explain(step, teacher, rows, randomness())
    return {name: value.item() for name, value in terms.items()}
