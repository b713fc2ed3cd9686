"""Installed distributions, written without pip."""

from __future__ import annotations

from pathlib import Path


def write_distribution(
    folder: Path, name: str, entries: str | bytes, version: str = "1.0", **modules: str
) -> None:
    """Write the metadata of a distribution with these entry points, and its modules by name."""
    info = folder / f"{name.replace('-', '_').replace(' ', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    about = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    (info / "METADATA").write_text(about, encoding="utf-8")
    (info / "entry_points.txt").write_bytes(entries if isinstance(entries, bytes) else entries.encode())
    for module, source in modules.items():
        (folder / f"{module}.py").write_text(source, encoding="utf-8")
