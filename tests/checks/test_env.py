import inspect
import json
import subprocess
import sys
from functools import cached_property
from pathlib import Path

import jax.numpy as jnp
import pytest

from checks.zoo import ZOO, Sound, StepFlatState, StepIntegerReward
from support.wrappers import WrappedEnv
from surefoot import envs
from surefoot.checks import check_env
from surefoot.checks.env import EnvChecks
from surefoot.checks.problem import checks_of, collect
from surefoot.types import Discrete

EXPORTED = [
    x
    for x in vars(envs).values()
    if inspect.isclass(x) and issubclass(x, envs.AbstractEnv) and not inspect.isabstract(x)
]


@pytest.mark.parametrize("env", EXPORTED)
def test_the_library_keeps_its_own_contract(env):
    assert check_env(env()) == []
    assert check_env(WrappedEnv(env())) == []


def test_a_subclass_of_nothing_is_sound():
    assert check_env(Sound()) == []


@pytest.mark.parametrize("case", ZOO, ids=lambda case: case.env.__name__)
def test_each_fault_is_found(case):
    problems = collect(EnvChecks(case.env()), case.check)
    found = {(p.check, p.severity): p for p in problems if case.phrase in p.what}
    assert (case.check, case.severity) in found
    problem = found[case.check, case.severity]
    assert all(part.endswith(".") for part in (problem.what, problem.why, problem.remedy))


def test_every_check_has_an_example():
    assert set(checks_of(EnvChecks)) == {case.check for case in ZOO}


def test_all_faults_are_found_at_once():
    class Many(Sound):
        time_limit_ends_return = None
        observation_space = 3

        def step(self, key, state, action, task):
            if state[0] > 100.0:
                state = state + 1.0
            return Sound.step(self, key, state, action, task)

    found = " ".join(p.what for p in check_env(Many()))
    for words in ("`time_limit_ends_return`", "float32[3]", "Python `if`"):
        assert words in found


def test_a_line_of_the_users_file_is_named():
    class Fails(Sound):
        def reset(self, key, task):
            raise ValueError("no start")

    line = inspect.getsourcelines(Fails.reset)[1] + 1
    (problem,) = check_env(Fails())
    assert problem.what.endswith(f"tests/checks/test_env.py:{line}.")
    assert "`reset` raised ValueError: no start at" in problem.what


def test_a_class_is_not_an_instance():
    (problem,) = check_env(Sound)
    assert "Sound is a class, not an environment" in problem.what


def test_discrete_actions_are_int32_scalars():
    class Arms(Sound):
        action_space = Discrete(3)

        def step(self, key, state, action, task):
            assert (action.shape, action.dtype) == ((), "int32")
            return Sound.step(self, key, state, task[action % 2] * state, task)

    assert check_env(Arms()) == []


def test_a_family_of_one_task_may_have_empty_arrays():
    class Single(Sound):
        def sample_tasks(self, key, n):
            return jnp.zeros((n, 0))

        def step(self, key, state, action, task):
            return Sound.step(self, key, state, action, state)

    assert check_env(Single()) == []


def test_a_cached_property_is_no_state():
    class Cached(Sound):
        @cached_property
        def table(self):
            return (1.0, 2.0)

        def step(self, key, state, action, task):
            return Sound.step(self, key, state * self.table[0], action, task)

    assert check_env(Cached()) == []


def test_failed_shape_checks_are_one_line():
    (problem,) = check_env(StepIntegerReward())
    assert "`step` raised TypeCheckError: Type-check error" in problem.what
    assert "\n" not in problem.what
    (problem,) = check_env(StepFlatState())
    assert problem.what == "`step` returns `observation` as float32[2,1]; it must be float32[2]."


def test_the_same_faults_are_found_without_beartype():
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r})\n"
        "import json\n"
        "from checks.zoo import PythonIf, Sound, StepFlatState, StepIntegerReward\n"
        "from surefoot.checks import check_env\n"
        "envs = (Sound, StepIntegerReward, StepFlatState, PythonIf)\n"
        "print(json.dumps([[p.what for p in check_env(env())] for env in envs]))\n"
    )
    told = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    assert told[0] == []
    assert told[1] == ["`step` returns `reward` as int32[]; it must be float32[]."]
    assert told[2] == ["`step` returns `observation` as float32[2,1]; it must be float32[2]."]
    assert "uses Python `if`" in told[3][0]
