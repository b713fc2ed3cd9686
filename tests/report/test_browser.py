"""A real browser opens the pages without requests to the network and without errors."""

from __future__ import annotations

import functools
import http.server
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flowgmm_cli.report.compare import compare, write_comparison
from flowgmm_cli.report.context import ReportContext
from flowgmm_cli.report.report import write_report
from flowgmm_cli.runs import Run

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
OPTIONS = (
    "--headless=new", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--enable-logging=stderr", "--v=0", "--timeout=20000",
)  # fmt: skip
Visit = Callable[[str], tuple[str, list[str], list[str]]]


@pytest.fixture
def visit(tmp_path: Path) -> Iterator[Visit]:
    """Open a page of this test's folder: its DOM, the requests it makes, and errors in its console."""
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        pytest.skip("no Chromium on this machine")
    requests: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            requests.append(self.path)

    def visit(name: str) -> tuple[str, list[str], list[str]]:
        command = [browser, *OPTIONS, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
        if sys.platform == "linux" and os.geteuid() == 0:
            command.insert(1, "--no-sandbox")  # which root cannot have
        command.append(f"http://127.0.0.1:{server.server_address[1]}/{name}")
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode or not done.stdout:
            pytest.skip(f"the browser does not start here: {done.stderr.strip().splitlines()[-1:]}")
        problems = re.findall(r".*(?::CONSOLE[:(]|Refused to|net::ERR).*", done.stderr)
        return done.stdout, requests, problems

    handler = functools.partial(Handler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield visit
        server.shutdown()
        thread.join()


def test_the_check_notices_requests_and_errors(visit: Visit, tmp_path: Path) -> None:
    page = "<img src='/pixel.png'><script>console.error('oh no')</script>"
    (tmp_path / "bad.html").write_text(page, encoding="utf-8")
    _, requests, log = visit("bad.html")
    assert "/pixel.png" in requests
    assert any("oh no" in line for line in log)


def test_reports_and_comparisons_make_no_requests_and_log_no_errors(
    visit: Visit, context: ReportContext, other: Run, tmp_path: Path
) -> None:
    write_report(context, tmp_path / "report.html")
    dom, requests, log = visit("report.html")
    assert (requests, log) == (["/report.html"], [])
    assert "<script" not in dom
    assert dom.count("<figcaption>") > 8
    assert "漢字" in dom
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in dom
    write_comparison(compare([context.run, other]), tmp_path / "c.html")
    dom, requests, log = visit("c.html")
    assert (requests[1:], log) == (["/c.html"], [])
    assert "curve-loss" in dom
