"""Prints one of the README's two set-up commands, so that `.ci/run` carries out what the README says.

python3 .ci/readme_commands.py train
python3 .ci/readme_commands.py test
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

README = Path(__file__).resolve().parent.parent / "README.md"
HEADINGS = {"train": "Train a model", "test": "Run the tests"}


def command(name: str) -> str:
    """The shell code block below the heading of `train` or `test`.

    Raises:
        ValueError: the README has no such heading, or no shell code block right below it.
    """
    heading = re.escape(HEADINGS[name])
    found = re.search(rf"^## {heading}\n+```sh\n(.+?)\n```$", README.read_text("utf-8"), re.M | re.S)
    if found is None:
        raise ValueError(f"{README.name} has no shell code block right below the heading `{HEADINGS[name]}`")
    return found[1]


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in HEADINGS:
        sys.exit(f"usage: readme_commands.py {'|'.join(HEADINGS)}")
    print(command(sys.argv[1]))
