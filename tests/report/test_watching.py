"""`surefoot watch`: what it serves, to whom, and that the page follows a run."""

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.browser import needs_chromium, shown
from support.finished_runs import write_run
from surefoot import cli
from surefoot.options import UserError
from surefoot.report.finished import find_runs
from surefoot.report.watching import WatchServer


def grow(run: Path) -> None:
    """One more iteration."""
    path = run / "metrics.jsonl"
    last = json.loads(path.read_text().splitlines()[-1])
    row = {**last, "iteration": last["iteration"] + 1, "steps": last["steps"] + 100, "return": 9.0}
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Still training: without an evaluation."""
    folder = write_run(tmp_path / "run", "recall/ppo", 0, [1.0, 2.0], [[1.0]])
    (folder / "evaluation.json").unlink()
    return folder


@pytest.fixture
def server(run: Path) -> Iterator[WatchServer]:
    with WatchServer([run]) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def fetched(server: WatchServer, path: str = "", **headers: str) -> Any:
    request = urllib.request.Request(server.address + path, headers=headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.read().decode()


def test_the_page_needs_no_evaluation_and_the_data_follow_the_run(server: WatchServer, run: Path):
    assert 'id="status"' in fetched(server)
    grow(run)
    data = json.loads(fetched(server, "data.json"))
    assert data["curves"][0]["y"] == [1, 2, 9]
    assert data["status"].startswith("Iteration 3 of 2, at ")


def test_a_run_without_metrics_is_shown(server: WatchServer, run: Path):
    (run / "metrics.jsonl").write_text("")
    assert json.loads(fetched(server, "data.json"))["curves"] == []
    assert "Iteration 0 of 2" in fetched(server)


@pytest.mark.parametrize("host", ["localhost:8888", "localhost", "127.0.0.1"])
def test_a_forwarded_port_is_served(host: str, server: WatchServer):
    assert "Iteration" in fetched(server, "", Host=host)


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [("nothing", {}, 404), ("", {"Host": "elsewhere.example"}, 403), ("../run/config.yaml", {}, 404)],
)
def test_nothing_else_is_served_and_nobody_else(
    path: str, headers: dict[str, str], status: int, server: WatchServer
):
    assert server.server_address[0] == "127.0.0.1"
    with pytest.raises(urllib.error.HTTPError) as error:
        fetched(server, path, **headers)
    assert error.value.code == status
    error.value.close()


def test_a_damaged_run_is_said_on_the_page(server: WatchServer, run: Path):
    (run / "metrics.jsonl").write_text("x\n{}\n")
    with pytest.raises(urllib.error.HTTPError) as error:
        fetched(server, "data.json")
    assert error.value.code == 500
    assert "is damaged" in error.value.read().decode()
    error.value.close()


def test_a_port_that_is_taken(server: WatchServer, run: Path):
    with pytest.raises(UserError, match=f"Port {server.server_port} is in use. Choose another --port"):
        WatchServer([run], server.server_port)


def test_the_command(run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def interrupted(server: WatchServer) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(WatchServer, "serve_forever", interrupted)
    assert cli.run(["watch", str(run)]) == 130
    assert f"watching {run} at http://127.0.0.1:" in capsys.readouterr().out
    assert cli.run(["watch", str(run.parent / "nothing")]) == 2
    assert cli.run(["watch", str(run), "--port", "70000"]) == 2
    assert capsys.readouterr().err.count("error:") == 2


@needs_chromium
def test_the_page_shows_new_iterations(server: WatchServer, run: Path, tmp_path: Path):
    """The run grows as soon as the page has been sent."""
    page = server.page

    def page_before_growth() -> bytes:
        content = page()
        grow(run)
        return content

    vars(server)["page"] = page_before_growth
    dom = shown(server.address, tmp_path, milliseconds=8000)
    assert "Iteration 3 of 2, at" in dom
    assert dom.count("<canvas") == 2


def test_a_sweep_s_settings_are_told_apart(tmp_path: Path) -> None:
    for entropy in (0.1, 0.2):
        for seed in (0, 1):
            folder = tmp_path / f"entropy-bonus={entropy}" / f"seed{seed:03d}"
            write_run(folder, "recall/ppo", seed, [1.0, 2.0], [[1.0]], entropy_bonus=entropy)
    with WatchServer(find_runs([tmp_path])) as server:
        data = json.loads(server.data())
    labels = {curve["label"] for curve in data["curves"]}
    assert labels == {f"entropy-bonus {x}, seed {seed}" for x in (0.1, 0.2) for seed in (0, 1)}
    assert len({curve["colour"] for curve in data["curves"]}) == 2
