"""What happens to samplers when environments and workers fail, with real processes, signals and hangs."""

import gc
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import closing
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from support.careless_envs import STARTED
from support.faults import FOLDER, Fault, mark_of, pids, wait_until_gone
from surefoot.envs import Gymnasium
from surefoot.options import UserError
from surefoot.policies import AbstractPolicy, CategoricalMLP
from surefoot.samplers import BatchedSampler, ProcessSampler
from surefoot.samplers.messages import packed

ENV = Gymnasium("support.faults:Faulty", time_limit=6)
KEY = jax.random.key(5)
POLICY = CategoricalMLP(hidden=(4,)).build(jax.random.key(0), 2, ENV.action_space)
EPISODES = 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("faults")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(FOLDER, str(folder))
        yield folder


@pytest.fixture(scope="module")
def sampler(folder: Path) -> Iterator[ProcessSampler]:
    """Its workers have started, so that tasks count against the time limit alone."""
    sampler = ProcessSampler(ENV, EPISODES, workers=2, time_limit=4.0, attempts=2)
    for future in [sampler.submit(POLICY, task(Fault.NONE, i), KEY) for i in range(2)]:
        future.result()
    yield sampler
    sampler.close()


def task(fault: Fault, number: float = 0.0) -> jax.Array:
    return jnp.array([float(fault), number])


def error_of(sampler: ProcessSampler, fault: Fault) -> Any:
    return sampler.submit(POLICY, task(fault), KEY).exception(60)


@pytest.mark.parametrize("fault", [Fault.KILLED, Fault.HANGS])
def test_a_lost_worker_is_replaced_and_nothing_differs(sampler: ProcessSampler, fault: Fault):
    number = 10.0 + fault
    disturbed = sampler.submit(POLICY, task(fault, number), KEY).result(60)
    assert mark_of(number).exists()
    calm = sampler.submit(POLICY, task(fault, number), KEY).result(60)
    here = BatchedSampler(ENV, EPISODES, 1).submit(POLICY, task(fault, number), KEY).result()
    for a, b, c in zip(*map(jax.tree.leaves, (disturbed, calm, here)), strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)


def test_what_is_lost_in_every_attempt_is_an_error(sampler: ProcessSampler):
    told = str(error_of(sampler, Fault.ALWAYS_KILLED))
    assert told.startswith("Task [3. 0.] failed (2 attempts): the worker process was killed by SIGKILL. ")
    assert "lower --sampler.workers" in told


def test_an_exception_arrives_with_its_traceback_its_task_and_its_seed(sampler: ProcessSampler):
    error = error_of(sampler, Fault.RAISES)
    assert isinstance(error, UserError)
    for part in (
        "support.faults:Faulty: `step` raised ValueError: the wall",
        "at step 3",
        "task array([5., 0.]",
    ):
        assert part in str(error)
    assert "with the seed " in str(error)
    assert 'raise ValueError("the wall is too high")' in str(error.__cause__)
    assert "faults.py" in str(error.__cause__)
    assert any("[5. 0.] with the key" in note for note in error.__notes__)


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (Fault.NAN, "gave an observation that is not finite: array([nan, nan]"),
        (Fault.SHAPE, "gave an observation of shape (3,)"),
        (Fault.DTYPE, "gave an observation of dtype <U5"),
        (Fault.REWARD, "gave a reward of dtype object: None"),
        (Fault.EXITS, "SystemExit: 3"),
        (Fault.OLD, "gave (array("),
    ],
)
def test_what_cannot_be_learned_from_is_an_error(sampler: ProcessSampler, fault: Fault, told: str):
    assert told in str(error_of(sampler, fault))


def test_one_task_that_fails_spoils_no_other(sampler: ProcessSampler):
    before = pids(sampler.workers, 2)
    futures = [sampler.submit(POLICY, task(x), KEY) for x in (Fault.NONE, Fault.RAISES, Fault.NONE)]
    first, error, last = futures[0].result(), futures[1].exception(), futures[2].result()
    assert isinstance(error, UserError)
    np.testing.assert_array_equal(first.rewards, last.rewards)
    policies, tasks = jax.tree.map(lambda x: jnp.stack([x] * 2), (POLICY, task(Fault.RAISES)))
    with pytest.raises(UserError, match="the wall is too high"):
        sampler.sample(policies, tasks, KEY)
    assert pids(sampler.workers, 2) == before


class WithLambda(AbstractPolicy):
    function: Any

    def __call__(self, observations: Any) -> Any:
        return self.function(observations)


def test_what_cannot_be_sent_is_an_error(sampler: ProcessSampler):
    error = sampler.submit(WithLambda(lambda x: x), task(Fault.NONE), KEY).exception()
    assert isinstance(error, UserError)
    assert "Task [0. 0.] cannot be sent to another process" in str(error)
    assert "lambda" in str(error)


