"""Profile a table, and write a starter recipe for it: commented, valid, and ready to train.

The sections on model and training are those of the bundled recipes `csv` and `text`, including comments; the
`data` section comes from the profile of the table, with the reason of each choice.
"""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from flowgmm_cli.api import SplitConfig
from flowgmm_cli.data.column_analysis import LEAK, ColumnProfile, Role, leaks_label, profile_column
from flowgmm_cli.data.readers.table import ReadSettings, Table
from flowgmm_cli.data.sources.columns import MISSING_WORDS, strings
from flowgmm_cli.data.sources.columns import texts as join_texts
from flowgmm_cli.data.specs import DATE_PARTS
from flowgmm_cli.errors import RecipeError
from flowgmm_cli.messages import join_some
from flowgmm_cli.recipe.catalogue import recipe_folder
from flowgmm_cli.recipe.yaml import read_scalar

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:[ .-][A-Za-z0-9_]+)*")
_REFERENCE = re.compile(r"\$(\{[^{}]*\})")  # a second `$` makes it plain text
_NUMBER_FORMS = (
    (re.compile(r"[+-]?([1-9]\d{0,2}(,\d{3})*|\d+)(\.\d*)?"), ".", ","),
    (re.compile(r"[+-]?\d+(,\d*)?"), ",", None),
    (re.compile(r"[+-]?([1-9]\d{0,2}(\.\d{3})*|\d+)(,\d*)?"), ",", "."),
)  # of cells, with data.decimal and data.thousands
_LINE_WIDTH = 100
_MIN_LABELLED, _MIN_LABELLED_OF_CLASS = 100, 5
_MAX_LISTED = 12  # class names
_UNEQUAL = 3  # labels of the largest class for each of the smallest


@dataclass(frozen=True)
class Profile:
    """A table.

    Attributes:
        rows: number of rows.
        label: the label column.
        classes: number of rows of each class, by name.
        columns: all columns.
        english: True if the texts look English, None without texts.
        settings: encoding of its file and form of its numbers.
        without_text: number of rows whose texts are empty.
    """

    rows: int
    label: str
    classes: Mapping[str, int]
    columns: tuple[ColumnProfile, ...]
    english: bool | None = None
    settings: ReadSettings = field(default_factory=ReadSettings)
    without_text: int = 0

    @property
    def labelled(self) -> int:
        """Number of labelled rows."""
        return sum(self.classes.values())

    def with_role(self, *roles: Role) -> list[ColumnProfile]:
        """Return the columns of some roles."""
        return [column for column in self.columns if column.role in roles]


def profile_table(
    table: Table, *, label: str, classes: Mapping[str, int], text: Sequence[str] = ()
) -> Profile:
    """Profile every column of a table with the rows of each class in its label column.

    `text` names the text columns; without any, text columns are inferred.
    """
    labels = table.label_strings(label)

    def profile(name: str) -> ColumnProfile:
        if name == label:
            empty = sum(cell is None for cell in labels)
            return ColumnProfile(label, "categories", "label", missing=empty, distinct=len(classes))
        column = profile_column(
            name, table.data[name], infer_text=not text, count=True, row_number=table.row_number
        )
        if name in text:
            return replace(column, kind="text", role="text", reason="", remedy="")
        usable = column.role == "input" and column.kind in ("numbers", "categories")
        if usable and leaks_label(strings(table.data[name]), labels):
            return replace(column, role="dropped", reason=LEAK)
        return column

    columns = tuple(_assign_roles([profile(name) for name in table.names]))
    texts = [column.name for column in columns if column.role == "text"]
    english = looks_english([cell for name in texts for cell in strings(table.data[name])]) if texts else None
    without_text = int((join_texts([table.data[name] for name in texts]) == "").sum()) if texts else 0
    return Profile(table.data.num_rows, label, classes, columns, english, without_text=without_text)


def find_number_marks(table: Table, profile: Profile) -> ReadSettings | None:
    """Return settings for the numbers of columns whose decimal comma or thousands marks must be declared.

    None without such columns, and where 1,234 may be more than a thousand or a little more than one.
    """
    localised = [column.name for column in profile.columns if "decimal comma" in column.reason]
    cells = [cell for name in localised for cell in strings(table.data[name]) if cell is not None]
    fitting = [
        ReadSettings(decimal=decimal, thousands=thousands)
        for form, decimal, thousands in _NUMBER_FORMS
        if cells and all(form.fullmatch(cell) or cell.casefold() in MISSING_WORDS for cell in cells)
    ]
    is_clear = len({settings.decimal for settings in fitting}) == 1
    return fitting[0] if is_clear else None


def looks_english(texts: Sequence[str | None]) -> bool:
    """Return True if at least 30 % of the texts contain a common English word."""
    common = re.compile(
        r"\b(the|and|to|of|is|in|for|what|how|with|you|it|on|this|that|are|was|my|i|a)\b", re.I
    )
    sample = [text for text in texts[:2000] if text]
    return sum(bool(common.search(text)) for text in sample) >= 0.3 * len(sample)


