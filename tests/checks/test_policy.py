import inspect
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from support.wrappers import WrappedPolicyOptions
from surefoot import policies
from surefoot.checks import check_policy
from surefoot.checks.policy import PolicyChecks
from surefoot.checks.problem import checks_of, collect
from surefoot.options import UserError
from surefoot.policies import CategoricalMLP, RecurrentActorCritic, with_role
from surefoot.theory.distributions import DiagonalGaussian
from surefoot.theory.objectives import Prediction
from surefoot.types import Continuous, Discrete, image, vector

EXPORTED = [
    x
    for x in vars(policies).values()
    if inspect.isclass(x) and issubclass(x, policies.PolicyOptions) and not inspect.isabstract(x)
]
ZOO = []


def broken(check, phrase):
    def register(options):
        ZOO.append(pytest.param(options, check, phrase, id=options.__name__))
        return options

    return register


class Linear(eqx.Module):
    weight: Any
    distribution: Any = eqx.field(static=True, default=DiagonalGaussian)
    is_recurrent = predicts_values = False

    def roles(self):
        return with_role(self, "adapted")

    def __call__(self, observations):
        mean = observations @ self.weight
        return self.distribution(mean, jnp.full_like(mean, -0.5))


@dataclass(frozen=True)
class Sound:
    """A linear Gaussian policy, a subclass of nothing."""

    def build(self, key, observation_space, action_space):
        if not isinstance(action_space, Continuous):
            raise UserError("Continuous actions only.")
        return self.policy(key, (observation_space, action_space.size))

    def policy(self, key, shape):
        return Linear(0.1 * jax.random.normal(key, shape), self.distribution)

    distribution = DiagonalGaussian


def around(base=DiagonalGaussian, **methods):
    """A Gaussian with some methods of its own."""
    return type("Odd", (base,), methods)


@broken("options", "`build` is missing")
class NoBuild(Sound):
    build = None


@broken("options", "cannot be hashed")
@dataclass
class NotFrozen:
    distribution: Any = DiagonalGaussian
    build, policy = Sound.build, Sound.policy


@broken(
    "serves", "For Discrete(n=3): `build` raised AttributeError: 'Discrete' object has no attribute 'size'"
)
class ForgetsToRefuse(Sound):
    def build(self, key, observation_space, action_space):
        return self.policy(key, (observation_space, action_space.size))


@broken("serves", "`build` refuses every action space")
class RefusesAll(Sound):
    def build(self, key, observation_space, action_space):
        raise UserError("No.")


@broken("serves", "which cannot be called")
class BuildsAnArray(Sound):
    def policy(self, key, shape):
        return jnp.zeros(shape)


@broken("states its capabilities", "`is_recurrent` is missing")
class SaysNothing(Sound):
    def policy(self, key, shape):
        return _Mean(0.1 * jax.random.normal(key, shape))


@broken("states its capabilities", "`predicts_values` is 0; it must be True or False")
class SaysItWithANumber(Sound):
    def policy(self, key, shape):
        return _Numbered(0.1 * jax.random.normal(key, shape))


class _Numbered(Linear):
    predicts_values = 0


@broken("states its capabilities", "`unroll` is missing, or is not a method")
class SaysItRemembers(Sound):
    def policy(self, key, shape):
        return _Forgetful(0.1 * jax.random.normal(key, shape))


class _Forgetful(Linear):
    is_recurrent = True


@broken("states its capabilities", "`auxiliary` is missing")
class SaysItPredictsValues(Sound):
    def policy(self, key, shape):
        return _Unvalued(0.1 * jax.random.normal(key, shape))


class _Unvalued(Linear):
    predicts_values = True


@broken("roles", "`roles` raised UserError: The roles of _Untold are adapted; `roles` must return")
class SaysRolesInAWord(Sound):
    def policy(self, key, shape):
        return _Untold(0.1 * jax.random.normal(key, shape))


class _Untold(Linear):
    def roles(self):
        return "adapted"


@broken("samples are made of noise", "`sample_from(noise(key))` is another action than `sample(key)`")
class SamplesApart(Sound):
    distribution = around(sample=lambda self, key: self.mean + jax.random.uniform(key, self.mean.shape))


