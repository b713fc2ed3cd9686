from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from distributions import write_distribution

from flowgmm_cli.plugins import discovery
from flowgmm_cli.plugins.discovery import discover
from flowgmm_cli.plugins.entry import Entry

HOSTILE = {
    "duplicate_key": "[console_scripts]\na = x:y\na = x:z\n",
    "duplicate_section": "[console_scripts]\na = x:y\n[console_scripts]\nb = x:z\n",
    "no_section": "a = x:y\n",
    "no_value": "[console_scripts]\na\n",
    "bad_bytes": b"[console_scripts]\n\xff\xfe = x:y\n",
    "binary": bytes(range(256)),
    "percent": "[flowgmm.flows]\nodd = x%(y)s:z\n",
}


POINTS = """
[flowgmm.flows]
nsf = fake_one.plugin:nsf
[flowgmm.data]
moons = fake_one:moons.spec
[flowgmm.regularisers]
mixup = fake_one : mixup [extra]
[flowgmm.encoders]
bert = fake_one:bert
[flowgmm.scores]
energy.v2 = fake_one:energy
[flowgmm.recipes]
mine = fake_one.recipes
[console_scripts]
fake = fake_one:main
"""


def flows(folder: Path) -> list[tuple[str, str, str | None]]:
    return [(item.name, item.package, item.version) for item in discover([str(folder)]).entries]


def test_entry_points_of_all_groups_are_listed_without_imports(install: Any, site: Path) -> None:
    install("Fake_One", POINTS, "0.2", fake_one="raise RuntimeError('imported')")
    result = discover([str(site)])
    assert result.problems == ()
    assert [(item.kind, item.name, item.target) for item in result.entries] == [
        ("data", "moons", "fake_one:moons.spec"),
        ("encoder", "bert", "fake_one:bert"),
        ("flow", "nsf", "fake_one.plugin:nsf"),
        ("recipe", "mine", "fake_one.recipes"),
        ("regulariser", "mixup", "fake_one:mixup"),
        ("score", "energy.v2", "fake_one:energy"),
    ]
    assert {(item.package, item.version) for item in result.entries} == {("fake-one", "0.2")}
    assert "fake_one" not in sys.modules


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_malformed_file_hides_nothing(install_flow: Any, install: Any, site: Path, kind: str) -> None:
    install_flow("fake-a", "one")
    install("fake-broken", HOSTILE[kind])
    install_flow("fake-z", "two")
    healthy = [item for item in flows(site) if item[0] != "odd"]
    assert healthy == [("one", "fake-a", "1.0"), ("two", "fake-z", "1.0")]


@pytest.mark.parametrize("kind", ["no_value", "bad_bytes"])
def test_an_unreadable_file_is_named(install: Any, site: Path, kind: str) -> None:
    install("fake-broken", HOSTILE[kind])
    (problem,) = discover([str(site)]).problems
    assert problem.startswith("fake-broken 1.0: its entry points cannot be read")


def test_missing_metadata_hides_nothing(install_flow: Any, install: Any, site: Path) -> None:
    install("fake-broken", HOSTILE["no_value"])
    (site / "fake_broken-1.0.dist-info" / "METADATA").unlink()
    install_flow("fake-a", "one")
    assert flows(site) == [("one", "fake-a", "1.0")]


def test_a_default_section_does_not_leak_into_the_groups(install: Any, site: Path) -> None:
    install("fake-a", "[DEFAULT]\nleak = x:y\n[flowgmm.flows]\nnsf = fake_a:spec\n")
    assert flows(site) == [("nsf", "fake-a", "1.0")]


@pytest.mark.parametrize(
    ("name", "target", "reason"),
    [
        ("nsf", "fake_a", "names `fake_a`, not `module:attribute`"),
        ("nsf", "fake a:b", "not `module:attribute`"),
        ("nsf", "fake_a:", "not `module:attribute`"),
        ("Nsf", "fake_a:b", "the flow name `Nsf`"),
        ("a/b", "fake_a:b", "the flow name `a/b`"),
    ],
)
def test_odd_entry_points_are_problems(install: Any, site: Path, name: str, target: str, reason: str) -> None:
    install("fake-a", f"[flowgmm.flows]\n{name} = {target}\ngood = fake_a:good\n")
    result = discover([str(site)])
    assert [item.name for item in result.entries] == ["good"]
    (problem,) = result.problems
    assert problem.startswith("fake-a 1.0: ")
    assert reason in problem


def test_the_first_copy_of_a_distribution_counts(install_flow: Any, site: Path, tmp_path: Path) -> None:
    install_flow("fake-a", "one")
    write_distribution(tmp_path / "other", "fake.a", "[flowgmm.flows]\none = fake_a:spec\n", "2.0")
    path = [str(site), str(tmp_path / "other")]
    assert [item.version for item in discover(path).entries] == ["1.0"]
    assert [item.version for item in discover(path[::-1]).entries] == ["2.0"]


def test_both_back_ends_agree_on_a_healthy_environment(
    install: Any, install_flow: Any, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        install_flow(f"fake-{number}", f"flow{number % 3}")
    install("Fake.Name_x", "[flowgmm.data]\nd = fake_x:d\n[console_scripts]\nx = y:z\n", "2.0rc1")
    install("fake-empty", "")
    first = discover([*sys.path])

    def fail(path: Any) -> Any:
        raise ValueError("something foreign")

    monkeypatch.setattr(discovery, "_read_with_entrypoints", fail)
    assert discover([*sys.path]) == first
    assert len(first.entries) >= 6


def test_the_whole_sys_path_is_scanned_by_default(install_flow: Any) -> None:
    install_flow("fake-a", "one")
    assert Entry("flow", "one", "fake-a", "1.0", "fake_a:spec") in discover().entries


def test_folders_that_do_not_exist_are_skipped(tmp_path: Path) -> None:
    assert discover([str(tmp_path / "nowhere"), ""]).problems == ()
