"""What the kit of policies asks of one that remembers, and of one that also judges."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, PyTree

from surefoot.checks.common import all_arrays, close, describe, finite, same_form
from surefoot.checks.policy_probe import PolicyProbe
from surefoot.checks.problem import Problem, error, require
from surefoot.policies import AbstractActorCritic, AbstractRecurrentPolicy


def memory_keeps_its_form(probe: PolicyProbe) -> Iterator[Problem]:
    """Arrays, with the same shapes and dtypes after every step."""
    if not isinstance(probe.policy, AbstractRecurrentPolicy):
        return
    memory = probe.call("initial_memory", probe.policy.initial_memory)
    require(all_arrays(memory, "memory"))
    _, following = probe.act(probe.policy, probe.row, memory)
    why = "Samplers carry the memory through a compiled loop, where its form is fixed."
    yield from same_form(memory, following, "memory", why)


def rows_are_episodes(probe: PolicyProbe) -> Iterator[Problem]:
    """`__call__` gives the distributions that `act` gave from the beginning on."""
    if not isinstance(probe.policy, AbstractRecurrentPolicy):
        return
    starts = _starts(probe).at[:, 1:].set(False)
    memory = probe.fresh_memory(probe.policy, starts.shape[:-1])
    together = probe.call("__call__", probe.policy, probe.rows)
    if not _agrees(probe, together, starts, memory):
        yield error(
            "Called on a row of observations, the policy differs from `act`, step by step from the start.",
            "The log-probabilities of what was sampled would not be those that are learned from.",
            "Take each row `[time obs]` for an episode, and begin it with `initial_memory`.",
        )


def unrolling_is_acting(probe: PolicyProbe) -> Iterator[Problem]:
    """`unroll` goes on from a memory, and forgets it where an episode begins."""
    if not isinstance(probe.policy, AbstractRecurrentPolicy):
        return
    starts = _starts(probe)
    _, memory = probe.act(
        probe.policy, probe.rows[:, -1], probe.fresh_memory(probe.policy, starts.shape[:-1])
    )
    together = probe.call("unroll", probe.policy.unroll, probe.rows, starts, memory)
    if not _agrees(probe, together, starts, memory):
        yield error(
            "`unroll` differs from `act`, step by step from the same memory.",
            "Streams are learned from by `unroll` and sampled with `act`.",
            "Begin with the memory that is given, and with `initial_memory` wherever `starts` is True.",
        )


def values_are_numbers(probe: PolicyProbe) -> Iterator[Problem]:
    """One for each observation, whatever the batch."""
    if not isinstance(probe.policy, AbstractActorCritic):
        return
    for observations in (probe.row, probe.rows):
        values = probe.call("values", probe.policy.values, observations)
        wanted = jnp.zeros(observations.shape[:-1])
        if describe(values) != describe(wanted) or not finite(values):
            yield error(
                f"For {describe(observations)} observations, `values` gives {describe(values)}"
                f"{'' if finite(values) else ', not finite'}; it must be finite {describe(wanted)}.",
                "Advantages are estimated with one value for each observation.",
                "Take the last axis of the network's output away: output[..., 0].",
            )


def outputs_agree(probe: PolicyProbe) -> Iterator[Problem]:
    """`outputs` gives what `__call__` and `values` give, and an auxiliary prediction if there is a loss."""
    policy = probe.policy
    if not isinstance(policy, AbstractActorCritic):
        return
    here = probe.distribution(probe.rows)
    actions = probe.draw(here, "sample")
    outputs = probe.call("outputs", policy.outputs, probe.rows, actions)
    there = outputs.distribution
    require(probe.lacks(there))
    told = (there.log_prob(actions), there.entropy(), outputs.values)
    if not close(told, (here.log_prob(actions), here.entropy(), policy.values(probe.rows))):
        yield error(
            "`outputs` gives another distribution than `__call__`, or other values than `values`.",
            "What was sampled and judged with the one is learned from with the other.",
            "Compute both from the same features.",
        )
    if (outputs.auxiliary is None) != (policy.auxiliary is None):
        yield error(
            f"`auxiliary` is {'None' if policy.auxiliary is None else 'a loss'}, but `outputs` gives "
            f"{describe(outputs.auxiliary)} as its auxiliary prediction.",
            "The loss judges the prediction: there are both or neither.",
            "Set `auxiliary` to the loss of what the policy predicts, or to None.",
        )


def _starts(probe: PolicyProbe) -> Bool[Array, "row time"]:
    """The first row goes on and begins anew at its last step; in the others an episode begins at once."""
    starts = jnp.zeros(probe.rows.shape[:-1], bool).at[0, -1].set(True)
    return starts.at[1:, 0].set(True)


def _agrees(probe: PolicyProbe, together: Any, starts: Array, memory: PyTree) -> bool:
    """Whether distributions of all steps at once are those of `act`, step by step."""
    require(probe.lacks(together))
    actions = probe.draw(together, "mode")
    told = (together.log_prob(actions), together.entropy())
    fresh, steps = probe.fresh_memory(probe.policy, starts.shape[:-1]), []
    for t in range(starts.shape[-1]):
        memory = jax.tree.map(lambda new, old, t=t: _where(starts[:, t], new, old), fresh, memory)
        distribution, memory = probe.act(probe.policy, probe.rows[:, t], memory)
        steps.append((distribution.log_prob(actions[:, t]), distribution.entropy()))
    return close(told, jax.tree.map(lambda *xs: jnp.stack(xs, axis=-1), *steps))


def _where(condition: Array, yes: Array, no: Array) -> Array:
    return jnp.where(jnp.expand_dims(condition, tuple(range(condition.ndim, yes.ndim))), yes, no)
