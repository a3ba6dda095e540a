"""The contract kit of baselines."""

import dataclasses
import pickle
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from surefoot.algorithms.adaptation import stack
from surefoot.baselines import Samples
from surefoot.checks import common
from surefoot.checks.problem import (
    Problem,
    Problems,
    Stop,
    attempt,
    collect,
    error,
    problem_of,
    require,
    summary,
)
from surefoot.loading import FAILURES
from surefoot.options import UserError
from surefoot.theory.averages import valid_mean
from surefoot.types import Key, Observations, ObservationSpace, image, masked, vector

_EPISODES, _TIME, _HORIZON, _TASKS = 6, 8, 10, 3
_SEED = 7
_FITS = 20
_CONTRACT = "surefoot.baselines.AbstractBaseline"
_SPACES: dict[str, ObservationSpace] = {
    "a vector": vector(3),
    "a dictionary": {"goal": vector(2), "position": vector(1)},
    "an image": image(8, 8, 1),
}


def check_baseline(baseline: Any) -> list[Problem]:
    """All ways in which `baseline` breaks the contract of `baselines.AbstractBaseline`; an empty list if it
    is sound.

    It need not be a subclass here; training takes no other. It is fitted to 6 episodes of at most 8 steps,
    some of which are padding. One with minibatches must be built for no more than 48. An exception in its
    code is reported, not raised.
    """
    kit = BaselineChecks(baseline)
    return common.is_class(baseline, "a baseline") or collect(kit, "options") or collect(kit)


