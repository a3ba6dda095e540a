"""Many runs on a Ray cluster of two nodes on this machine, one of which is lost."""

import importlib
import importlib.util
import os
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from support.dense import assert_same
from support.small import SMALL
from surefoot.algorithms import SingleTask
from surefoot.experiment import train, train_many
from surefoot.rules import OptaxStep
from surefoot.samplers.ray import library

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed"),
    pytest.mark.filterwarnings("default"),  # Ray's own
]

LONG = replace(SMALL, iterations=1500, checkpoint_every=50, checkpoints_kept=2)
CONFIGS = {
    f"rule.lr={lr}/seed000": replace(LONG, algorithm=SingleTask(rule=OptaxStep(lr=lr)))
    for lr in (0.1, 0.05, 0.02, 0.01)
}


def test_a_lost_node_is_done_without_and_nothing_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library()
    paths = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    node = {"num_cpus": 1, "object_store_memory": 100 * 2**20}
    cluster_utils = importlib.import_module("ray.cluster_utils")
    cluster = cluster_utils.Cluster(True, head_node_args={**node, "include_dashboard": False})
    second = cluster.add_node(**node)
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    out, lost = tmp_path / "out", threading.Event()

    def begun() -> int:
        return len({path.parent for path in out.rglob("*.ckpt") if int(path.stem)})

    def lose() -> None:
        while begun() < 2:
            time.sleep(0.02)
        cluster.remove_node(second)
        lost.set()

    thread = threading.Thread(target=lose, daemon=True)
    thread.start()
    try:
        outcome = train_many(CONFIGS, out, on="ray")
    finally:
        cluster.shutdown()
    assert lost.is_set(), "the node was lost while runs were under way"
    assert (outcome.failed, outcome.interrupted) == ([], None)
    for run in outcome.runs:
        alone = train(run.config, tmp_path / run.folder.path.parent.name).run
        assert_same(run.state, alone.state)
