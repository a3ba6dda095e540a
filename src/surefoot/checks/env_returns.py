"""What an environment must have and return, and the problems where it does not."""

from collections.abc import Iterator
from numbers import Integral
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree

from surefoot.checks.common import describe, leaves_with_names
from surefoot.checks.failure import problem_of
from surefoot.checks.problem import Problem, error
from surefoot.types import Continuous, Discrete


class Outcome(NamedTuple):
    """What `step` returned, without its class."""

    state: Any
    observation: Any
    reward: Any
    terminated: Any


class _Attribute(NamedTuple):
    name: str
    wanted: str
    why: str


_LIST = (
    _Attribute("observation_size", "an int of 1 or more", "Policies and baselines are built to it."),
    _Attribute("action_space", "Continuous(size) or Discrete(n)", "The policy is built to it."),
    _Attribute("horizon", "an int of 1 or more", "The sampler counts to it: no episode is endless."),
    _Attribute(
        "time_limit_ends_return", "True or False", "Returns end at the horizon, or go on with a value, by it."
    ),
)
ATTRIBUTES = {wanted.name: wanted for wanted in _LIST}
"""What an environment has beside its methods."""


def attribute_problems(env: Any, wanted: _Attribute) -> Iterator[Problem]:
    """Missing, of the wrong type, or failing."""
    remedy = f"Make `{wanted.name}` {wanted.wanted}: a field of the dataclass, or a @property."
    try:
        value = getattr(env, wanted.name)
    except Exception as failed:
        if isinstance(failed, AttributeError) and not hasattr(type(env), wanted.name):
            yield error(f"`{wanted.name}` is missing.", wanted.why, remedy)
        else:
            yield problem_of(wanted.name, failed)
        return
    if callable(value):
        yield error(f"`{wanted.name}` is a method.", wanted.why, f"Put @property above it. {remedy}")
    elif not _is_wanted(wanted.name, value):
        yield error(f"`{wanted.name}` is {value!r}; it must be {wanted.wanted}.", wanted.why, remedy)


def _is_wanted(name: str, value: Any) -> bool:
    if name == "time_limit_ends_return":
        return isinstance(value, bool)
    if name == "action_space":
        size = value.size if isinstance(value, Continuous) else value.n if isinstance(value, Discrete) else 0
        return _counts(size)
    return _counts(value)


def _counts(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 1


def axis_problems(tasks: PyTree, n: int) -> Iterator[Problem]:
    """`n` tasks, drawn or only traced, without an axis for them."""
    if not jax.tree.leaves(tasks):
        yield error(
            "`sample_tasks` returns no arrays.",
            "Tasks are counted by their leading axis.",
            "A family of one task may return jnp.zeros((n, 0)).",
        )
    for name, leaf in leaves_with_names(tasks, "task"):
        if leaf.shape[:1] != (n,):
            yield error(
                f"`sample_tasks(key, {n})` gives `{name}` as {describe(leaf)}, without a leading {n}.",
                "Tasks are played side by side, one for each element of that axis.",
                "Put n first in the shape of every array, also when n is 1.",
            )


def foreign_leaves(tree: PyTree, method: str, name: str) -> Iterator[Problem]:
    """What JAX can neither compile nor vmap over."""
    for leaf_name, leaf in leaves_with_names(tree, name):
        if not isinstance(leaf, jax.Array | np.ndarray | np.generic | bool | int | float):
            yield error(
                f"`{method}` returns `{leaf_name}`, {describe(leaf)}.",
                "JAX can neither compile nor vmap over it.",
                "Build states of arrays only, in tuples, dicts, NamedTuples or equinox Modules.",
            )


def not_a_pair(result: Any) -> Problem:
    """`reset` returned something else."""
    return error(
        f"`reset` returns {describe(result)}, not a pair.",
        "The sampler takes a state and a first observation from it.",
        "Return (state, observation); the state may be None.",
    )


def not_a_step(result: Any) -> Problem:
    """`step` returned something without the fields of `Step`."""
    missing = [name for name in Outcome._fields if not hasattr(result, name)]
    return error(
        f"`step` returns {describe(result)}, which has no {', '.join(f'`{name}`' for name in missing)}.",
        "The sampler takes those from it by name.",
        "Return surefoot.envs.Step(state, observation, reward, terminated).",
    )


def wrong_array(method: str, name: str, x: Any, wanted: str) -> Problem:
    """An array of the wrong shape or dtype, or none at all."""
    return error(
        f"`{method}` returns `{name}` as {describe(x)}; it must be {wanted}.",
        "Samplers, policies and estimates of the return are made for arrays of that shape and dtype.",
        f"Give it that shape; jnp.asarray(x, dtype) converts it, with dtype {wanted.split('[')[0]}.",
    )
