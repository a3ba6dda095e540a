"""The contract kit of policies, and of the options that build them."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from surefoot.checks import common
from surefoot.checks.problem import Problem, Problems, Stop, attempt, collect, error, problem_of, require
from surefoot.options import UserError
from surefoot.types import ActionSpace, Continuous, Discrete, MultiDiscrete, ObservationSpace

_SPACES = (Continuous(2), Discrete(3), MultiDiscrete((3, 2)))
_BATCH = (2, 3)
_MONTE_CARLO = 4096
_GRID = 81
_SEED = 7
_CAPABILITY = (
    "derive the class from surefoot.policies.AbstractPolicy or {1}, or write `{0} = False` in it; one that "
    "wraps another policy returns that policy's in a @property"
)


def check_policy(
    options: Any, *, observation_space: ObservationSpace = 3, action_spaces: Sequence[ActionSpace] = _SPACES
) -> list[Problem]:
    """All ways in which a policy's options, and the policies they build, break the contract of `policies`; an
    empty list if they are sound.

    A policy is built for each action space. The options must refuse a space that they cannot serve with a
    `UserError`, and serve one. A policy is checked as a recurrent one or as an actor-critic if its properties
    `is_recurrent` and `predicts_values` say so. An exception in its code is reported, not raised.
    """
    kits = [PolicyChecks(options, observation_space, space) for space in action_spaces]
    if problems := common.is_class(options, "the options of a policy") or collect(kits[0], "options"):
        return problems
    served = [kit for kit in kits if kit.built is not None]
    if not served:
        refused = error(
            f"`build` refuses every action space: {', '.join(map(repr, action_spaces))}.",
            "There is nothing it could be used for.",
            "Build a policy for Continuous or for Discrete actions, and refuse only the other.",
        )
        return [replace(refused, check="serves")]
    return list(dict.fromkeys(problem for kit in served for problem in collect(kit)))


class PolicyChecks:
    """The checks of a policy for one action space, and the calls with fixed keys and observations that they
    share. Every method may raise `Stop`."""

    def __init__(self, options: Any, observation_space: ObservationSpace, space: ActionSpace) -> None:
        self.options, self.observation_space, self.space = options, observation_space, space
        self.key = jax.random.key(_SEED)
        self.rows = jax.random.normal(self.key, (*_BATCH, observation_space))
        self.row = self.rows[0, 0]

    def build(self) -> Any:
        """A new policy, always with the same key."""
        return self.options.build(self.key, self.observation_space, self.space)

    @cached_property
    def built(self) -> Any:
        """The policy; None if the options refuse the space as they should; a problem if they fail."""
        try:
            policy = self.build()
        except UserError:
            return None
        except Exception as failed:
            problem = problem_of("build", failed, self.options.build)
            remedy = f"{problem.remedy} To refuse an action space, raise surefoot.options.UserError."
            return error(f"For {self.space!r}: {problem.what}", problem.why, remedy)
        if callable(policy):
            return policy
        return error(
            f"`build` returns {common.describe(policy)}, which cannot be called.",
            "A policy maps observations to a distribution.",
            "Return an equinox Module with a method __call__(self, observations).",
        )

    @property
    def policy(self) -> Any:
        """The policy under check."""
        if isinstance(self.built, Problem):
            raise Stop(self.built)
        return self.built

    @cached_property
    def other(self) -> Any:
        """A policy of the same kind, whose parameters differ a little."""
        arrays, static = eqx.partition(self.policy, eqx.is_inexact_array)
        leaves, structure = jax.tree.flatten(arrays)
        keys = jax.random.split(self.key, len(leaves) + 1)
        moved = [x + 0.1 * jax.random.normal(k, x.shape, x.dtype) for k, x in zip(keys, leaves, strict=False)]
        return eqx.combine(jax.tree.unflatten(structure, moved), static)

    @property
    def is_recurrent(self) -> bool:
        """Whether the policy says that it is recurrent; one that says nothing is not."""
        return getattr(self.policy, "is_recurrent", False) is True

    @property
    def predicts_values(self) -> bool:
        """Whether the policy says that it predicts values; one that says nothing does not."""
        return getattr(self.policy, "predicts_values", False) is True

    def predict(self, policy: Any, observations: Array) -> Any:
        """The policy's prediction at `observations`, which are first steps if it is recurrent."""
        if not self.is_recurrent:
            return attempt("__call__", policy, observations)
        return self.act(policy, observations, self.fresh_memory(policy, observations.shape[:-1]))[0]

    def distribution(self, policy: Any, observations: Array) -> Any:
        """`predict`, whose result has all the methods of a distribution."""
        result = self.predict(policy, observations)
        require(_lacks(result))
        return result

    def fresh_memory(self, policy: Any, batch: tuple[int, ...]) -> PyTree:
        """The memory of a batch of episodes before their first step."""
        memory = attempt("initial_memory", policy.initial_memory)
        return jax.tree.map(lambda x: jnp.broadcast_to(x, (*batch, *jnp.shape(x))), memory)

    def act(self, policy: Any, observations: Array, memory: PyTree) -> tuple[Any, PyTree]:
        """`act`, whose result is a pair."""
        why = "The sampler takes a distribution and the memory for the next step from it."
        result = attempt("act", policy.act, observations, memory)
        return common.elements("act", result, 2, why, "Return (distribution, memory).")

    def draw(self, distribution: Any, name: str) -> Array:
        """A sample, or the mode."""
        return attempt(name, getattr(distribution, name), *((self.key,) if name == "sample" else ()))

    @cached_property
    def misfits(self) -> tuple[Problem, ...]:
        """Samples and modes that are no actions of the space."""
        dtype = jnp.zeros(()).dtype if isinstance(self.space, Continuous) else jnp.int32
        found = []
        for observations in (self.row, self.rows):
            distribution = self.distribution(self.policy, observations)
            for name in ("sample", "mode"):
                found += common.has_form(
                    f"For {common.describe(observations)} observations and {self.space!r}, `{name}` gives",
                    self.draw(distribution, name),
                    jax.ShapeDtypeStruct((*observations.shape[:-1], *self.space.shape), dtype),
                    "Environments take the actions as they are.",
                    "Refuse this action space in `build` with a UserError, or draw actions of that form.",
                )
        return tuple(found)

    def scores(self, policy: Any, observations: Array) -> dict[str, Array]:
        """log_prob of the mode, entropy, and kl to the other policy."""
        require(self.misfits)
        here, there = (self.distribution(x, observations) for x in (policy, self.other))
        return {
            "log_prob": attempt("log_prob", here.log_prob, self.draw(here, "mode")),
            "entropy": attempt("entropy", here.entropy),
            "kl": attempt("kl", here.kl, there),
        }

    @cached_property
    def estimates(self) -> dict[str, Any]:
        """Expectations over many actions at one observation, and the gradient of log_prob, in one compiled
        program."""
        require(self.misfits)
        return attempt("log_prob", eqx.filter_jit(self._estimates), self.policy, self.other)

    def _estimates(self, policy: Any, other: Any) -> dict[str, Any]:
        here, there = (self.distribution(x, self.row) for x in (policy, other))
        keys = jax.random.split(self.key, _MONTE_CARLO)
        actions = attempt("sample", jax.vmap(here.sample), keys)
        log_probs, others = (attempt("log_prob", jax.vmap(x.log_prob), actions) for x in (here, there))
        sampled = self.draw(self.distribution(policy, self.rows), "sample")

        def mean_log_prob(policy: Any) -> Array:
            return jnp.mean(self.distribution(policy, self.rows).log_prob(sampled))

        return {
            "probability": self._total_probability(here, actions),
            "entropy": (attempt("entropy", here.entropy), -log_probs),
            "kl": (attempt("kl", here.kl, there), log_probs - others),
            "gradient": attempt("log_prob", eqx.filter_grad(mean_log_prob), policy),
        }

    def _total_probability(self, distribution: Any, samples: Array) -> Array:
        """exp(log_prob), added up over all actions or over a grid that covers the samples with a margin."""
        if isinstance(self.space, Discrete):
            actions, volume = jnp.arange(self.space.n, dtype=jnp.int32), 1.0
        elif isinstance(self.space, MultiDiscrete):
            every = np.indices(self.space.counts).reshape(len(self.space.counts), -1).T
            actions, volume = jnp.asarray(every, jnp.int32), 1.0
        elif self.space.size <= 2:
            low, high = jnp.min(samples, axis=0), jnp.max(samples, axis=0)
            low, high = low - 0.3 * (high - low), high + 0.3 * (high - low)
            axes = [jnp.linspace(low[i], high[i], _GRID) for i in range(self.space.size)]
            actions = jnp.stack(jnp.meshgrid(*axes), axis=-1).reshape(-1, len(axes))
            volume = jnp.prod((high - low) / (_GRID - 1))
        else:
            return jnp.ones(())
        log_probs = attempt("log_prob", jax.vmap(distribution.log_prob), actions)
        return jnp.sum(jnp.where(jnp.isfinite(log_probs), jnp.exp(log_probs), 0.0)) * volume

    @cached_property
    def unrolled(self) -> dict[str, tuple[Any, Any]]:
        """Log-probabilities and entropies of whole rows at once, and by `act` step by step, in one compiled
        program: for `__call__`, from the beginning, and for `unroll`, from another memory."""
        require(self.misfits)
        return attempt("act", eqx.filter_jit(self._unrolled), self.policy)

    def _unrolled(self, policy: Any) -> dict[str, tuple[Any, Any]]:
        fresh = self.fresh_memory(policy, _BATCH[:1])
        _, memory = self.act(policy, self.rows[:, -1], fresh)
        begun = jnp.zeros(_BATCH, bool).at[:, 0].set(True)

        def both_ways(together: Any, starts: Array, memory: PyTree) -> tuple[Any, Any]:
            require(_lacks(together))
            actions, steps = self.draw(together, "mode"), []
            for t in range(_BATCH[1]):
                memory = jax.tree.map(partial(jax.vmap(jnp.where), starts[:, t]), fresh, memory)
                distribution, memory = self.act(policy, self.rows[:, t], memory)
                steps.append((distribution.log_prob(actions[:, t]), distribution.entropy()))
            by_step = jax.tree.map(lambda *xs: jnp.stack(xs, axis=-1), *steps)
            return (together.log_prob(actions), together.entropy()), by_step

        # The first row goes on and begins anew at its last step; in the others an episode begins at once.
        starts = jnp.zeros(_BATCH, bool).at[0, -1].set(True).at[1:, 0].set(True)
        unrolled = attempt("unroll", policy.unroll, self.rows, starts, memory)
        return {
            "__call__": both_ways(attempt("__call__", policy, self.rows), begun, fresh),
            "unroll": both_ways(unrolled, starts, memory),
        }

    def check_options(self) -> Problems:
        yield from common.has_methods(self.options, ("build",), "surefoot.policies.PolicyOptions")
        yield from common.is_immutable(self.options)

    def check_serves(self) -> Problems:
        if isinstance(self.built, Problem):
            yield self.built

    def check_states_its_capabilities(self) -> Problems:
        for name, kind, methods in (
            ("is_recurrent", "AbstractRecurrentPolicy", ("initial_memory", "act", "unroll")),
            ("predicts_values", "AbstractActorCritic", ("values", "outputs")),
        ):
            why = f"Samplers and algorithms learn from it whether the policy has the methods of {kind}."
            remedy = _CAPABILITY.format(name, kind)
            yield from common.has_attribute(self.policy, name, *common.BOOL, why, remedy)
            if getattr(self.policy, name, False) is True:
                yield from common.has_methods(self.policy, methods, f"surefoot.policies.{kind}")
        if self.predicts_values and not hasattr(self.policy, "auxiliary"):
            yield error(
                "`auxiliary` is missing.",
                "Algorithms take the loss of the policy's auxiliary prediction from it.",
                "Set it to that loss, or to None.",
            )

    def check_build_follows_the_key(self) -> Problems:
        policies = (self.policy, attempt("build", self.build))
        if not common.same(*(eqx.filter(policy, eqx.is_inexact_array) for policy in policies)):
            yield error(
                "`build` gives different parameters for the same key.",
                "A run could not be repeated.",
                "Draw the parameters with jax.random and the key.",
            )

    def check_has_parameters(self) -> Problems:
        leaves = common.leaves_with_names(eqx.filter(self.policy, eqx.is_inexact_array), "policy")
        if not leaves:
            yield error(
                "The policy holds no floating-point arrays.",
                "They are what rules improve.",
                "Make it an equinox Module whose parameters are jnp arrays, in fields that are not static.",
            )
        for name, leaf in leaves:
            also = "" if common.finite(leaf) else " and not finite"
            if leaf.dtype != jnp.zeros(()).dtype or also:
                yield error(
                    f"The parameter `{name}` is {common.describe(leaf)}{also}.",
                    "Parameters are finite and of JAX's default floating-point type.",
                    f"Initialise it with finite values of dtype {jnp.zeros(()).dtype}.",
                )

    def check_distribution_has_methods(self) -> Problems:
        yield from _lacks(self.predict(self.policy, self.row))

    def check_actions_fit_the_space(self) -> Problems:
        yield from self.misfits

    def check_scores_are_sums(self) -> Problems:
        for observations in (self.row, self.rows):
            for name, score in self.scores(self.policy, observations).items():
                yield from common.has_form(
                    f"For {common.describe(observations)} observations, `{name}` is",
                    score,
                    jnp.zeros(observations.shape[:-1]),
                    "Each action has one probability, entropy and divergence, whatever its size.",
                    "Sum over action dimensions, and over nothing else.",
                )

    def check_rows_of_a_batch_agree(self) -> Problems:
        require(self.misfits)
        batch = self.distribution(self.policy, self.rows)
        actions = self.draw(batch, "mode")
        for i in np.ndindex(_BATCH):
            row = self.distribution(self.policy, self.rows[i])
            told = (batch.log_prob(actions)[i], batch.entropy()[i], actions[i])
            if not common.close(told, (row.log_prob(actions[i]), row.entropy(), self.draw(row, "mode"))):
                yield error(
                    f"The distribution at row {i} of a batch differs from that of its observation by itself.",
                    "Policies act on single observations and learn from batches of them.",
                    "Treat every leading axis of the observations alike: no mean over them, no reshape.",
                )
                return

    def check_compiles_and_vmaps(self) -> Problems:
        policies = (self.policy, self.other)
        compiled = eqx.filter_jit(eqx.filter_vmap(lambda policy: self.scores(policy, self.rows)))
        together = attempt("__call__", compiled, common.stack(policies))
        for i, policy in enumerate(policies):
            if not common.close(self.scores(policy, self.rows), jax.tree.map(lambda x, i=i: x[i], together)):
                yield error(
                    "Compiled, and vmapped with parameters of its own for each task, the policy behaves "
                    "otherwise.",
                    "Every task adapts its own copy of the policy.",
                    "Let the result depend only on the module's arrays and the observations.",
                )
                return

    def check_probabilities_sum_to_one(self) -> Problems:
        total = float(self.estimates["probability"])
        if not abs(total - 1.0) < 0.1:
            yield error(
                f"exp(log_prob) adds up to {total:.3g} over all actions, not to 1.",
                "Importance ratios and entropies come out wrong.",
                "Sum the log-probabilities of action dimensions (their mean is not one) and normalise.",
            )

    def check_entropy_is_that_of_the_samples(self) -> Problems:
        yield from self._expectation("entropy", "−E[log p]")

    def check_kl_is_that_of_the_samples(self) -> Problems:
        yield from self._expectation("kl", "E_self[log p_self − log p_other]")

    def _expectation(self, name: str, formula: str) -> Problems:
        value, samples = self.estimates[name]
        mean, spread = float(jnp.mean(samples)), float(jnp.std(samples)) / np.sqrt(_MONTE_CARLO)
        if not abs(float(value) - mean) < 0.02 + 6.0 * spread:
            yield error(
                f"`{name}` is {float(value):.3g}, but {formula} over samples is {mean:.3g}.",
                "Trust regions and entropy bonuses rely on it.",
                f"Return {formula}, in nats and summed over action dimensions.",
            )

    def check_gradient_is_finite(self) -> Problems:
        gradient = self.estimates["gradient"]
        if common.finite(gradient) and any(bool(jnp.any(leaf != 0)) for leaf in jax.tree.leaves(gradient)):
            return
        yield error(
            f"The gradient of log_prob is {'zero' if common.finite(gradient) else 'not finite'}.",
            "No rule could improve the policy.",
            "Look for stop_gradient, rounding, a hard clamp, or a root or logarithm at zero on the way.",
        )

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

    def check_values_are_numbers(self) -> Problems:
        if not self.predicts_values:
            return
        # To a recurrent policy a row is an episode.
        for observations in (self.rows,) if self.is_recurrent else (self.row, self.rows):
            values = attempt("values", self.policy.values, observations)
            records = observations, values, jnp.zeros(observations.shape[:-1])
            given, told, wanted = map(common.describe, records)
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
        require(_lacks(here))
        actions = self.draw(here, "sample")
        outputs = attempt("outputs", policy.outputs, self.rows, actions)
        there = outputs.distribution
        require(_lacks(there))
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
        _, memory = self.act(policy, self.rows[:, -1], self.fresh_memory(policy, _BATCH[:1]))
        starts = jnp.zeros(_BATCH, bool).at[0, -1].set(True)
        actions = self.draw(self.distribution(policy, self.rows), "mode")
        together = attempt("unroll", policy.unroll, self.rows, starts, memory)
        outputs = attempt("unroll_outputs", policy.unroll_outputs, self.rows, actions, starts, memory)
        told = (outputs.distribution.log_prob(actions), outputs.values)
        # Of whole episodes, the value after a step is that of the next one.
        fresh, begun = self.fresh_memory(policy, _BATCH[:1]), jnp.zeros(_BATCH, bool).at[:, 0].set(True)
        now, after = self.rows[:, :-1], self.rows[:, 1:]
        pair = attempt("unroll_values", policy.unroll_values, now, after, begun[:, :-1], fresh)
        streamed, _ = policy.unroll_values(self.rows, self.rows, starts, memory)
        values = attempt("values", policy.values, self.rows)
        return (*told, *pair), (together.log_prob(actions), streamed, values[:, :-1], values[:, 1:])


def _lacks(distribution: Any) -> Problems:
    """The methods of a distribution that are missing."""
    methods = ("sample", "mode", "log_prob", "entropy", "kl")
    yield from common.has_methods(distribution, methods, "surefoot.theory.distributions.AbstractDistribution")
