"""Environments that are each broken in one way, and what the kit must say of them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from surefoot.envs import Step
from surefoot.types import Continuous


class Case(NamedTuple):
    env: type
    check: str
    phrase: str
    severity: str


ZOO: list[Case] = []


def broken(check: str, phrase: str, severity: str = "error") -> Callable[[type], type]:
    def register(env: type) -> type:
        ZOO.append(Case(env, check, phrase, severity))
        return env

    return register


class Result(NamedTuple):
    """As `Step`, but free to hold anything, with beartype too."""

    state: Any
    observation: Any
    reward: Any
    terminated: Any


@dataclass(frozen=True)
class Sound:
    """Sound without being a subclass of anything."""

    horizon: int = 5

    observation_space = 2
    action_space = Continuous(2)
    time_limit_ends_return = True

    def sample_tasks(self, key, n):
        return jax.random.uniform(key, (n, 2))

    def reset(self, key, task):
        start = 0.1 * jax.random.normal(key, (2,))
        return start, start

    def step(self, key, state, action, task):
        position = state + jnp.clip(action, -1.0, 1.0)
        return Result(position, position, -jnp.sum(jnp.abs(position - task)), jnp.zeros((), bool))


def replaced(**fields: Any) -> Callable[..., Result]:
    """A step whose result has some fields replaced by constants."""
    return lambda self, key, state, action, task: Sound.step(self, key, state, action, task)._replace(
        **fields
    )


@broken("attributes", "`observation_space` is 0")
class NoObservations(Sound):
    observation_space = 0


@broken("attributes", "`observation_space` is a method")
class ForgottenProperty(Sound):
    def observation_space(self):
        return 2


@broken("attributes", "`action_space` is 2")
class ActionSpaceIsANumber(Sound):
    action_space = 2


@broken("attributes", "`action_space` raised ZeroDivisionError: integer division or modulo by zero at")
class FailingProperty(Sound):
    @property
    def action_space(self):
        return Continuous(1 // 0)


@broken("attributes", "`horizon` is -1")
class NoHorizon(Sound):
    horizon = -1

    def __init__(self):
        pass


@broken("attributes", "`time_limit_ends_return` is 1")
class TimeLimitIsANumber(Sound):
    time_limit_ends_return = 1


@broken("attributes", "`time_limit_ends_return` is missing")
@dataclass(frozen=True)
class NoTimeLimit:
    horizon: int = 5
    observation_space = 2
    action_space = Continuous(2)
    sample_tasks, reset, step = Sound.sample_tasks, Sound.reset, Sound.step


@broken("methods", "`reset` is missing")
class NoReset(Sound):
    reset = None


@broken("immutable", "cannot be hashed")
@dataclass
class NotFrozen:
    horizon: int = 5
    observation_space = 2
    action_space = Continuous(2)
    time_limit_ends_return = True
    sample_tasks, reset, step = Sound.sample_tasks, Sound.reset, Sound.step


@broken("immutable", "`horizon` can be assigned to")
class NoDataclass:
    horizon = 5
    observation_space = 2
    action_space = Continuous(2)
    time_limit_ends_return = True
    sample_tasks, reset, step = Sound.sample_tasks, Sound.reset, Sound.step


@broken("tasks have a leading axis", "`task['goal']` as float32[2], without a leading 1")
class SqueezesOneTask(Sound):
    def sample_tasks(self, key, n):
        return {"goal": jnp.squeeze(Sound.sample_tasks(self, key, n))}


@broken("tasks have a leading axis", "returns no arrays")
class NoTasks(Sound):
    def sample_tasks(self, key, n):
        return ()


@broken("tasks have a leading axis", "is a NumPy float64[3,2], not a JAX array")
class NumPyTasks(Sound):
    def sample_tasks(self, key, n):
        return np.linspace(0.0, 1.0, 2 * n).reshape(n, 2)


@broken("tasks follow the key", "All tasks of the family are the same", "warning")
class OneTask(Sound):
    def sample_tasks(self, key, n):
        return jnp.ones((n, 2))


@broken("tasks follow the key", "the same tasks for different keys")
class FixedTasks(Sound):
    def sample_tasks(self, key, n):
        return jax.random.uniform(jax.random.key(0), (n, 2))


@broken("reset returns", "`reset` returns `observation` as float32[3]; it must be float32[2]")
class LongFirstObservation(Sound):
    def reset(self, key, task):
        return jnp.zeros(2), jnp.zeros(3)


@broken("reset returns", "`state['steps']` is a Python int, not a JAX array")
class CountsInPython(Sound):
    def reset(self, key, task):
        start, observation = Sound.reset(self, key, task)
        return {"steps": 0, "position": start}, observation

    def step(self, key, state, action, task):
        result = Sound.step(self, key, state["position"], action, task)
        return result._replace(state={"steps": state["steps"] + 1, "position": result.state})


@broken("reset returns", "`reset` returns `state['name']`, a Python str")
class StateHoldsText(Sound):
    def reset(self, key, task):
        return {"name": "start"}, jnp.zeros(2)


@broken("reset returns", "not a pair")
class ObservationAlone(Sound):
    def reset(self, key, task):
        return jnp.zeros(2)


@broken("reset returns", "`reset` raised TypeError: ")
class WrongArguments(Sound):
    def reset(self, task):
        return jnp.zeros(2), jnp.zeros(2)


@broken("step returns", "`reward` as int32[]; it must be float32[]")
class IntegerReward(Sound):
    step = replaced(reward=jnp.ones((), jnp.int32))


@broken("step returns", "`reward` as float32[1]; it must be float32[]")
class RewardHasAnAxis(Sound):
    step = replaced(reward=jnp.ones(1))


@broken("step returns", "`observation` as a NumPy float64[2]; it must be float32[2]")
class DoubleObservation(Sound):
    step = replaced(observation=np.zeros(2))


@broken("step returns", "`terminated` as a Python bool; it must be bool[]")
class PythonBool(Sound):
    step = replaced(terminated=False)


@broken("step returns", "`step` returns a Python tuple, which has no `state`")
class GymnasiumTuple(Sound):
    def step(self, key, state, action, task):
        return state, 0.0, False, False, {}


@broken("step returns", "assigns to one of its own attributes")
class CountsInItself(Sound):
    def step(self, key, state, action, task):
        self.horizon = self.horizon + 1
        return Sound.step(self, key, state, action, task)


@broken("state keeps its form", "`state` changes from float32[2] to int32[2]")
class StateChangesDtype(Sound):
    step = replaced(state=jnp.zeros(2, jnp.int32))


@broken("state keeps its form", "structure of `state` changes")
class StateGrows(Sound):
    def step(self, key, state, action, task):
        result = Sound.step(self, key, jnp.zeros(2), action, task)
        return result._replace(state=(state, action))


@broken("sample tasks is pure", "`sample_tasks` gives different results for the same arguments")
class NumPyRandomTasks(Sound):
    def sample_tasks(self, key, n):
        return jnp.asarray(np.random.uniform(size=(n, 2)), jnp.float32)


@broken("reset is pure", "`reset` gives different results for the same arguments")
class NumPyRandomStart(Sound):
    def reset(self, key, task):
        start = jnp.asarray(np.random.normal(size=2), jnp.float32)
        return start, start


@broken("step is pure", "`step` gives other results under jit than without")
class LooksWhetherItIsTraced(Sound):
    def step(self, key, state, action, task):
        if isinstance(state, jax.core.Tracer):
            state = state + 1.0
        return Sound.step(self, key, state, action, task)


@broken("step is pure", "uses Python `if`, `while`, `and`, `or`, `not` or `assert` on a traced value at")
class PythonIf(Sound):
    def step(self, key, state, action, task):
        if jnp.sum(state) > 1.0:
            state = jnp.zeros_like(state)
        return Sound.step(self, key, state, action, task)


@broken("step is pure", "hands a traced value to NumPy")
class UsesNumPy(Sound):
    def step(self, key, state, action, task):
        return Sound.step(self, key, jnp.asarray(np.tanh(np.asarray(state))), action, task)


@broken("step is pure", "needs the number behind a traced value")
class UsesFloat(Sound):
    def step(self, key, state, action, task):
        return Sound.step(self, key, state * float(state[0]), action, task)


@broken("step is pure", "uses a traced value as a Python integer")
class IndexesAList(Sound):
    def step(self, key, state, action, task):
        speed = [0.1, 0.2][jnp.astype(state[0] > 0, jnp.int32)]
        return Sound.step(self, key, state, speed * action, task)


@broken("step is pure", "selects with a traced mask")
class SelectsWithAMask(Sound):
    def step(self, key, state, action, task):
        result = Sound.step(self, key, state, action, task)
        return result._replace(reward=jnp.sum(task[task > state]))


@jax.custom_batching.custom_vmap
def _halved(x):
    return 0.5 * x


@_halved.def_vmap
def _(axis_size, in_batched, x):
    return x, True


@broken("maps over tasks", "An episode side by side with those of other tasks differs")
class WrongRuleForVmap(Sound):
    def step(self, key, state, action, task):
        return Sound.step(self, key, state, _halved(jnp.clip(action, -1.0, 1.0)), task)


@broken("stays finite", "Among the rewards of random episodes there are NaN or infinite values")
class LogarithmOfANegative(Sound):
    def step(self, key, state, action, task):
        result = Sound.step(self, key, state, action, task)
        return result._replace(reward=jnp.log(result.state[0]))


@broken("survives extreme actions", "The action [1000000.0, 1000000.0] leads to NaN or infinite values")
class DoesNotClip(Sound):
    def step(self, key, state, action, task):
        return Sound.step(self, key, state, action, task)._replace(reward=-jnp.sum(jnp.exp(action)))


@broken("depends on the task", "do not depend on the task", "warning")
class IgnoresTheTask(Sound):
    def step(self, key, state, action, task):
        return Sound.step(self, key, state, action, jnp.zeros(2))


@broken("leaves the time limit to the sampler", "terminates at the horizon, and none before", "warning")
class ReportsItsTimeLimit(Sound):
    def reset(self, key, task):
        start, observation = Sound.reset(self, key, task)
        return (start, jnp.zeros((), jnp.int32)), observation

    def step(self, key, state, action, task):
        position, time = state
        result = Sound.step(self, key, position, action, task)
        return result._replace(state=(result.state, time + 1), terminated=time + 1 >= self.horizon)


@broken("keeps no state", "The attribute `calls` changed while methods were called")
class CountsItsCalls(Sound):
    def step(self, key, state, action, task):
        object.__setattr__(self, "calls", getattr(self, "calls", 0) + 1)
        return Sound.step(self, key, state, action, task)


class StepIntegerReward(Sound):
    """With the library's own `Step`, which beartype checks when it is built."""

    def step(self, key, state, action, task):
        return Step(state, state, jnp.ones((), jnp.int32), jnp.zeros((), bool))


class StepFlatState(Sound):
    def step(self, key, state, action, task):
        return Step(state, jnp.zeros((2, 1)), jnp.ones(()), jnp.zeros((), bool))