@broken("samples are made of noise", "`noise` depends on the distribution's parameters")
class NoiseWithItsMean(Sound):
    distribution = around(
        noise=lambda self, key: self.mean + DiagonalGaussian.noise(self, key),
        sample_from=lambda self, noise: noise,
    )


@broken("build follows the key", "different parameters for the same key")
class NumPyParameters(Sound):
    def policy(self, key, shape):
        return Linear(jnp.asarray(np.random.normal(size=shape), jnp.float32))


@broken("has parameters", "`policy.weight` is float32[3,2] and not finite")
class StartsAtNaN(Sound):
    def policy(self, key, shape):
        return Linear(jnp.full(shape, jnp.nan))


class _Constant(eqx.Module):
    shape: tuple = eqx.field(static=True)
    distribution = DiagonalGaussian

    @property
    def weight(self):
        return jnp.full(self.shape, 0.1)

    __call__ = Linear.__call__


@broken("has parameters", "holds no floating-point arrays")
class NoParameters(Sound):
    def policy(self, key, shape):
        return _Constant(shape)


@broken("distribution has methods", "`log_prob` is missing")
class ReturnsTheMean(Sound):
    def policy(self, key, shape):
        return _Mean(0.1 * jax.random.normal(key, shape))


class _Mean(eqx.Module):
    weight: Any

    def __call__(self, observations):
        return observations @ self.weight


@broken("actions fit the space", "`mode` gives float32[]; it must be float32[2]")
class ModeIsANumber(Sound):
    distribution = around(mode=lambda self: self.mean[..., 0])


@broken(
    "actions fit the space",
    "For float32[3] observations and Discrete(n=3), `sample` gives float32[3]; it must be int32[]",
)
class GaussianForDiscrete(Sound):
    def build(self, key, observation_space, action_space):
        return self.policy(key, (observation_space, 3))


@broken("scores are sums", "`log_prob` is float32[2]; it must be float32[]")
class NotSummed(Sound):
    distribution = around(log_prob=lambda self, a: -0.5 * (a - self.mean) ** 2)


@broken("probabilities sum to one", "exp(log_prob) adds up to")
class AveragesDimensions(Sound):
    distribution = around(log_prob=lambda self, a: 0.5 * DiagonalGaussian.log_prob(self, a))


@broken("entropy is that of the samples", "`entropy` is")
class HalfTheEntropy(Sound):
    distribution = around(entropy=lambda self: 0.5 * DiagonalGaussian.entropy(self))


@broken("kl is that of the samples", "`kl` is")
class SquaredDistance(Sound):
    distribution = around(kl=lambda self, other: 3.0 * jnp.sum((self.mean - other.mean) ** 2, -1))


@broken("rows of a batch agree", "The distribution at row (0, 0) of a batch differs")
class NormalisesOverTheBatch(Sound):
    def policy(self, key, shape):
        return _Normalised(0.1 * jax.random.normal(key, shape))


class _Normalised(eqx.Module):
    weight: Any
    distribution = DiagonalGaussian

    def __call__(self, observations):
        axes = tuple(range(observations.ndim - 1))
        return Linear.__call__(self, observations - jnp.mean(observations, axes, keepdims=True))


@broken("gradient is finite", "The gradient of log_prob is zero")
class StopsTheGradient(Sound):
    distribution = around(log_prob=lambda self, a: DiagonalGaussian.log_prob(jax.lax.stop_gradient(self), a))


@broken("gradient is finite", "The gradient of log_prob is not finite")
class RootOfZero(Sound):
    distribution = around(
        log_prob=lambda self, a: (
            DiagonalGaussian.log_prob(self, a) + jnp.sqrt(jnp.sum((self.mean - self.mean) ** 2, axis=-1))
        )
    )


@broken(
    "compiles and vmaps", "uses Python `if`, `while`, `and`, `or`, `not` or `assert` on a traced value at"
)
class PythonIf(Sound):
    def policy(self, key, shape):
        return _Checking(0.1 * jax.random.normal(key, shape))


