"""Against a real cluster of two nodes on this machine."""

import importlib.util
import os
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from support.faults import FOLDER, Fault, mark_of, sleep, stay
from support.processes import listening
from surefoot.envs import Gymnasium
from surefoot.options import UserError
from surefoot.policies import CategoricalMLP
from surefoot.samplers import BatchedSampler
from surefoot.samplers.ray import Connection, RaySampler, library

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed"),
    # The cluster's processes are started from here.
    pytest.mark.filterwarnings(r"ignore:os\.fork\(\) was called:RuntimeWarning"),
]

ENV = Gymnasium("support.faults:Faulty", time_limit=6)
KEY = jax.random.key(5)
POLICY = CategoricalMLP(hidden=(4,)).build(jax.random.key(0), 2, ENV.action_space)
EPISODES = 2
_MEMORY = 100 * 2**20


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Its head, and a node that a test removes; each has one core."""
    library()
    cluster_utils = importlib.import_module("ray.cluster_utils")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(FOLDER, str(tmp_path_factory.mktemp("faults")))
        paths = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
        node = {"num_cpus": 1, "object_store_memory": _MEMORY}
        cluster = cluster_utils.Cluster(True, head_node_args={**node, "include_dashboard": False})
        cluster.second = cluster.add_node(**node)
        yield cluster
        cluster.shutdown()


@pytest.fixture(scope="module")
def sampler(cluster: Any) -> Iterator[RaySampler]:
    options: dict[str, Any] = {"time_limit": 4.0, "attempts": 3, "address": cluster.address}
    sampler = RaySampler(ENV, EPISODES, workers=2, **options)
    yield sampler
    sampler.close()
    assert not library().is_initialized()


def task(fault: Fault, number: float = 0.0) -> jax.Array:
    return jnp.array([float(fault), number])


def assert_calm(rollout: Any, task: jax.Array) -> None:
    here = BatchedSampler(ENV, EPISODES, 1).submit(POLICY, task, KEY).result()
    for a, b in zip(jax.tree.leaves(rollout), jax.tree.leaves(here), strict=True):
        np.testing.assert_array_equal(a, b)


def test_tasks_are_sampled_elsewhere(sampler: RaySampler):
    tasks = [task(Fault.NONE, i) for i in range(4)]
    futures = [sampler.submit(POLICY, x, KEY) for x in tasks]
    for future, x in zip(futures, tasks, strict=True):
        assert_calm(future.result(90), x)


@pytest.mark.parametrize("address", ["", None])
def test_no_address_is_a_cluster_of_this_machine_alone(address: str | None):
    assert Connection(address, 1)._starts


def test_a_cluster_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch):
    def fails(*_: Any, **__: Any) -> None:
        raise ConnectionError("Could not find any running Ray instance.")

    monkeypatch.setattr(library(), "is_initialized", lambda: False)
    monkeypatch.setattr(library(), "init", fails)
    with pytest.raises(UserError, match=r"at 'auto': Could not find any running Ray instance\. Start"):
        Connection("auto", 1).open()


def test_an_exception_arrives_with_its_traceback(sampler: RaySampler):
    error = sampler.submit(POLICY, task(Fault.RAISES), KEY).exception(60)
    assert isinstance(error, UserError)
    assert "raised ValueError: the wall is too high" in str(error)
    assert 'raise ValueError("the wall is too high")' in str(error.__cause__)


@pytest.mark.parametrize("fault", [Fault.KILLED, Fault.HANGS])
def test_a_lost_process_is_replaced_and_nothing_differs(sampler: RaySampler, fault: Fault):
    disturbed = task(fault, 20.0 + fault)
    rollout = sampler.submit(POLICY, disturbed, KEY).result(240)
    assert mark_of(20.0 + fault).exists()
    assert_calm(rollout, disturbed)


def test_a_lost_node_is_done_without_and_nothing_differs(cluster: Any, sampler: RaySampler, tmp_path: Path):
    both = [sampler.workers.submit(stay, str(tmp_path), 3.5) for _ in range(2)]
    tasks = [task(Fault.NONE, i) for i in range(3)]
    futures = [sampler.submit(POLICY, x, KEY) for x in tasks]
    while len(list(tmp_path.iterdir())) < 2:
        time.sleep(0.05)
    cluster.remove_node(cluster.second)
    for future in both:
        assert future.result(60) == 3.5
    # One of the two began again, unless a busy machine took longer to lose its node than they to end.
    assert len(list(tmp_path.iterdir())) in (2, 3)
    for future, x in zip(futures, tasks, strict=True):
        assert_calm(future.result(60), x)


def test_closing_leaves_the_cluster_and_no_thread(cluster: Any, sampler: RaySampler):
    hanging = [sampler.workers.submit(sleep, 3600.0) for _ in range(3)]
    while not hanging[0].running():
        time.sleep(0.05)
    sampler.close()
    assert all(future.done() for future in hanging)
    assert [thread.name for thread in threading.enumerate() if "surefoot" in thread.name] == []
    assert_calm(sampler.submit(POLICY, task(Fault.NONE), KEY).result(60), task(Fault.NONE))


@pytest.mark.filterwarnings("error")
def test_a_cluster_of_its_own_is_started_and_ended(sampler: RaySampler):
    sampler.close()
    before = listening(os.getpid())
    with closing(RaySampler(ENV, EPISODES, workers=1, time_limit=60.0, attempts=1)) as own:
        assert_calm(own.submit(POLICY, task(Fault.NONE), KEY).result(90), task(Fault.NONE))
        new = {socket: at for socket, at in listening(os.getpid()).items() if socket not in before}
        assert new, "the cluster's processes listen somewhere"
        assert [at for at in new.values() if not at.is_loopback] == []
    assert not library().is_initialized()
