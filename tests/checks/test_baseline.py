import inspect
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surefoot import baselines
from surefoot.checks import check_baseline
from surefoot.checks.baseline import BaselineChecks
from surefoot.checks.problem import checks_of, collect
from surefoot.options import UserError
from surefoot.theory.averages import valid_mean
from surefoot.types import is_image

EXPORTED = [
    x
    for x in vars(baselines).values()
    if inspect.isclass(x) and issubclass(x, baselines.AbstractBaseline) and not inspect.isabstract(x)
]
ZOO = []


def broken(check: str, phrase: str) -> Any:
    def register(baseline: Any) -> Any:
        ZOO.append(pytest.param(baseline, check, phrase, id=baseline.__name__))
        return baseline

    return register


@dataclass(frozen=True)
class Sound:
    """The mean return, a subclass of nothing."""

    is_iterative = False

    def init(self, key, observation_space, horizon):
        return jnp.zeros(())

    def fit(self, parameters, samples):
        return valid_mean(samples.returns, samples.valid)

    def values(self, parameters, observations, times):
        return jnp.broadcast_to(parameters, times.shape)


@broken("options", "`fit` is missing")
class NoFit(Sound):
    fit = None


@broken("options", "cannot be hashed")
@dataclass
class NotFrozen:
    is_iterative = False
    init, fit, values = Sound.init, Sound.fit, Sound.values


@broken("is stated", "`is_iterative` is missing")
@dataclass(frozen=True)
class SaysNothing:
    init, fit, values = Sound.init, Sound.fit, Sound.values


@broken("can be written down", "cannot be pickled")
@dataclass(frozen=True)
class HoldsAFunction(Sound):
    scale: Any = lambda x: x


@broken("can be written down", "The option `scale` is a NumPy float32")
@dataclass(frozen=True)
class HoldsAnArray(Sound):
    scale: Any = np.float32(1.0)


@broken("init follows from the key", "not a JAX array")
class StartsFromANumber(Sound):
    def init(self, key, observation_space, horizon):
        return 0.0


@broken("init follows from the key", "other parameters with the same key")
class DrawsForItself(Sound):
    def init(self, key, observation_space, horizon):
        return jnp.asarray(np.random.default_rng().normal(), jnp.float32)


@broken("observations", "For observations that are an image: `init` raised IndexError")
class KnowsVectorsAlone(Sound):
    def init(self, key, observation_space, horizon):
        if any(is_image(part) for part in jax.tree.leaves(observation_space)):
            raise IndexError("tuple index out of range")
        return jnp.zeros(())


@broken("observations", "For observations that are a dictionary: `values` raised")
class TakesThemForAnArray(Sound):
    def values(self, parameters, observations, times):
        return parameters + 0.0 * jnp.sum(observations.reshape(len(times), -1), axis=1)


@broken("a fit lowers the error", "After 20 fits the mean squared error is")
class NeverLearns(Sound):
    def fit(self, parameters, samples):
        return parameters


@broken("a fit lowers the error", "After 20 fits the mean squared error is")
class WrongSign(Sound):
    def fit(self, parameters, samples):
        return -Sound.fit(self, parameters, samples)


@broken("padding has no effect", "What is in the padding changes the fit")
class CountsPadding(Sound):
    def fit(self, parameters, samples):
        return jnp.mean(samples.returns)


@broken("a fit lowers the error", "`parameters` changes from float32[] to float32[6]")
class Grows(Sound):
    def fit(self, parameters, samples):
        return jnp.mean(samples.returns, axis=1)


@broken("a fit lowers the error", "it must be float32[6,8]")
class OneValueForAll(Sound):
    def values(self, parameters, observations, times):
        return parameters


@broken("a fit lowers the error", "`values` are not finite")
class DividesByZero(Sound):
    def values(self, parameters, observations, times):
        return parameters / times


@broken("a fit lowers the error", "uses Python `if`")
class UsesIf(Sound):
    def fit(self, parameters, samples):
        return samples.returns.max() if samples.returns.max() > 0 else parameters


@broken("keeps no state", "The attribute `seen` changed")
class Remembers(Sound):
    def __init__(self):
        object.__setattr__(self, "seen", 0)

    def fit(self, parameters, samples):
        object.__setattr__(self, "seen", self.seen + 1)
        return super().fit(parameters, samples)


class Refuses(Sound):
    def init(self, key, observation_space, horizon):
        if any(is_image(part) for part in jax.tree.leaves(observation_space)):
            raise UserError("Not images; use another.")
        return jnp.zeros(())


@pytest.mark.parametrize("baseline", EXPORTED, ids=lambda x: x.__name__)
def test_the_library_s_own_are_sound(baseline: Any) -> None:
    assert check_baseline(baseline()) == []


@pytest.mark.parametrize("baseline", [Sound(), Refuses()], ids=["sound", "refuses"])
def test_one_s_own_is_sound(baseline: Any) -> None:
    assert check_baseline(baseline) == []


@pytest.mark.parametrize(("baseline", "check", "phrase"), ZOO)
def test_each_fault_is_found(baseline: Any, check: str, phrase: str) -> None:
    problems = collect(BaselineChecks(baseline()), check)
    assert [p.severity for p in problems if phrase in p.what] == ["error"], problems


def test_every_check_can_fail() -> None:
    failing = {param.values[1] for param in ZOO}
    assert set(checks_of(BaselineChecks)) - failing == {"many tasks at once"}


def test_a_class_is_told() -> None:
    assert "is a class" in check_baseline(Sound)[0].what