class _Checking(eqx.Module):
    weight: Any
    distribution = DiagonalGaussian

    def __call__(self, observations):
        if not isinstance(self.weight, jax.core.Tracer) or jnp.all(jnp.isfinite(self.weight)):
            return Linear.__call__(self, observations)
        raise ValueError("not finite")


@broken("compiles and vmaps", "the policy behaves otherwise")
class LooksWhetherItIsTraced(Sound):
    def policy(self, key, shape):
        return _Looking(0.1 * jax.random.normal(key, shape))


class _Looking(eqx.Module):
    weight: Any
    distribution = DiagonalGaussian

    def __call__(self, observations):
        shift = 1.0 if isinstance(self.weight, jax.core.Tracer) else 0.0
        return DiagonalGaussian(observations @ self.weight, jnp.full((*observations.shape[:-1], 2), shift))


class Filter(policies.AbstractRecurrentPolicy):
    """Remembers a running sum of what it saw, the past weighted less."""

    weight: Any

    def __call__(self, observations):
        starts = jnp.zeros(observations.shape[:-1], bool).at[..., 0].set(True)
        return self.unroll(observations, starts, jnp.zeros((*starts.shape[:-1], 2)))

    def initial_memory(self):
        return jnp.zeros(2)

    def act(self, observations, memory):
        memory = 0.5 * memory + observations @ self.weight
        return DiagonalGaussian(memory, jnp.full_like(memory, -0.5)), memory

    def unroll(self, observations, starts, memory):
        means = []
        for t in range(starts.shape[-1]):
            memory = jnp.where(starts[..., t, None], 0.0, memory)
            memory = self.act(observations[..., t, :], memory)[1]
            means.append(memory)
        mean = jnp.stack(means, axis=-2)
        return DiagonalGaussian(mean, jnp.full_like(mean, -0.5))


class Remembers(Sound):
    kind = Filter

    def policy(self, key, shape):
        return self.kind(0.5 * jax.random.normal(key, shape))


@broken("memory keeps its form", "`memory` is a Python float, not a JAX array")
class MemoryIsANumber(Remembers):
    class kind(Filter):  # noqa: N801  an attribute
        def initial_memory(self):
            return 0.0


@broken("memory keeps its form", "`memory` changes from float32[1] to float32[2]")
class MemoryGrows(Remembers):
    class kind(Filter):  # noqa: N801
        def initial_memory(self):
            return jnp.zeros(1)


@broken("memory keeps its form", "`act` returns a DiagonalGaussian, not a pair")
class ForgetsTheMemory(Remembers):
    class kind(Filter):  # noqa: N801
        def act(self, observations, memory):
            return Filter.act(self, observations, memory)[0]


@broken("rows are episodes", "Called on a row of observations, the policy differs from `act`")
class TakesEveryObservationForAnEpisode(Remembers):
    class kind(Filter):  # noqa: N801
        def __call__(self, observations):
            return self.act(observations, jnp.zeros(2))[0]


@broken("unrolling is acting", "`unroll` differs from `act`")
class RemembersOtherEpisodes(Remembers):
    class kind(Filter):  # noqa: N801
        def unroll(self, observations, starts, memory):
            return Filter.unroll(self, observations, starts & False, memory)


@broken("unrolling is acting", "`unroll` differs from `act`")
class IgnoresTheMemory(Remembers):
    class kind(Filter):  # noqa: N801
        def unroll(self, observations, starts, memory):
            return Filter.unroll(self, observations, starts, 0.0 * memory)


class Judging(policies.AbstractActorCritic):
    """One linear map for the actions, and their sum for the value."""

    weight: Any
    auxiliary: Any = eqx.field(static=True, default=None)

    def __call__(self, observations):
        return Linear.__call__(self, observations)

    distribution = DiagonalGaussian

    def values(self, observations):
        return jnp.sum(observations @ self.weight, axis=-1)

    def outputs(self, observations, actions):
        return Prediction(self(observations), self.values(observations))


class Judges(Remembers):
    kind = Judging


@broken("values are numbers", "`values` gives float32[1]; it must be finite float32[]")
class ValuesHaveAnAxis(Judges):
    class kind(Judging):  # noqa: N801
        def values(self, observations):
            return Judging.values(self, observations)[..., None]


