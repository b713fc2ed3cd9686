"""The checks of a suite: methods that pytest collects, and that `run_checks` runs without pytest."""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal
from unittest import SkipTest

from flowgmm_cli.errors import FlowgmmError

Outcome = Literal["passed", "failed", "skipped"]


class ConformanceError(AssertionError):
    """A component breaks its contract.

    Args:
        check: the name of the check.
        subject: the component, for people.
        problem: the defect, with numbers.
        fix: advice for its author.
    """

    def __init__(self, check: str, subject: str, problem: str, fix: str) -> None:
        super().__init__(f"{check}: {subject}: {problem}\n  fix: {fix}")
        self.check, self.subject, self.problem, self.fix = check, subject, problem, fix

    found = property(lambda self: self.problem, doc="The earlier name of `problem`.")


@dataclass(frozen=True)
class CheckResult:
    """The result of a check.

    Attributes:
        check: its name.
        outcome: `passed`, `failed` or `skipped`.
        problem: the defect, or the reason for skipping.
        fix: advice after a failure.
        seconds: its duration.
        description: its subject, one line.
    """

    check: str
    outcome: Outcome
    problem: str = ""
    fix: str = ""
    seconds: float = 0.0
    description: str = ""

    found = property(lambda self: self.problem, doc="The earlier name of `problem`.")
    about = property(lambda self: self.description, doc="The earlier name of `description`.")

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        keys = {"problem": "found", "description": "about"}
        values = {keys.get(name, name): value for name, value in asdict(self).items()}
        return values | {"seconds": round(self.seconds, 3)}


class Suite:
    """Base of all suites.

    A check with a parameter, such as `shape`, runs for each item of `self.shapes()`, or of the attribute
    `shapes`; for pytest each is a test of its own.

    Attributes:
        skip: check -> reason why it does not apply to this component.
    """

    skip: ClassVar[Mapping[str, str]] = {}

    @property
    def subject(self) -> str:
        """The component, for people."""
        return type(self).__name__

    def case_name(self, case: Any) -> str:
        """Name a value of a check's parameter, for people."""
        return str(case)

    def pytest_generate_tests(self, metafunc: Any) -> None:
        """Make a test of each value of the check's parameter; pytest calls this."""
        if parameter := vars(metafunc.function).get("parameter"):
            metafunc.parametrize(parameter, self._cases(parameter), ids=self.case_name)

    def _cases(self, parameter: str) -> list[Any]:
        cases: Any = getattr(self, f"{parameter}s")
        return list(cases() if callable(cases) else cases)


Method = Callable[..., None]


def check(fix: str) -> Callable[[Method], Method]:
    """Make a method a check: any exception becomes a `ConformanceError` with this advice.

    The method's name begins with `test_`; its docstring says in one line what must hold. It has at most one
    parameter; see `Suite`. Called without it, the check runs for all its values. A check in the suite's
    `skip` is skipped with the reason given there.
    """

    def decorate(method: Method) -> Method:
        name = method.__name__
        parameter = next(iter(list(inspect.signature(method).parameters)[1:]), None)

        @functools.wraps(method)
        def run(self: Suite, **case: Any) -> None:
            if name in self.skip:
                raise SkipTest(self.skip[name])
            every = [{parameter: value} for value in self._cases(parameter)] if parameter else [{}]
            for values in [case] if case else every:
                try:
                    method(self, **values)
                except (ConformanceError, SkipTest):
                    raise
                except (Exception, SystemExit) as error:
                    where = "".join(f"{self.case_name(value)}: " for value in values.values())
                    problem = where + describe_error(error)
                    cause = None if isinstance(error, AssertionError) else error
                    raise ConformanceError(name, self.subject, problem, fix) from cause

        vars(run)["parameter"] = parameter
        return run

    return decorate


def expect(condition: object, problem: str) -> None:
    """Raise an `AssertionError` with this message unless the condition holds."""
    if not condition:
        raise AssertionError(problem)


def describe_error(error: BaseException) -> str:
    """Describe an error in one line."""
    if isinstance(error, FlowgmmError):
        return "; ".join([error.message, *(detail.strip() for detail in error.details)])
    text = f"{type(error).__name__}: {error}".rstrip(": ")
    return str(error) if isinstance(error, AssertionError) and str(error) else text


def check_names(suite: type[Any]) -> list[str]:
    """List the checks of a suite: those of its bases first, each in the order of its definition."""
    names = dict.fromkeys(name for base in reversed(suite.__mro__) for name in vars(base))
    return [name for name in names if name.startswith("test_") and callable(getattr(suite, name, None))]


def run_checks(suite: type[Any]) -> Iterator[CheckResult]:
    """Run all checks of a suite without pytest; yield the result of each as soon as it is known."""
    instance = suite()
    for name in check_names(suite):
        description = (getattr(suite, name).__doc__ or "").strip().split("\n")[0].rstrip(".")
        start = time.perf_counter()
        outcome, problem, fix = _run(getattr(instance, name))
        yield CheckResult(name, outcome, problem, fix, time.perf_counter() - start, description)


def _run(method: Callable[[], None]) -> tuple[Outcome, str, str]:
    try:
        method()
    except SkipTest as skipped:
        return "skipped", str(skipped), ""
    except ConformanceError as error:
        return "failed", error.problem, error.fix
    except (Exception, SystemExit) as error:  # a check of the author's own, without the decorator
        return "failed", describe_error(error), ""
    return "passed", "", ""
