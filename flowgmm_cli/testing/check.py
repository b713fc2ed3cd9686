"""What a check is: a method that pytest collects, and that can be carried out without pytest."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar
from unittest import SkipTest

from flowgmm_cli.errors import FlowgmmError


class ConformanceError(AssertionError):
    """A component breaks its contract.

    Args:
        check: the name of the check.
        subject: the component, for people.
        found: what is wrong, with numbers.
        fix: what to do about it.
    """

    def __init__(self, check: str, subject: str, found: str, fix: str) -> None:
        super().__init__(f"{check}: {subject}: {found}\n  fix: {fix}")
        self.check = check
        self.subject = subject
        self.found = found
        self.fix = fix


class Finding(Exception):  # noqa: N818 - what a check says; `check` makes a ConformanceError of it
    """What is wrong, said by a helper that does not know in which check it is used."""


@dataclass(frozen=True)
class CheckResult:
    """How a check went.

    Attributes:
        check: its name.
        outcome: `passed`, `failed` or `skipped`.
        found: what is wrong, or why it was skipped.
        fix: what to do about a failure.
        seconds: how long it took.
        about: what it checks, one line.
    """

    check: str
    outcome: Literal["passed", "failed", "skipped"]
    found: str = ""
    fix: str = ""
    seconds: float = 0.0
    about: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "check": self.check,
            "outcome": self.outcome,
            "found": self.found,
            "fix": self.fix,
            "seconds": round(self.seconds, 3),
            "about": self.about,
        }


class Suite(Protocol):
    """What `check` needs of the class around it."""

    @property
    def skip(self) -> Mapping[str, str]:
        """Check -> why it does not apply."""
        ...

    @property
    def subject(self) -> str:
        """What is being checked."""
        ...


S = TypeVar("S", bound=Suite)


def check(fix: str) -> Callable[[Callable[[S], None]], Callable[[S], None]]:
    """Make a method a check: whatever it raises becomes a `ConformanceError` with this advice.

    The method's name begins with `test_`; its docstring says in one line what is checked. A check in the
    suite's `skip` is skipped with the reason given there.
    """

    def decorate(method: Callable[[S], None]) -> Callable[[S], None]:
        name = method.__name__

        @functools.wraps(method)
        def run(self: S) -> None:
            if name in self.skip:
                raise SkipTest(self.skip[name])
            try:
                method(self)
            except (ConformanceError, SkipTest):
                raise
            except Finding as finding:
                raise ConformanceError(name, self.subject, str(finding), fix) from None
            except (Exception, SystemExit) as error:
                raise ConformanceError(name, self.subject, described(error), fix) from error

        return run

    return decorate


def expect(condition: object, found: str) -> None:
    """Raise a `Finding` unless the condition holds."""
    if not condition:
        raise Finding(found)


def described(error: BaseException) -> str:
    """An error in one line or, with details, a few."""
    if isinstance(error, FlowgmmError):
        return "; ".join([error.message, *(detail.strip() for detail in error.details)])
    return f"{type(error).__name__}: {error}".rstrip(": ")


def check_names(suite: type[Any]) -> list[str]:
    """The names of a suite's checks: those of its bases first, each in the order of its definition."""
    names = dict.fromkeys(
        name for base in reversed(suite.__mro__) for name in vars(base) if name.startswith("test_")
    )
    return [name for name in names if callable(getattr(suite, name, None))]


def run_checks(suite: type[Any]) -> Iterator[CheckResult]:
    """Carry out all checks of a suite, one after the other, without pytest.

    Yields:
        The result of each, as soon as it is known.
    """
    instance = suite()
    for name in check_names(suite):
        about = (getattr(suite, name).__doc__ or "").strip().split("\n")[0].rstrip(".")
        start = time.perf_counter()
        outcome: Literal["passed", "failed", "skipped"] = "passed"
        found = fix = ""
        try:
            getattr(instance, name)()
        except SkipTest as skipped:
            outcome, found = "skipped", str(skipped)
        except ConformanceError as error:
            outcome, found, fix = "failed", error.found, error.fix
        except (Exception, SystemExit) as error:  # a check of the author's own, without the decorator
            outcome, found = "failed", described(error)
        yield CheckResult(name, outcome, found, fix, time.perf_counter() - start, about)