@broken("values are numbers", "`values` gives float32[], not finite")
class ValuesAreNaN(Judges):
    class kind(Judging):  # noqa: N801
        def values(self, observations):
            return jnp.nan * Judging.values(self, observations)


@broken("outputs agree", "or other values than `values`")
class TwoKindsOfValues(Judges):
    class kind(Judging):  # noqa: N801
        def outputs(self, observations, actions):
            return Prediction(self(observations), 1.0 + self.values(observations))


@broken("outputs agree", "another distribution than `__call__`")
class TwoKindsOfActions(Judges):
    class kind(Judging):  # noqa: N801
        def outputs(self, observations, actions):
            return Prediction(self(observations + 1.0), self.values(observations))


@broken("outputs agree", "`auxiliary` is None, but `outputs` gives float32[2,3,2]")
class PredictsForNothing(Judges):
    class kind(Judging):  # noqa: N801
        def outputs(self, observations, actions):
            return Prediction(self(observations), self.values(observations), actions)


class RecallingJudge(policies.RecurrentActorCriticPolicy):
    """The library's, with one method to be broken."""

    def unroll_values(self, observations, next_observations, starts, memory):
        """As if nothing came before the next observation."""
        now, _ = super().unroll_values(observations, next_observations, starts, memory)
        return now, super().unroll_values(next_observations, observations, starts | True, memory)[0]


@broken("unrolled outputs agree", "`unroll_outputs` or `unroll_values` differs")
@dataclass(frozen=True)
class ForgetsBeforeTheNextValue:
    def build(self, key, observation_space, action_space):
        built = policies.RecurrentActorCritic(units=4).build(key, observation_space, action_space)
        return RecallingJudge(built.encoder, built.cell, built.actor, built.critic)


SMALL = {
    **{options.__name__: options() for options in EXPORTED},
    "PredictReward": policies.ActorCritic(auxiliary=policies.PredictReward()),
    "FullCovariance": policies.GaussianMLP(covariance="full"),
    "PredictNextObservation": policies.ActorCritic(auxiliary=policies.PredictNextObservation()),
}


@pytest.mark.parametrize("options", SMALL.values(), ids=SMALL)
def test_the_library_keeps_its_own_contract(options):
    assert check_policy(options) == []
    assert check_policy(WrappedPolicyOptions(options)) == []


@pytest.mark.parametrize("options", [Remembers(), Judges()])
def test_policies_that_remember_or_judge_are_sound(options):
    assert check_policy(options) == []


def test_a_subclass_of_nothing_is_sound():
    assert check_policy(Sound()) == []


@pytest.mark.parametrize(("options", "check", "phrase"), ZOO)
def test_each_fault_is_found(options, check, phrase):
    space = Discrete(3) if options is GaussianForDiscrete else Continuous(2)
    if check == "serves":
        problems = check_policy(options())
    else:
        problems = collect(PolicyChecks(options(), 3, space), check)
    assert check in {p.check for p in problems if phrase in p.what}


def test_every_check_has_an_example():
    assert set(checks_of(PolicyChecks)) == {case.values[1] for case in ZOO}


def test_all_faults_are_found_at_once():
    class Many(ForgetsToRefuse):
        distribution = around(mode=ModeIsANumber.distribution.mode)

    problems = check_policy(Many())
    assert {"serves", "actions fit the space"} == {p.check for p in problems}


def test_only_the_spaces_asked_for_are_tried():
    assert "refuses every action space" in check_policy(Sound(), action_spaces=[Discrete(2)])[0].what


@pytest.mark.parametrize("space", [image(8, 8, 1), {"seen": vector(2), "picture": image(8, 8, 1)}])
@pytest.mark.parametrize("options", [CategoricalMLP(hidden=(4,)), RecurrentActorCritic(units=4)])
def test_policies_are_checked_on_any_observations(options, space):
    assert check_policy(options, observation_space=space, action_spaces=[Discrete(3)]) == []


def test_in_double_precision_actions_are_as_elsewhere(x64: None):
    assert check_policy(CategoricalMLP(hidden=(4,))) == []