def _assign_roles(columns: Sequence[ColumnProfile]) -> Iterator[ColumnProfile]:
    """Keep the first complete id column with a name, and drop the others; drop inputs beside texts."""
    has_text = any(column.role == "text" for column in columns)
    has_id = False
    for column in columns:
        if column.role == "id":
            usable = not (has_id or column.missing or column.name.startswith("Unnamed: "))
            has_id = has_id or usable
            yield column if usable else replace(column, role="dropped")
        elif column.role == "input" and has_text:
            yield replace(column, role="dropped", reason="the text alone is used")
        else:
            yield column


def render_recipe(profile: Profile, *, path: str, command: str) -> str:
    """Return the text of a recipe for the table in `path`; its head names the command line."""
    texts = [column.name for column in profile.with_role("text")]
    base = read_bundled("text" if texts else "csv")
    relative = "" if Path(path).is_absolute() else "  # relative to the folder where flowgmm is started"
    lines = [
        *comment_lines(f"{Path(path).name}: {profile.rows:,} rows, class in the column {profile.label}."),
        "#",
        *comment_lines(
            f"Written by `{command}` from a profile of the file; change it as needed. "
            "`flowgmm recipes check` validates it, `flowgmm train` trains it."
        ),
        "#",
        *_label_lines(profile),
        "version: 1",
        "data:",
        "  use: csv",
        f"  path: {quote_yaml(path)}{relative}",
        f"  label: {quote_yaml(profile.label)}  # an empty cell is an unlabelled row",
        *_settings_lines(profile.settings),
        *(
            f"  id: {quote_yaml(column.name)}  # {to_line(column.reason)}: not an input"
            for column in profile.with_role("id")
        ),
        *(_text_lines(profile, texts) if texts else _input_lines(profile)),
        *_section(base, "  transforms:"),
        *base[base.index("data:") + len(_section(base, "data:")) :],
    ]
    return "\n".join(lines) + "\n"


def profile_warnings(profile: Profile) -> list[str]:
    """Return warnings for the owner of the table, about labels and leaks."""
    warnings = []
    if profile.labelled < _MIN_LABELLED:
        tested = max(1, round(SplitConfig().test * profile.labelled))
        warnings.append(
            f"{profile.labelled:,} labels are few: {tested} of them are kept for the test, which tells the "
            f"accuracy to about {accuracy_margin(tested)} points either way; data.split.test=0 trains on all "
            "labels, and eval then uses predictions for labels that a fold left out"
        )
    rare = [name for name, rows in profile.classes.items() if rows < _MIN_LABELLED_OF_CLASS]
    if rare:
        listed = ", ".join(rare[:_MAX_LISTED]) + (", ..." if len(rare) > _MAX_LISTED else "")
        warnings.append(
            f"classes with fewer than {_MIN_LABELLED_OF_CLASS} labels, hard to learn and to test: {listed}"
        )
    counts = profile.classes.values()
    if max(counts, default=0) >= _UNEQUAL * min(counts, default=1):
        shares = (
            f"{to_line(name, 30)} {rows / profile.labelled:.0%}" for name, rows in profile.classes.items()
        )
        warnings.append(
            f"labels are unequal ({join_some(shares, len(profile.classes), 4)}); if the labelled rows were "
            "drawn at random, prior.class_prior=labelled takes these shares for all rows"
        )
    if profile.labelled == profile.rows:
        warnings.append("every row has a label; data.labels.count=N shows training N of them only")
    if profile.without_text:
        warnings.append(
            f"{profile.without_text:,} of {profile.rows:,} rows have no text; training leaves them out"
        )
    leaks = [column.name for column in profile.columns if "gives the label away" in column.reason]
    if leaks:
        warnings.append(f"left out, since they give the label away: {', '.join(leaks)}")
    return warnings


def accuracy_margin(tested: int, accuracy: float = 0.8) -> int:
    """Return half the width of the 95 % interval of an accuracy, in points, after a test of some rows.

    >>> accuracy_margin(6), accuracy_margin(100)
    (27, 8)
    """
    from scipy.stats import binomtest

    interval = binomtest(round(accuracy * tested), tested).proportion_ci(method="wilson")
    return round(50 * float(interval.high - interval.low))


def quote_yaml(text: str) -> str:
    r"""Return a YAML scalar that is read back as the text; `${` does not begin a reference.

    >>> quote_yaml("colour"), quote_yaml("no"), quote_yaml("true"), quote_yaml("a: b"), quote_yaml("2020")
    ('colour', '"no"', '"true"', '"a: b"', '"2020"')
    >>> quote_yaml("${HOME}")
    '"$${HOME}"'
    """
    # YAML 1.1 booleans are quoted too, for other programs
    plain = _PLAIN.fullmatch(text) and text.lower() not in ("y", "n", "yes", "no", "on", "off", "null")
    if plain and isinstance(read_scalar(text), str):
        return text
    return '"' + "".join(map(_escape, _REFERENCE.sub(r"$$\1", text))) + '"'


