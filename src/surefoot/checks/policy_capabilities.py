"""The checks of policies with a memory, and of those that predict values."""

from functools import cached_property, partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from surefoot.checks import common
from surefoot.checks.policy_calls import BATCH, PolicyCalls, lacks
from surefoot.checks.problem import Problems, attempt, error, require


class MemoryChecks(PolicyCalls):
    """The checks of a policy that says it is recurrent; none of any other."""

    @cached_property
    def unrolled(self) -> dict[str, tuple[Any, Any]]:
        """Log-probabilities and entropies of whole rows at once, and by `act` step by step, in one compiled
        program: for `__call__`, from the beginning, and for `unroll`, from another memory."""
        require(self.misfits)
        return attempt("act", eqx.filter_jit(self._unrolled), self.policy)

    def _unrolled(self, policy: Any) -> dict[str, tuple[Any, Any]]:
        fresh = self.fresh_memory(policy, BATCH[:1])
        _, memory = self.act(policy, self.at(slice(None), -1), fresh)
        begun = jnp.zeros(BATCH, bool).at[:, 0].set(True)

        def both_ways(together: Any, starts: Array, memory: PyTree) -> tuple[Any, Any]:
            require(lacks(together))
            actions, steps = self.draw(together, "mode"), []
            for t in range(BATCH[1]):
                memory = jax.tree.map(partial(jax.vmap(jnp.where), starts[:, t]), fresh, memory)
                distribution, memory = self.act(policy, self.at(slice(None), t), memory)
                steps.append((distribution.log_prob(actions[:, t]), distribution.entropy()))
            by_step = jax.tree.map(lambda *xs: jnp.stack(xs, axis=-1), *steps)
            return (together.log_prob(actions), together.entropy()), by_step

        # The first row goes on and begins anew at its last step; in the others an episode begins at once.
        starts = jnp.zeros(BATCH, bool).at[0, -1].set(True).at[1:, 0].set(True)
        unrolled = attempt("unroll", policy.unroll, self.rows, starts, memory)
        return {
            "__call__": both_ways(attempt("__call__", policy, self.rows), begun, fresh),
            "unroll": both_ways(unrolled, starts, memory),
        }

    def check_memory_keeps_its_form(self) -> Problems:
        if not self.is_recurrent:
            return
        memory = attempt("initial_memory", self.policy.initial_memory)
        require(common.all_arrays(memory, "memory"))
        why = "Samplers carry the memory through a compiled loop, where its form is fixed."
        yield from common.same_form(memory, self.act(self.policy, self.row, memory)[1], "memory", why)

    def check_rows_are_episodes(self) -> Problems:
        if self.is_recurrent and not common.close(*self.unrolled["__call__"]):
            yield error(
                "Called on a row of observations, the policy differs from `act` step by step from the start.",
                "The log-probabilities of what was sampled would not be those that are learned from.",
                "Take each row `[time obs]` for an episode, and begin it with `initial_memory`.",
            )

    def check_unrolling_is_acting(self) -> Problems:
        if self.is_recurrent and not common.close(*self.unrolled["unroll"]):
            yield error(
                "`unroll` differs from `act`, step by step from the same memory.",
                "Streams are learned from by `unroll` and sampled with `act`.",
                "Begin with the memory that is given, and with `initial_memory` wherever `starts` is True.",
            )


class ValueChecks(PolicyCalls):
    """The checks of a policy that says it predicts values; none of any other."""

    def check_values_are_numbers(self) -> Problems:
        if not self.predicts_values:
            return
        # To a recurrent policy a row is an episode.
        for observations, axes, given in self.each[self.is_recurrent :]:
            values = attempt("values", self.policy.values, observations)
            told, wanted = map(common.describe, (values, jnp.zeros(axes)))
            also = "" if common.finite(values) else ", not finite"
            if told != wanted or also:
                yield error(
                    f"For {given} observations, `values` gives {told}{also}; it must be finite {wanted}.",
                    "Advantages are estimated with one value for each observation.",
                    "Take the last axis of the network's output away: output[..., 0].",
                )

    def check_outputs_agree(self) -> Problems:
        policy = self.policy
        if not self.predicts_values:
            return
        here = attempt("__call__", policy, self.rows)
        require(lacks(here))
        actions = self.draw(here, "sample")
        outputs = attempt("outputs", policy.outputs, self.rows, actions)
        there = outputs.distribution
        require(lacks(there))
        told = (there.log_prob(actions), there.entropy(), outputs.values)
        if not common.close(told, (here.log_prob(actions), here.entropy(), policy.values(self.rows))):
            yield error(
                "`outputs` gives another distribution than `__call__`, or other values than `values`.",
                "The one is sampled from and estimated with, the other is learned from.",
                "Compute both from the same features.",
            )
        if (outputs.auxiliary is None) != (policy.auxiliary is None):
            yield error(
                f"`auxiliary` is {'None' if policy.auxiliary is None else 'a loss'}, but `outputs` gives "
                f"{common.describe(outputs.auxiliary)} as its auxiliary prediction.",
                "The loss is one of the prediction: there are both or neither.",
                "Set `auxiliary` to the loss of what the policy predicts, or to None.",
            )

    def check_unrolled_outputs_agree(self) -> Problems:
        if self.is_recurrent and self.predicts_values and not common.close(*self.unrolled_outputs):
            yield error(
                "`unroll_outputs` or `unroll_values` differs from `unroll` and from `outputs`.",
                "Streams are learned from by them, and the advantages of trajectories estimated.",
                "Compute all of them from the same memory. The value after a step is that of the next "
                "observation with the memory after the step.",
            )

    @cached_property
    def unrolled_outputs(self) -> tuple[Any, Any]:
        """The results of `unroll_outputs` and `unroll_values`, and the same from the other methods, in one
        compiled program."""
        require(self.misfits)
        names = ["unroll_outputs", "unroll_values"]
        require(common.has_methods(self.policy, names, "surefoot.policies.AbstractRecurrentActorCritic"))
        return attempt("unroll_outputs", eqx.filter_jit(self._unrolled_outputs), self.policy)

    def _unrolled_outputs(self, policy: Any) -> tuple[Any, Any]:
        fresh, last = self.fresh_memory(policy, BATCH[:1]), self.at(slice(None), -1)
        _, memory = self.act(policy, last, fresh)
        starts = jnp.zeros(BATCH, bool).at[0, -1].set(True)
        actions = self.draw(self.distribution(policy, self.rows, BATCH), "mode")
        together = attempt("unroll", policy.unroll, self.rows, starts, memory)
        outputs = attempt("unroll_outputs", policy.unroll_outputs, self.rows, actions, starts, memory)
        told = (outputs.distribution.log_prob(actions), outputs.values)
        # Of whole episodes, the value after a step is that of the next one.
        begun = jnp.zeros(BATCH, bool).at[:, 0].set(True)
        now, after = self.at(slice(None), slice(-1)), self.at(slice(None), slice(1, None))
        pair = attempt("unroll_values", policy.unroll_values, now, after, begun[:, :-1], fresh)
        streamed, _ = policy.unroll_values(self.rows, self.rows, starts, memory)
        values = attempt("values", policy.values, self.rows)
        return (*told, *pair), (together.log_prob(actions), streamed, values[:, :-1], values[:, 1:])
