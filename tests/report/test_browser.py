"""A real browser opens the report without requests to the network and without errors."""

from __future__ import annotations

import functools
import http.server
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowgmm_cli.report.compare import compare, write_comparison
from flowgmm_cli.report.context import ReportContext
from flowgmm_cli.report.report import write_report
from flowgmm_cli.runs import Run

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="session")
def browser() -> str:
    """A Chromium, where there is one that starts."""
    path = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if path is None:
        pytest.skip("no Chromium on this machine")
    return path


class Server:
    """Serve a folder and record the requests."""

    def __init__(self, folder: Path) -> None:
        requests: list[str] = []

        class Handler(http.server.SimpleHTTPRequestHandler):
            def log_message(self, format: str, *args: object) -> None:
                requests.append(self.path)

        handler = functools.partial(Handler, directory=str(folder))
        self.requests = requests
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server of this test's folder."""
    server = Server(tmp_path)
    yield server
    server.close()


def open_page(browser: str, address: str, profile: Path) -> tuple[str, str]:
    """Return the loaded page, and the log of the console and the network stack."""
    command = [browser, "--headless=new", "--disable-gpu", f"--user-data-dir={profile}", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command += ["--enable-logging=stderr", "--v=0", "--timeout=20000", "--dump-dom", address]
    if sys.platform == "linux" and os.geteuid() == 0:
        command.insert(1, "--no-sandbox")  # which root cannot have
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode or not done.stdout:
        pytest.skip(f"the browser does not start here: {done.stderr.strip().splitlines()[-1:]}")
    return done.stdout, done.stderr


def console(log: str) -> list[str]:
    """Lines that the page itself caused."""
    return [line for line in log.splitlines() if re.search(r":CONSOLE[:(]|Refused to|net::ERR", line)]


def test_the_check_notices_requests_and_errors(browser: str, server: Server, tmp_path: Path) -> None:
    page = tmp_path / "bad.html"
    page.write_text("<img src='/pixel.png'><script>console.error('oh no')</script>", encoding="utf-8")
    _, log = open_page(browser, f"{server.address}/bad.html", tmp_path / "profile")
    assert "/pixel.png" in server.requests
    assert any("oh no" in line for line in console(log))


def test_a_report_makes_no_requests_and_logs_no_errors(
    browser: str, server: Server, context: ReportContext, names: tuple[str, ...], tmp_path: Path
) -> None:
    write_report(context, tmp_path / "report.html")
    dom, log = open_page(browser, f"{server.address}/report.html", tmp_path / "profile")
    assert server.requests == ["/report.html"]
    assert console(log) == []
    assert "<script" not in dom
    assert dom.count("<figcaption>") > 8
    assert "漢字" in dom
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in dom
    assert len(names) == 3


def test_a_comparison_makes_no_requests_and_logs_no_errors(
    browser: str, server: Server, awkward: Run, other: Run, tmp_path: Path
) -> None:
    write_comparison(compare([awkward, other]), tmp_path / "c.html")
    dom, log = open_page(browser, f"{server.address}/c.html", tmp_path / "profile")
    assert server.requests == ["/c.html"]
    assert console(log) == []
    assert "curve-loss" in dom