class BaselineChecks:
    """The checks of a baseline, and the calls with fixed data that they share. Every method may raise
    `Stop`."""

    def __init__(self, baseline: Any) -> None:
        self.baseline = baseline
        self.before = common.attributes(baseline)
        self.key = jax.random.key(_SEED)
        self.space = next(filter(self._serves, _SPACES.values()), _SPACES["a vector"])
        """The observation space of its checks: the first that it does not refuse."""
        self.samples = _samples(self.key, self.space)

    def _serves(self, space: ObservationSpace) -> bool:
        try:
            self.init(space)
        except UserError:
            return False
        except FAILURES:
            return True  # the checks report it
        return True

    def init(self, space: ObservationSpace) -> PyTree:
        """The parameters for an observation space; `UserError` is a refusal and is raised."""
        return self.baseline.init(self.key, space, _HORIZON)

    @cached_property
    def parameters(self) -> PyTree:
        """The initial parameters for observations of `space`."""
        return attempt("init", self.init, self.space)

    def fit(self, parameters: PyTree, samples: Samples) -> PyTree:
        """`fit` under jit, whose result has the form of the parameters it began from."""
        fitted = attempt("fit", eqx.filter_jit(self.baseline.fit), parameters, samples)
        require(common.same_form(parameters, fitted, "parameters", "Iterations are one compiled program."))
        return fitted

    @cached_property
    def fitted(self) -> PyTree:
        """The parameters after one fit."""
        return self.fit(self.parameters, self.samples)

    def values(self, parameters: PyTree, samples: Samples) -> Array:
        """V at every step, axes `[episode time]`, whose form is right."""
        found = attempt("values", eqx.filter_jit(self._values), parameters, samples)
        why, remedy = "It is subtracted from the return of each step.", "Return one number for each time."
        wanted = jax.ShapeDtypeStruct(samples.times.shape, samples.times.dtype)
        require(common.has_form("`values` of each episode gives", found, wanted, why, remedy))
        if not common.finite(found):
            why = "A value that is not finite ends training."
            raise Stop(error("`values` are not finite.", why, "Look for divisions by what may be zero."))
        return found

    def _values(self, parameters: PyTree, samples: Samples) -> Array:
        return jax.vmap(partial(self.baseline.values, parameters))(samples.observations, samples.times)

    def loss(self, parameters: PyTree) -> float:
        """The mean squared error of the values at the samples."""
        gap = self.values(parameters, self.samples) - self.samples.returns
        return float(valid_mean(gap**2, self.samples.valid))

    def check_options(self) -> Problems:
        yield from common.has_methods(self.baseline, ("init", "fit", "values"), _CONTRACT)
        yield from common.is_immutable(self.baseline)

    def check_is_stated(self) -> Problems:
        why = "A baseline that takes many steps is fitted beside the policy's own."
        remedy = f"derive the class from {_CONTRACT}, or write `is_iterative = False` in it"
        yield from common.has_attribute(self.baseline, "is_iterative", *common.BOOL, why, remedy)

    def check_can_be_written_down(self) -> Problems:
        why = "Worker processes get it by pickle, and a run reads it from its config.yaml again."
        remedy = (
            "Make it a dataclass of a module that can be imported, with numbers, texts and tuples as fields."
        )
        try:
            again = pickle.loads(pickle.dumps(self.baseline))
        except FAILURES as failed:
            yield error(f"It cannot be pickled: {summary(failed)}.", why, remedy)
            return
        if again != self.baseline:
            yield error("It is not equal to what pickle makes of it.", why, remedy)
        fields = dataclasses.fields(self.baseline) if dataclasses.is_dataclass(self.baseline) else ()
        for field in fields:
            value = getattr(self.baseline, field.name)
            if not _is_plain(value):
                yield error(f"The option `{field.name}` is {common.describe(value)}.", why, remedy)

    def check_init_follows_from_the_key(self) -> Problems:
        yield from common.all_arrays(self.parameters, "parameters")
        if not common.same(self.parameters, self.init(self.space)):
            yield error(
                "`init` gives other parameters with the same key.",
                "A run could not be repeated.",
                "Draw everything random from the key.",
            )

    def check_observations(self) -> Problems:
        for kind, space in _SPACES.items():
            try:
                parameters = self.init(space)
            except UserError:
                continue
            except FAILURES as failed:
                problem = problem_of("init", failed, self.baseline.init)
                yield error(
                    f"For observations that are {kind}: {problem.what}",
                    "What it cannot serve must be said before a run begins.",
                    "Raise surefoot.options.UserError, which says what else to use.",
                )
                continue
            samples = _samples(self.key, space)
            try:
                self.values(self.fit(parameters, samples), samples)
            except Stop as stop:
                told = stop.problem
                yield error(f"For observations that are {kind}: {told.what}", told.why, told.remedy)

    def check_a_fit_lowers_the_error(self) -> Problems:
        if not jax.tree.leaves(self.parameters):
            return  # there is nothing to fit
        parameters = self.parameters
        for _ in range(_FITS):
            parameters = self.fit(parameters, self.samples)
        before, after = self.loss(self.parameters), self.loss(parameters)
        if not after < before:
            yield error(
                f"After {_FITS} fits the mean squared error is {after:.3g}, and it was {before:.3g} before.",
                "A baseline that does not come nearer to the returns lowers no variance.",
                "Fit to `samples.returns`, and return the new parameters.",
            )

    def check_padding_has_no_effect(self) -> Problems:
        valid = self.samples.valid

        def spoilt(x: Array) -> Array:
            return jnp.where(jnp.expand_dims(valid, tuple(range(2, x.ndim))), x, jnp.asarray(7, x.dtype))

        other = jax.tree.map(spoilt, self.samples)
        other = eqx.tree_at(lambda s: (s.valid, s.times), other, (valid, self.samples.times))
        one, two = (self.values(self.fit(self.parameters, s), self.samples) for s in (self.samples, other))
        if not common.close(jnp.where(valid, one, 0), jnp.where(valid, two, 0)):
            yield error(
                "What is in the padding changes the fit.",
                "Episodes that end early would count by their padding.",
                "Weight every step by `samples.valid`, as surefoot.theory.averages.valid_mean does.",
            )

    def check_many_tasks_at_once(self) -> Problems:
        tasks = [_samples(key, self.space) for key in jax.random.split(self.key, _TASKS)]
        fit: Callable[..., Any] = eqx.filter_vmap(self.baseline.fit, in_axes=(None, 0))
        together = attempt("fit", eqx.filter_jit(fit), self.parameters, stack(tasks))
        for i, samples in enumerate(tasks):
            own = jax.tree.map(lambda x, i=i: x[i], together)
            one, two = (self.values(p, samples) for p in (own, self.fit(self.parameters, samples)))
            if not common.close(one, two):
                yield error(
                    "A fit to several tasks at once differs from a fit to each.",
                    "Meta-learning fits the tasks of a batch by vmap.",
                    "Compute from the arguments alone, in jax.numpy.",
                )
                return

    def check_keeps_no_state(self) -> Problems:
        yield from common.keeps_no_state(self.before, self.baseline, lambda: self.fitted)


def _is_plain(value: Any) -> bool:
    """Whether a run's config.yaml can hold a value."""
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    if dataclasses.is_dataclass(value):
        return not isinstance(value, type)
    return value is None or isinstance(value, bool | int | float | str)


def _samples(key: Key, space: ObservationSpace) -> Samples:
    """Returns that depend on observations and time, far from zero; episodes of 4 steps or more."""
    lengths = jnp.array([8, 4, 8, 6, 5, 8])
    times = jnp.broadcast_to(jnp.arange(_TIME), (_EPISODES, _TIME))
    valid = times < lengths[:, None]

    def draw(key: Key) -> Observations:
        return masked(common.random_observations(space, key, (_EPISODES, _TIME)), valid)

    seen, following = map(draw, jax.random.split(key))
    features = jnp.concatenate(
        [x.reshape(_EPISODES, _TIME, -1).astype(float) for x in jax.tree.leaves(seen)], axis=-1
    )
    returns = jnp.where(valid, 5.0 + jnp.tanh(jnp.mean(features, axis=-1)) + 0.1 * times.astype(float), 0.0)
    return Samples(
        seen,
        times.astype(float),
        returns,
        jnp.where(valid, jnp.ones_like(returns), 0.0),
        jnp.where(valid, 0.9, 0.0),
        following,
        valid,
    )
