import inspect
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surefoot import algorithms
from surefoot.algorithms import GradientAdapter, LearnerState, policy_objective
from surefoot.checks import check_algorithm
from surefoot.checks.algorithm import AlgorithmChecks
from surefoot.checks.problem import checks_of, collect
from surefoot.options import UserError
from surefoot.rules import GradientStep

EXPORTED = [
    x
    for x in vars(algorithms).values()
    if inspect.isclass(x) and issubclass(x, algorithms.AbstractAlgorithm) and not inspect.isabstract(x)
]
ZOO = []


def broken(check: str, phrase: str) -> Any:
    def register(algorithm: Any) -> Any:
        ZOO.append(pytest.param(algorithm, check, phrase, id=algorithm.__name__))
        return algorithm

    return register


@dataclass(frozen=True)
class Sound:
    """Random search: the parameters move at random, by the mean reward. A subclass of nothing."""

    rate: float = 0.1
    adapts = False
    adaptation_rule = None

    def policy_space(self, space):
        return space

    def in_one_program(self, setting, state):
        return False

    def init(self, setting, policy, key):
        task = setting.sampler.env.sample_tasks(key, 1)
        return LearnerState(
            policy, setting.estimator.init(key, setting.sampler.env)[1], (None,), {"task": task}
        )

    def iterate(self, setting, state, key):
        task = jax.tree.map(lambda x: x[0], state.own["task"])
        _, rollout = setting.sampler.collect(state.policy, task, None, key)
        reward = jnp.mean(rollout.rewards)
        return self.moved(state, key, reward), {"return": reward, "loss": -reward}

    def moved(self, state, key, reward):
        arrays, rest = eqx.partition(state.policy, eqx.is_inexact_array)
        moved = jax.tree.map(lambda x: x + self.rate * reward * jax.random.normal(key, x.shape), arrays)
        return replace(state, policy=eqx.combine(moved, rest))

    def adapter(self, estimator, state, rule=None):
        return GradientAdapter.of(estimator, state, GradientStep(), policy_objective("reinforce"), 0)

    def evaluation_tasks(self, env, state, key, n):
        return env.sample_tasks(key, n)

    def learned(self, state):
        return state.policy


@broken("options", "`iterate` is missing")
class NoIteration(Sound):
    iterate = None


@broken("options", "`adapts` is 1; it must be True or False")
class SaysItWithANumber(Sound):
    adapts = 1


@broken("init", "It refuses every problem of this check")
class RefusesAll(Sound):
    def init(self, setting, policy, key):
        raise UserError("Not here.")


@broken("init", "`init` gives a Python dict as its state")
class NoState(Sound):
    def init(self, setting, policy, key):
        return {"policy": policy}


@broken("init", "`init` gives another state with the same arguments")
class DrawsForItself(Sound):
    def init(self, setting, policy, key):
        own = {"task": jnp.asarray(np.random.default_rng().normal(size=(1, 2)), jnp.float32)}
        return replace(super().init(setting, policy, key), own=own)


@broken("iteration keeps the form of the state", "changes from float32[1,2] to float32[2,2]")
class Grows(Sound):
    def iterate(self, setting, state, key):
        state, metrics = super().iterate(setting, state, key)
        return replace(state, own={"task": jnp.zeros((2, 2))}), metrics


@broken("policy changes", "The policy is the same after 3 iterations")
class NeverLearns(Sound):
    def moved(self, state, key, reward):
        return state


@broken("metrics", "The metrics have no `loss`")
class NoLoss(Sound):
    def iterate(self, setting, state, key):
        return state, {"return": jnp.zeros(())}


@broken("metrics", "The metric `return` is nan")
class UnknownReturn(Sound):
    def iterate(self, setting, state, key):
        return state, {"return": jnp.asarray(jnp.nan), "loss": jnp.zeros(())}


@broken("metrics", "The metric `loss` is float32[3]")
class ManyLosses(Sound):
    def iterate(self, setting, state, key):
        return state, {"return": jnp.zeros(()), "loss": jnp.zeros(3)}


@broken("metrics", "A metric is named 'My Loss'")
class NamedFreely(Sound):
    def iterate(self, setting, state, key):
        return state, {"return": jnp.zeros(()), "loss": jnp.zeros(()), "My Loss": jnp.zeros(())}


@broken("follows from its key", "something else with the same state and key")
class HasADie(Sound):
    def iterate(self, setting, state, key):
        return super().iterate(setting, state, jax.random.key(int(np.random.default_rng().integers(2**31))))


@broken("follows from its key", "the same policy whatever the key is")
class IgnoresTheKey(Sound):
    def iterate(self, setting, state, key):
        return super().iterate(setting, state, jax.random.key(0))


@broken("goes on from a checkpoint", "otherwise from a state that was saved and restored")
@dataclass(frozen=True)
class RemembersWhatItMade(Sound):
    made: dict = field(default_factory=dict, hash=False, compare=False)

    def iterate(self, setting, state, key):
        number = self.made.get(id(state.own["task"]), 0)
        following, metrics = super().iterate(setting, state, jax.random.fold_in(key, number))
        own = {"task": jnp.array(state.own["task"])}
        self.made[id(own["task"])] = number + 1
        return replace(following, own=own), metrics


@broken("adapter", "The adapter's `steps` is None")
class AdapterWithoutSteps(Sound):
    def adapter(self, estimator, state, rule=None):
        sound = super().adapter(estimator, state)
        methods = {name: getattr(sound, name) for name in ("begin", "acting", "batch", "improve")}
        return SimpleNamespace(**methods)


@broken("adapter", "`adapter` raised")
class NoAdapter(Sound):
    def adapter(self, estimator, state, rule=None):
        raise NotImplementedError


@broken("evaluation tasks", "changes from float32[2,2] to float32[1,2]")
class OneTask(Sound):
    def evaluation_tasks(self, env, state, key, n):
        return env.sample_tasks(key, 1)


@broken("learned", "`learned` does not contain the policy")
class NothingLearned(Sound):
    def learned(self, state):
        return ()


@broken("keeps no state", "The attribute `calls` changed")
class Counts(Sound):
    def __init__(self):
        object.__setattr__(self, "calls", 0)
        object.__setattr__(self, "rate", 0.1)

    def iterate(self, setting, state, key):
        object.__setattr__(self, "calls", self.calls + 1)
        return super().iterate(setting, state, key)


@pytest.mark.parametrize("algorithm", EXPORTED, ids=lambda x: x.__name__)
def test_the_library_s_own_are_sound(algorithm: Any) -> None:
    assert check_algorithm(algorithm()) == []


def test_one_s_own_is_sound() -> None:
    assert check_algorithm(Sound()) == []


@pytest.mark.parametrize(("algorithm", "check", "phrase"), ZOO)
def test_each_fault_is_found(algorithm: Any, check: str, phrase: str) -> None:
    problems = collect(AlgorithmChecks(algorithm()), check)
    assert [p.severity for p in problems if phrase in p.what] == ["error"], problems


def test_every_check_can_fail() -> None:
    assert set(checks_of(AlgorithmChecks)) == {param.values[1] for param in ZOO}


def test_a_class_is_told() -> None:
    assert "is a class" in check_algorithm(Sound)[0].what