def test_closing_ends_everything_at_once_even_what_hangs(sampler: ProcessSampler):
    processes = pids(sampler.workers, 2)
    assert len(processes) == 2
    hanging = [sampler.submit(POLICY, task(Fault.ALWAYS_HANGS), KEY) for _ in range(2)]
    waiting = sampler.submit(POLICY, task(Fault.NONE), KEY)
    while not all(future.running() for future in hanging):
        time.sleep(0.01)
    sampler.close()
    assert waiting.cancelled()
    for future in hanging:
        assert isinstance(future.exception(1), CancelledError)
    assert wait_until_gone(list(processes), 0) == []
    assert multiprocessing.active_children() == []
    assert [thread.name for thread in threading.enumerate() if "surefoot" in thread.name] == []
    sampler.close()


def test_after_closing_work_begins_with_new_workers(sampler: ProcessSampler):
    sampler.close()
    future = sampler.submit(POLICY, task(Fault.NONE), KEY)
    assert future.result(60).rewards.shape == (EPISODES, 6)


def test_the_first_call_of_a_worker_has_the_time_limit_of_every_other(folder: Path):
    """Its process starts and compiles for longer than that; only the task counts."""
    with closing(ProcessSampler(ENV, EPISODES, workers=1, time_limit=1.0, attempts=1)) as fresh:
        assert fresh.submit(POLICY, task(Fault.NONE), KEY).result(120).rewards.shape == (EPISODES, 6)
    with closing(ProcessSampler(ENV, EPISODES, workers=1, time_limit=1.0, attempts=1)) as fresh:
        error = fresh.submit(POLICY, task(Fault.ALWAYS_HANGS), KEY).exception(120)
    assert "the worker process took longer than 1 seconds and was killed" in str(error)


def test_environments_are_closed_and_their_processes_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`close` is called before the worker ends, and what the environment leaves running is killed."""
    file = tmp_path / "started"
    monkeypatch.setenv(STARTED, str(file))
    env = Gymnasium("support.careless_envs:Starts", time_limit=3)
    sampler = ProcessSampler(env, 1, workers=1, time_limit=60.0, attempts=1)
    sampler.submit(POLICY, jnp.zeros(0), KEY).result(120)
    started = [int(line) for line in file.read_text().splitlines() if line.isdigit()]
    sampler.close()
    assert file.read_text().endswith("closed\n")
    for pid in started[:1]:  # that of this process, which examined the environment
        os.kill(pid, signal.SIGKILL)
    assert len(started) == 2
    assert wait_until_gone(started[1:], 5) == []


def test_what_travels_between_processes_is_freed():
    message = packed((POLICY, task(Fault.NONE)), "")
    for _ in range(3):
        unpickled = pickle.loads(message)
    assert isinstance(unpickled[0], type(POLICY))
    del unpickled
    gc.collect()
    before = len(jax.live_arrays())
    for _ in range(20):
        pickle.loads(message)
    gc.collect()
    assert len(jax.live_arrays()) == before


SCRIPT = """
import faulthandler, signal, sys, time
from functools import partial
from support.careless_envs import STARTED
from support.faults import hold_the_interpreter, pids, sleep
from surefoot.samplers.messages import packed
from surefoot.samplers.processes import ProcessBackend
from surefoot.samplers.remote import WorkerSetup
from surefoot.samplers.workers import Workers

if __name__ == "__main__":
    faulthandler.dump_traceback_later(50)  # seen if it hangs
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs ignore
    backend = partial(ProcessBackend, WorkerSetup.of(packed(int, "")))
    workers = Workers(backend, workers=2, attempts=3, time_limit=600, start_limit=600)
    print(*pids(workers, 2), flush=True)
    hang = hold_the_interpreter if sys.argv[1] == "hold" else sleep
    hanging = [workers.submit(hang, 3600.0) for _ in range(4)]
    print("hanging", flush=True)
    if sys.argv[1] != "exit":
        hanging[0].result()
"""


@pytest.mark.parametrize(
    ("how", "does", "code"),
    [
        ("exit", "exit", 0),
        ("SIGINT", "wait", -signal.SIGINT),
        ("SIGKILL", "wait", -signal.SIGKILL),
        ("SIGKILL", "hold", -signal.SIGKILL),
    ],
)
def test_workers_end_with_the_program_however_it_ends(tmp_path: Path, how: str, does: str, code: int):
    (tmp_path / "script.py").write_text(SCRIPT)
    paths = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    with subprocess.Popen(
        [sys.executable, str(tmp_path / "script.py"), does],
        env={**os.environ, "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as program:
        assert program.stdout is not None
        workers = [int(word) for word in program.stdout.readline().split()]
        program.stdout.readline()
        if how == "SIGINT":
            # Python misses a signal that comes in the instant between its last look and a lock's wait; one
            # who sees nothing happen presses the keys again.
            for _ in range(4):
                time.sleep(2)
                if program.poll() is not None:
                    break
                os.killpg(program.pid, signal.SIGINT)  # as a terminal does
        elif how == "SIGKILL":
            program.kill()
        try:
            # Not `communicate`: a worker that is left over would keep the pipes open.
            assert program.wait(60) == code
        except subprocess.TimeoutExpired:
            os.killpg(program.pid, signal.SIGKILL)
            assert program.stderr is not None
            pytest.fail(f"It hangs:\n{program.stderr.read()}")
        finally:
            program.kill()
        assert len(workers) == 2
        assert wait_until_gone(workers, 5) == []
