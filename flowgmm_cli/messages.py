"""Parts of messages: shortened and escaped text, lists that are cut, suggestions."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Sequence
from itertools import islice

from flowgmm_cli.errors import did_you_mean

_MAX_LETTERS = 40
# control characters, line and paragraph separators, and the marks that reorder letters on a screen
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def escape_controls(text: str, *, keep: str = "") -> str:
    r"""Return text with control characters, except those to `keep`, in the form that Python writes.

    A terminal would obey them: they change colours, move the cursor or begin a line.

    >>> print(escape_controls("\x1b[31mred\n", keep="\t"))
    \x1b[31mred\n
    """
    return _CONTROL.sub(lambda match: match[0] if match[0] in keep else ascii(match[0])[1:-1], text)


def quote(word: object) -> str:
    """Return a path or name as one word of a shell, for commands to paste."""
    return shlex.quote(str(word))


def override(key: str, name: str, *, listed: bool = True) -> str:
    """Return an override that sets a key to a name, or to a list of it, as one word of a shell.

    >>> print(override("data.drop", "x1"), override("data.label", "a b; c", listed=False))
    data.drop=[x1] 'data.label="a b; c"'
    """
    plain = re.fullmatch(r"\w+", name)
    item = name if plain else json.dumps(name, ensure_ascii=False)
    word = f"{key}=[{item}]" if listed else f"{key}={item}"
    return word if plain else quote(word)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message; the type is named if the message is a word or nothing.

    >>> first_line(KeyError("x")), first_line(ValueError("no magic\\nat all")), first_line(MemoryError())
    ("KeyError: 'x'", 'no magic', 'there is not enough memory')
    """
    text = next(iter(str(error).strip().splitlines()), "")
    if isinstance(error, MemoryError):
        return "there is not enough memory"
    return text if " " in text else f"{type(error).__name__}: {text}".rstrip(": ")


def shorten(cell: object) -> str:
    """Return a cell for a message, cut to 40 characters."""
    text = str(cell)
    return text if len(text) <= _MAX_LETTERS else f"{text[: _MAX_LETTERS - 3]}..."


def suggest_column(name: str, names: Iterable[str]) -> str:
    """Return `; did you mean ...?` with the same name in another case, or a similar one; else ''."""
    names = list(names)
    same = [other for other in names if other.casefold() == name.casefold()]
    return f"; did you mean `{same[0]}`?" if same else did_you_mean(name, names)


def split_names(words: Iterable[str], names: Sequence[str]) -> list[str]:
    """Return the names in words such as `id,text`; a word that is one of `names` may contain commas.

    >>> split_names(["id, text", "a,b"], ["id", "text", "a,b"])
    ['id', 'text', 'a,b']
    """
    split = ([word] if word in names else [part.strip() for part in word.split(",")] for word in words)
    return list(dict.fromkeys(part for parts in split for part in parts))


def list_some(items: Iterable[str], total: int, limit: int) -> list[str]:
    """Return the first items, at most `limit`, and a last one with the number of the others of `total`."""
    return [*islice(items, limit), *([f"and {total - limit:,} more"] if total > limit else [])]


def join_some(items: Iterable[str], total: int, limit: int) -> str:
    """Join the first items, at most `limit`, by commas, and add the number of the others of `total`."""
    return ", ".join(islice(items, limit)) + (f" and {total - limit:,} more" if total > limit else "")