def _escape(letter: str) -> str:
    if letter.isprintable():
        return f"\\{letter}" if letter in '"\\' else letter
    return f"\\u{ord(letter):04x}" if ord(letter) < 0x10000 else f"\\U{ord(letter):08x}"


def to_line(text: str, most: int = 60) -> str:
    """Return text for a comment: a single line of printable characters, shortened to `most` characters."""
    line = " ".join(_printable(text).split())
    return line if len(line) <= most else f"{line[: most - 3]}..."


def _label_lines(profile: Profile) -> list[str]:
    listed = [f"{to_line(name, 40)} ({rows:,})" for name, rows in list(profile.classes.items())[:_MAX_LISTED]]
    rest = len(profile.classes) - len(listed)
    classes = ", ".join(listed) + (f" and {rest:,} more" if rest else "")
    unlabelled = profile.rows - profile.labelled
    text = f"Labels: {profile.labelled:,} rows are labelled, {unlabelled:,} are not. Classes: {classes}."
    notes = [f"Note: {line}." for line in profile_warnings(profile)]
    return [line for part in (text, *notes) for line in comment_lines(part)]


def _settings_lines(settings: ReadSettings) -> list[str]:
    """Return the keys of the settings that are not the default."""
    values = {name: getattr(settings, name) for name in ("encoding", "decimal", "thousands")}
    default = ReadSettings()
    return [
        f"  {name}: {quote_yaml(value)}" for name, value in values.items() if value != getattr(default, name)
    ]


def _text_lines(profile: Profile, texts: Sequence[str]) -> list[str]:
    names = ", ".join(quote_yaml(name) for name in texts)
    lines = [f"  text: [{names}]  # joined by a line break" if len(texts) > 1 else f"  text: {names}"]
    others = [column for column in profile.with_role("dropped") if column.reason == "the text alone is used"]
    if others:
        listed = ", ".join(quote_yaml(column.name) for column in others[:_MAX_LISTED])
        lines += comment_lines(f"The text alone is used; `features: [{listed}]` adds other columns.", "  ")
    if profile.english is False:
        encoder = "tfidf_svd, dim: 256}  # the texts do not look English; it learns their words"
    else:
        encoder = "wordllama, dim: 256}  # static word embeddings, about 8,000 texts a second"
    return [*lines, f"  encoder: {{use: {encoder}"]


def _input_lines(profile: Profile) -> list[str]:
    inputs, dropped = profile.with_role("input"), profile.with_role("dropped")
    counts = Counter(column.kind for column in inputs)
    counted = ", ".join(f"{n:,} column{'s' if n > 1 else ''} of {kind}" for kind, n in counts.items())
    lines = comment_lines(f"Inputs: {counted or 'none'}; all columns but the label and those dropped.", "  ")
    for column in inputs:
        if column.reason and column.kind in ("categories", "dates"):
            lines += comment_lines(f"{to_line(column.name, 30)}: {column.reason}.", "  ")
    if dropped:
        lines.append("  drop:  # `features: [...]` names the inputs instead")
        lines += [f"    - {quote_yaml(item.name)}  # {to_line(item.reason, 90)}" for item in dropped]
    if counts["dates"]:
        lines.append(f"  dates: [{', '.join(DATE_PARTS)}]  # features of a date; `drop` leaves dates out")
    numeric = [column for column in inputs if column.kind == "numbers"]
    if incomplete := [column for column in numeric if column.missing]:
        listed = (
            f"{to_line(column.name, 30)} {100 * column.missing / max(profile.rows, 1):.0f} %"
            for column in incomplete
        )
        names = join_some(listed, len(incomplete), 6)
        lines += comment_lines(f"Empty cells take the median of their column: {names}.", "  ")
        lines.append("  missing: median")
    codes = [to_line(column.name, 30) for column in numeric if 2 < column.distinct <= 10]
    if codes:
        lines += comment_lines(
            f"Numbers with few different values ({', '.join(codes[:6])}): if they are codes and not amounts, "
            "name them in `categorical: [...]`.",
            "  ",
        )
    return lines


def comment_lines(text: str, indent: str = "") -> list[str]:
    """Return a text as comment lines of a recipe."""
    width = _LINE_WIDTH - len(indent)
    wrapped = textwrap.wrap(_printable(text), width, break_long_words=False, break_on_hyphens=False)
    return [f"{indent}# {part}" for part in wrapped]


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)


def read_bundled(name: str) -> list[str]:
    """Return the lines of a bundled recipe. Raises `RecipeError` if it is missing."""
    folder = recipe_folder()
    if folder is None:
        raise RecipeError("the bundled recipes are missing", hint="install flowgmm-cli again")
    return (folder / f"{name}.yaml").read_text(encoding="utf-8").splitlines()


def _section(lines: Sequence[str], key: str) -> list[str]:
    """Return the lines of a recipe from a key to the next key at the left margin."""
    start = next(index for index, line in enumerate(lines) if line.startswith(key))
    end = next(index for index in range(start + 1, len(lines)) if re.match(r"\w", lines[index]))
    return list(lines[start:end])
