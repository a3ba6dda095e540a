"""Signals, on a real process: what a user sees who presses Ctrl-C, once or twice."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from surefoot.experiment import load, resume
from surefoot.experiment.metrics import read_metrics

TRAIN = ["train", "bandit/trpo", "--episodes", "2", "--iterations", "1000000"]


@pytest.fixture
def training(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """`surefoot train` in the middle of its work."""
    command = [sys.executable, "-m", "surefoot", *TRAIN, "--out", str(tmp_path / "run")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    metrics = tmp_path / "run" / "metrics.jsonl"
    deadline = time.monotonic() + 300
    while len(read_metrics(metrics)) < 3 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    yield process
    process.kill()
    process.communicate()


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, 130),
        (signal.SIGTERM, 143),
        pytest.param(
            signal.SIGHUP,
            129,
            marks=pytest.mark.skipif(
                signal.getsignal(signal.SIGHUP) is signal.SIG_IGN, reason="it is ignored here"
            ),
        ),
    ],
)
def test_the_first_signal_ends_the_iteration_and_writes_a_checkpoint(
    number: signal.Signals, code: int, training: subprocess.Popen[str], tmp_path: Path
) -> None:
    training.send_signal(number)
    out, errors = training.communicate(timeout=120)
    assert training.returncode == code, errors
    assert f"surefoot resume {tmp_path / 'run'}" in out
    assert "Traceback" not in errors
    stopped = load(tmp_path / "run").iteration
    assert f"Interrupted after iteration {stopped};" in out
    assert read_metrics(tmp_path / "run" / "metrics.jsonl")[-1]["iteration"] == stopped
    assert resume(tmp_path / "run", iterations=stopped + 2).run.iteration == stopped + 2


def test_the_second_signal_stops_at_once() -> None:
    """Even in the middle of a call that returns to Python only much later, as a compilation does."""
    program = (
        "import hashlib\n"
        "from surefoot.experiment.interrupts import Interrupts\n"
        "with Interrupts():\n"
        "    print('ready', flush=True)\n"
        "    hashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)\n"  # a quarter of an hour
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        time.sleep(1.0)
        assert process.poll() is None, "the first signal only asks"
        process.send_signal(signal.SIGINT)
        try:
            assert process.wait(timeout=60) == 130
        finally:
            process.kill()


def test_a_forked_process_has_its_own_signals() -> None:
    """As an environment may start one: it ends by a signal that is sent to it, which the training does not
    hear, and one that lives on does not hold training up."""
    program = (
        "import os, signal, time\n"
        "from surefoot.experiment.interrupts import Interrupts\n"
        "parent, children = os.getpid(), []\n"
        "with Interrupts() as interrupts:\n"
        "    for _ in range(2):\n"
        "        if os.getpid() == parent:\n"
        "            children.append(os.fork())\n"
        "    if os.getpid() != parent:\n"
        "        time.sleep(600)\n"
        "    os.kill(children[0], signal.SIGTERM)\n"
        "    print(os.WTERMSIG(os.waitpid(children[0], 0)[1]), interrupts.received)\n"
        "os.kill(children[1], signal.SIGKILL)\n"
        "print('ended')\n"
    )
    options = {"capture_output": True, "text": True, "timeout": 120, "start_new_session": True}
    done = subprocess.run([sys.executable, "-c", program], check=True, **options)
    assert done.stdout.split() == ["15", "None", "ended"], done.stderr


def test_a_killed_process_leaves_a_run_that_resumes(training: subprocess.Popen[str], tmp_path: Path) -> None:
    training.kill()
    training.communicate()
    run = load(tmp_path / "run")
    assert run.iteration % 10 == 0
    assert resume(tmp_path / "run", iterations=run.iteration + 1).run.iteration == run.iteration + 1


def test_a_second_start_compiles_nothing_anew(tmp_path: Path) -> None:
    counted = (
        "import sys, jax\n"
        "misses = []\n"
        "jax.monitoring.register_event_listener(\n"
        "    lambda name, **_: misses.append(name) if name.endswith('cache_misses') else None)\n"
        "from surefoot.cli import run\n"
        "code = run(sys.argv[1:])\n"
        "print('misses', len(misses))\n"
        "sys.exit(code)\n"
    )
    environment = {name: value for name, value in os.environ.items() if "CACHE" not in name}
    environment["XDG_CACHE_HOME"] = str(tmp_path / "cache")
    found = []
    for name in ("first", "second"):
        train = [*TRAIN[:-1], "2", "--evaluation.tasks", "2", "--out", str(tmp_path / name)]
        done = subprocess.run(
            [sys.executable, "-c", counted, *train],
            capture_output=True,
            text=True,
            env=environment,
            check=True,
        )
        found += [int(n) for n in re.findall(r"misses (\d+)", done.stdout)]
    assert found[0] > 0
    assert found[1] == 0
