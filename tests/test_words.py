"""The package speaks the field's words: names and prose are checked against lists of words and patterns."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted(
    [*ROOT.glob("flowgmm_cli/**/*.py"), *ROOT.glob("plugins/*/src/**/*.py"), *ROOT.glob("benchmarks/*.py")]
)
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md")])

# Words that no identifier contains, split at underscores and capitals.
WORDS = re.compile(
    r"alike|asked|comings|elsewhere|everybody|everyone|everywhere|found|here|leaders?|leads|made|meeting|mine"
    r"|nobody|noticed|ones?|ours|said|slopes|somebody|somewhere|spoken|surroundings|telling|theirs|told|tutor"
    r"|wanted|whatever|whoever"
)

# A function is named by a verb or by the thing it returns, not by a participle. Properties may be.
PARTICIPLES = re.compile(
    r"(?!embed|exceed|feed|need|proceed|seed|speed)\w+ed|begun|bound|built|chosen|done|drawn|given|gone|heard|held"
    r"|kept|known|laid|left|meant|met|seen|sent|shown|spread|taken|thought|understood|worn|written"
)

# Names with a good reason.
EXCEPTIONS = frozenset({
    "labelled",  # an adjective of the field, as unlabelled
    "unlabelled",
    "distributed",  # as in torch.distributed
    "found_inf",  # the signal of torch.amp
    "found",  # of the conformance kit, an old name that plugins may use
    "test_one_row",
    "test_recipes_are_found",
})  # fmt: skip

# First words of a docstring: it begins with an imperative verb or is a noun phrase.
FIRST = re.compile(r"(what|whether|who|where|which|how|why|when|as|of|for|so|such|there)\b", re.I)

# Phrases that no docstring, comment, message or page contains.
PHRASES = [
    re.compile(pattern)
    for pattern in (
        r"\b[Ww]hoever\b",
        r"\b[Ss]urroundings\b",
        r"\b[Cc]omings\b",
        r"\btold\b",
        r"\bgone on with\b",
        r"\bgoes on with\b",
        r"\b(is|are) none\b",
        r"\bby turns\b",
        r"\bin sight\b",
        r"\bas ever\b",
        r"\blets? go of\b",
        r"\btalks\b",
        r"\btaken leave\b",
        r"\bare had\b",
        r"\bto be had\b",
        r"\bis had\b",
        r"\b[Ss]omebody\b",
        r"\b[Nn]obody\b",
        r"\bwhat (is|are|was|were|has|have|had|stays?|comes?|goes|makes?|takes?|needs?)\b",
        r"\bwhat (it|they|this|that|the|an?)\b",
        r"\bwhatever\b",
        r"(^|[.:] )Of [a-z]+( [a-z]+)?,",
        r", for (it|they|he|that|there|these|those|all|nothing) (is|are|has|have|can|may|would|cannot)\b",
        r"\bone's own\b",
        r"\bas good as\b",
        r"\bmay well\b",
    )
]


def split_name(name: str) -> list[str]:
    """Words of an identifier: `_makeRow_of` -> make, row, of."""
    return re.findall(r"[a-z]+|[A-Z](?:[a-z]+|[A-Z]*(?![a-z]))", name.replace("_", " "))


def has_word(name: str) -> bool:
    return name not in EXCEPTIONS and any(WORDS.fullmatch(word.lower()) for word in split_name(name))


def is_property(function: ast.AST) -> bool:
    decorators = [ast.unparse(decorator) for decorator in getattr(function, "decorator_list", ())]
    return any(name.split(".")[-1] in ("property", "cached_property", "setter") for name in decorators)


def names_of(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of the functions, classes, arguments, variables and attributes that a module names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id if isinstance(node, ast.Name) else node.attr
        elif isinstance(node, ast.alias) and node.asname:
            yield node.lineno, node.asname


def prose_of(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of every comment and string."""
    kinds = (tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.COMMENT))
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in kinds:
            yield token.start[0], token.string


def doubts(path: Path) -> list[str]:
    """Names, docstrings and phrases of a module that are not the field's."""
    source = path.read_text("utf-8")
    tree = ast.parse(source)
    lines = []
    if has_word(path.stem) or (path.stem not in EXCEPTIONS and PARTICIPLES.fullmatch(path.stem)):
        lines.append((1, f"module name `{path.stem}`"))
    for line, name in names_of(tree):
        if has_word(name):
            lines.append((line, f"name `{name}`"))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name not in EXCEPTIONS:
            first = (split_name(node.name) or [""])[0].lower()
            if PARTICIPLES.fullmatch(first) and not is_property(node):
                lines.append((node.lineno, f"function named by a participle: `{node.name}`"))
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
            text = ast.get_docstring(node) or ""
            if FIRST.match(text):
                lines.append((getattr(node, "lineno", 1), f"docstring begins with {text.split()[0]!r}"))
    for line, text in prose_of(source):
        lines += [(line, f"phrase {match[0]!r}") for phrase in PHRASES for match in phrase.finditer(text)]
    return [f"{path}:{line}: {doubt}" for line, doubt in sorted(set(lines))]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_uses_the_words_of_the_field(path: Path) -> None:
    assert doubts(path) == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_page_uses_the_words_of_the_field(path: Path) -> None:
    text = path.read_text("utf-8")
    assert [match[0] for phrase in PHRASES for match in phrase.finditer(text)] == []


def test_the_lists_see_the_dialect(tmp_path: Path) -> None:
    module = tmp_path / "told.py"
    module.write_text('def kept_rows(one):\n    """What is left of them."""\n    wanted = one  # by turns\n')
    assert {line.split(": ", 1)[1] for line in doubts(module)} == {
        "module name `told`",
        "function named by a participle: `kept_rows`",
        "name `one`",
        "docstring begins with 'What'",
        "phrase 'by turns'",
        "name `wanted`",
    }
