"""Gates for scripts: `--fail-under METRIC=VALUE` ends a command with 7 if a metric is below a value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def parse_gates(words: Sequence[str], known: Sequence[str]) -> list[tuple[str, float]]:
    """Read the words of `--fail-under`; `known` are the metrics that it may name.

    Raises:
        UsageError: a word names no metric, or no number.
    """
    from flowgmm_cli.errors import UsageError, did_you_mean

    gates = []
    for word in words:
        name, _, value = word.partition("=")
        if name not in known:
            raise UsageError(
                f"--fail-under {word}: there is no gate on `{name}`{did_you_mean(name, known)}",
                hint=f"one of {', '.join(known)}, for example {known[0]}=0.8",
            )
        try:
            gates.append((name, float(value)))
        except ValueError:
            raise UsageError(
                f"--fail-under {word}: `{value}` is not a number", hint=f"for example {known[0]}=0.8"
            ) from None
    return gates


def hold(gates: Sequence[tuple[str, float]], metrics: Mapping[str, float | None], *, of: str = "") -> None:
    """End the command where a metric is below its gate; `of` says what the metrics are of.

    Raises:
        GateError: one is.
    """
    from flowgmm_cli.errors import GateError

    values = [(name, metrics[name] or 0.0, bound) for name, bound in gates]
    missed = [f"{name}{of} {value:.4f} is below {bound}" for name, value, bound in values if value < bound]
    if missed:
        raise GateError("gate not met", details=missed)
