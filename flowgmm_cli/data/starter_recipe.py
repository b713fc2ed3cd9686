"""Write starter recipes for a table or a folder of images: commented, valid, and ready to train.

The sections on model and training are those of the bundled recipes `csv`, `text` and `images`, including
comments; the `data` section comes from the profile of the data, with the reason of each choice.
"""

from __future__ import annotations

import re
import statistics
import textwrap
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flowgmm_cli.api import SplitConfig
from flowgmm_cli.data.images.encoded_images import list_files
from flowgmm_cli.data.images.specs import ImagesConfig
from flowgmm_cli.data.readers.table import ReadSettings
from flowgmm_cli.data.sources.image_folder import ImageFolder
from flowgmm_cli.data.specs import DATE_PARTS
from flowgmm_cli.data.table_profile import Profile
from flowgmm_cli.errors import RecipeError
from flowgmm_cli.messages import join_some
from flowgmm_cli.recipe.catalogue import recipe_folder
from flowgmm_cli.recipe.node import escape
from flowgmm_cli.recipe.yaml import read_scalar

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:[ .-][A-Za-z0-9_]+)*")
_LINE_WIDTH = 100
_MIN_LABELLED, _MIN_LABELLED_OF_CLASS = 100, 5
_MAX_LISTED = 12  # class names
_MAX_OPENED = 500  # images whose sizes are read
_SIDE = 32  # pixels; the flow of the recipe suits small pictures
_UNEQUAL = 3  # labels of the largest class for each of the smallest


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
    if profile.head:
        rows = f"{profile.head:,} of {profile.rows:,} rows"
        warnings.append(f"columns are judged by the first {rows}, labels by all rows")
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
            f"{profile.without_text:,} of {profile.judged:,} rows have no text; training leaves them out"
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
    return '"' + "".join(map(_escape, escape(text))) + '"'


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
    default = vars(ReadSettings())
    return [
        f"  {name}: {quote_yaml(value)}" for name, value in vars(settings).items() if value != default[name]
    ]


def _text_lines(profile: Profile, texts: Sequence[str]) -> list[str]:
    names = ", ".join(quote_yaml(name) for name in texts)
    lines = [f"  text: [{names}]  # joined by a line break" if len(texts) > 1 else f"  text: {names}"]
    others = [column for column in profile.with_role("dropped") if column.reason == "the text alone is used"]
    if others:
        listed = ", ".join(quote_yaml(column.name) for column in others[:_MAX_LISTED])
        lines += comment_lines(f"The text alone is used; `features: [{listed}]` adds other columns.", "  ")
    if profile.english is False:
        reason = "the texts do not look English; it learns their words"
        return [*lines, f"  encoder: {{use: tfidf_svd, dim: 256}}  # {reason}"]
    base = read_bundled("text")
    return [*lines, *base[base.index("  encoder:") : base.index("  transforms:")]]


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
            f"{to_line(column.name, 30)} {100 * column.missing / max(profile.judged, 1):.0f} %"
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


@dataclass(frozen=True)
class ImagesProfile:
    """A folder of images.

    Attributes:
        rows: number of images of each split.
        classes: number of images of each class, by name.
        sizes: height and width of images, in pixels.
    """

    rows: Mapping[str, int]
    classes: Mapping[str, int]
    sizes: Sequence[tuple[int, int]]

    @property
    def labelled(self) -> int:
        """Number of labelled images."""
        return sum(self.classes.values())

    @property
    def side(self) -> int | None:
        """Side of a square for images of different sizes, at most 32; None if all have one size."""
        return (
            None if len(set(self.sizes)) < 2 else min(_SIDE, round(statistics.median(map(min, self.sizes))))
        )


def holds_images(folder: Path) -> bool:
    """Return True for a folder of images without tables, but for tables of their labels."""
    listing = list_files(folder)
    return bool(listing.files) and not listing.others.keys() & {".csv", ".parquet", ".jsonl", ".tsv"}


def profile_images(folder: Path, note: Callable[[str], None]) -> ImagesProfile:
    """Profile a folder of images; `note` receives guesses about its layout."""
    from PIL import Image

    listing = list_files(folder)
    splits = ImageFolder(folder.resolve(), listing, ImagesConfig(path=str(folder)), note).read()
    labels = [label for split in splits.values() for label in split.labels.tolist() if label is not None]
    sizes = []
    for place in np.unique(np.linspace(0, len(listing.files) - 1, _MAX_OPENED).astype(int)).tolist():
        try:
            with Image.open(folder / listing.files[place]) as image:
                sizes.append((image.height, image.width))
        except OSError:  # training names damaged files
            continue
    rows = {name: len(split) for name, split in splits.items()}
    return ImagesProfile(rows, dict(Counter(labels).most_common()), sizes)


def render_images(profile: ImagesProfile, *, path: str, command: str) -> str:
    """Return the text of a recipe for the images in `path`; its head names the command line."""
    base = read_bundled("images")
    start = base.index("version: 1")
    classes = ", ".join(f"{name} ({count:,})" for name, count in list(profile.classes.items())[:12])
    total = sum(profile.rows.values())
    head = [
        f"{Path(path).name}: {total:,} images, {profile.labelled:,} of them labelled. Classes: {classes}.",
        f"Written by `{command}`; change it as needed. `flowgmm recipes show images` explains the settings.",
    ]
    key = next(index for index, line in enumerate(base) if line.startswith("  # path has no default"))
    lines = [f"  path: {quote_yaml(path)}"]
    if profile.side is not None:
        low, high = (f"{height} x {width}" for height, width in (min(profile.sizes), max(profile.sizes)))
        lines += [f"  size: {profile.side}  # the images have from {low} to {high} pixels", "  resize: crop"]
    body = [line for line in [*base[start:key], *lines, *base[key + 1 :]] if line != "name: images"]
    return "\n".join([*(line for text in head for line in comment_lines(text)), *body]) + "\n"
