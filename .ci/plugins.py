"""First-party plugins as a stranger has them: run by an environment into which only wheels were installed.

    PYTHON .ci/plugins.py plugins/*/

Every plugin is listed as ok, one of each kind passes `flowgmm plugins test` (their own tests check all),
and a model that needs one says how to get it back when it is gone. The last plugin with a flow is uninstalled
on the way.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from flowgmm_cli.testing.recipes import RUN_COMMANDS


def flowgmm(*words: str, code: int = 0, folder: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line and hold its exit code."""
    done = subprocess.run(
        [sys.executable, "-m", "flowgmm_cli", *words], cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode != code:
        sys.exit(
            f"flowgmm {' '.join(words)} ended with {done.returncode}, not {code}:\n{done.stdout}{done.stderr}"
        )
    return done


def main() -> None:
    """List, test, train, uninstall."""
    projects = [tomllib.loads((Path(one) / "pyproject.toml").read_text())["project"] for one in sys.argv[1:]]
    packages = {project["name"] for project in projects if "entry-points" in project}
    listed: list[dict[str, Any]] = json.loads(flowgmm("plugins", "list", "--check", "--json").stdout)[
        "plugins"
    ]
    ours = [one for one in listed if one["package"] in packages]
    assert {one["package"] for one in ours} == packages, (
        f"not listed: {packages - {o['package'] for o in ours}}"
    )
    bad = [one for one in listed if one["state"] != "ok"]
    assert not bad, f"not ok: {bad}"
    firsts = {one["kind"]: one for one in reversed(ours) if one["kind"] != "recipe"}
    names = {kind: f"{one['package']}/{one['name']}" for kind, one in sorted(firsts.items())}
    commands = [["plugins", "test", name, "--kind", kind] for kind, name in names.items()]
    subprocess.run([sys.executable, "-c", RUN_COMMANDS, json.dumps(commands)], check=True)
    for kind, name in names.items():
        print(f"{kind:12} {name}: conformance ok")

    last = next(one for one in reversed(ours) if one["kind"] == "flow")
    with tempfile.TemporaryDirectory() as folder:
        short = ["train.epochs=1", "train.max_steps=2", "calibration.method=none"]
        flow = f"flow={{use: {last['package']}/{last['name']}}}"
        flowgmm("train", "two_circles", flow, *short, "--run-dir", "run", "--quiet", folder=folder)
        pip = [sys.executable, "-m", "pip", "uninstall", "--yes", "--quiet", last["package"]]
        subprocess.run(pip, check=True)
        said = flowgmm("eval", "run", code=4, folder=folder).stderr
        assert f"pip install {last['package']}" in said, said
    print(f"without {last['package']} its model says: pip install {last['package']}")


if __name__ == "__main__":
    main()
