"""Numbers as people write them; nothing is imported."""

from __future__ import annotations


def pluralise(number: int, noun: str) -> str:
    """Format a number with its noun.

    >>> pluralise(1, "row"), pluralise(1200, "row"), pluralise(2, "class")
    ('1 row', '1,200 rows', '2 classes')
    """
    plural = noun if number == 1 else f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{number:,} {plural}"


def format_number(value: float, digits: int = 1) -> str:
    """Format a number with at most some digits after the point.

    >>> format_number(57.142857142857146), format_number(100.0), format_number(12000)
    ('57.1', '100', '12,000')
    """
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def format_optional(value: float | None, form: str = ".4f") -> str:
    """Format a number by a format specification; `-` stands for None.

    >>> format_optional(0.5), format_optional(None)
    ('0.5000', '-')
    """
    return "-" if value is None else format(value, form)


def format_duration(seconds: float) -> str:
    """Format a duration in the two largest units that it has.

    >>> format_duration(4.24), format_duration(59.96), format_duration(452), format_duration(7320)
    ('4.2 s', '1 min', '7 min 32 s', '2 h 2 min')
    """
    if seconds < 10:
        return f"{format_number(seconds)} s"
    whole = round(seconds)
    for size, unit, smaller, small_unit in ((3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size:,} {unit}" + (f" {rest} {small_unit}" if rest else "")
    return f"{whole} s"


def format_size(size: int) -> str:
    """Format a number of bytes.

    >>> format_size(512), format_size(3_400_000)
    ('512 B', '3.4 MB')
    """
    for power, unit in ((9, "GB"), (6, "MB"), (3, "kB")):
        if size >= 10**power:
            return f"{format_number(size / 10**power)} {unit}"
    return f"{size} B"


def format_time_left(seconds: float) -> str:
    """Format an estimate of the time left, as roughly as it is known.

    >>> format_time_left(3), format_time_left(44), format_time_left(170), format_time_left(9000)
    ('less than 10 s left', 'about 40 s left', 'about 3 min left', 'about 2.5 h left')
    """
    if seconds < 10:
        return "less than 10 s left"
    if seconds < 95:
        return f"about {round(seconds, -1):.0f} s left"
    if seconds < 5400:
        return f"about {seconds / 60:.0f} min left"
    return f"about {format_number(seconds / 3600)} h left"


def method_name(method: str) -> str:
    """Return the name of a baseline for people."""
    return {"knn": "kNN", "mlp": "MLP", "lda": "LDA", "svm": "SVM"}.get(method, method.replace("_", " "))
