"""Tiny runs under JAX's debugging flags, each in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

_TINY = [
    "--quiet",
    "--iterations",
    "1",
    "--policy.hidden",
    "4",
    "--evaluation.episodes",
    "2",
    "--evaluation.tasks",
    "1",
]
_PPO = [
    "--streams",
    "2",
    "--steps",
    "8",
    "--rule.minibatches",
    "2",
    "--rule.epochs",
    "1",
    "--estimation.baseline.minibatches",
    "2",
]
_RUNS = {
    "cartpole": ["cartpole/ppo", *_PPO, "--env.time-limit", "6"],
    "gymnasium": ["gym:Pendulum-v1/ppo", *_PPO, "--sampler", "in-process", "--env.time-limit", "6"],
    "navigation": ["navigation-2d", "--env.horizon", "3", "--tasks", "2", "--episodes", "2"],
}
_CASES = [
    (flag, name)
    for flag in ("JAX_DEBUG_NANS", "JAX_DISABLE_JIT", "JAX_ENABLE_X64")
    for name in _RUNS
    if flag != "JAX_DISABLE_JIT" or name == "cartpole"  # the others would take minutes
]


@pytest.mark.parametrize(("flag", "name"), _CASES, ids=["-".join(case) for case in _CASES])
def test_a_run_under_a_flag_of_jax(flag: str, name: str, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "surefoot",
        "train",
        *_RUNS[name],
        *_TINY,
        "--out",
        str(tmp_path / "run"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {flag: "1"}, timeout=900)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "run" / "evaluation.json").exists()
