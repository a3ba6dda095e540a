"""A page of runs that are still training, served on this machine's loopback interface alone."""

import errno
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from surefoot.options import UserError, check
from surefoot.report.finished import FinishedRun, Group, group_runs
from surefoot.report.html import make_live_page, page_data

HOST = "127.0.0.1"
SECONDS = 3
"""Seconds between two looks of the page at the metrics."""


class WatchServer(ThreadingHTTPServer):
    """Serves the page of some runs at `/` and what its charts draw at `/data.json`, both as the runs are at
    the time of the request."""

    daemon_threads = True

    def __init__(self, paths: Sequence[Path], port: int = 0) -> None:
        """`port` 0 is any free one. Raises `UserError` if a run cannot be read or the port cannot be had."""
        self._paths = paths
        self.groups()
        check(0 <= port <= 65535, "port", port, "from 0 to 65535")
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            reason = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be had: {error.strerror}"
            raise UserError(f"Port {port} {reason}. Choose another --port, or leave it out.") from error

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing of a page that was closed before its answer came."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    @property
    def address(self) -> str:
        """The page's address."""
        return f"http://{HOST}:{self.server_port}/"

    def groups(self) -> list[Group]:
        """The runs as they are by now, a group for each setting. A single group has the preset's name."""
        groups = group_runs([FinishedRun.read_unfinished(path) for path in self._paths])
        if len(groups) == 1:
            groups = [replace(groups[0], label=groups[0].runs[0].config.preset)]
        return groups

    def page(self) -> bytes:
        """The page, in UTF-8."""
        groups = self.groups()
        return make_live_page(groups, self._live(groups))

    def data(self) -> bytes:
        """The data of the page's charts, as JSON."""
        groups = self.groups()
        return json.dumps({**page_data(groups), **self._live(groups)}).encode()

    def _live(self, groups: Sequence[Group]) -> dict[str, Any]:
        """A sentence about the runs, and how often the page asks again."""
        runs = [run for group in groups for run in group.runs]
        done = [run.metrics[-1]["iteration"] if run.metrics else 0 for run in runs]
        total = max(run.config.iterations for run in runs)
        counts = str(done[0]) if len(set(done)) == 1 else f"{min(done)} to {max(done)}"
        words = f"Iteration {counts} of {total}, at {datetime.now(UTC):%H:%M:%S} UTC."
        return {"status": words, "seconds": SECONDS}


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """Answers a request of the page or its data."""
        server = self.server
        assert isinstance(server, WatchServer)
        answers = {"/": (server.page, "text/html"), "/data.json": (server.data, "application/json")}
        host = (self.headers.get("Host") or "").partition(":")[0]  # the port may be that of a tunnel
        if host not in (HOST, "localhost"):  # another site's name, which points here
            self._answer(403, b"Only for this machine.", "text/plain")
        elif self.path not in answers:
            self._answer(404, b"There is no such page.", "text/plain")
        else:
            make, kind = answers[self.path]
            try:
                content = make()
            except (UserError, OSError) as error:
                self._answer(500, str(error).encode(), "text/plain")
            else:
                self._answer(200, content, kind)

    def _answer(self, status: int, content: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not printed."""
