"""The contract kit of samplers."""

from concurrent.futures import Future
from contextlib import suppress
from functools import cached_property
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from surefoot.checks import common
from surefoot.checks.problem import Problem, Problems, Stop, attempt, collect, error, require
from surefoot.loading import FAILURES
from surefoot.policies import AbstractPolicy, CategoricalMLP, GaussianMLP
from surefoot.samplers.base import empty_rollout
from surefoot.types import Continuous, Key, Rollout

_TASKS = 3
_SEED = 7
_FIELDS = tuple(name for name in Rollout.__dataclass_fields__ if name != "memory")
_METHODS = ("submit", "sample", "start", "collect")


def check_sampler(
    sampler: Any, policy: AbstractPolicy | None = None, *, timeout: float = 120.0
) -> list[Problem]:
    """All ways in which `sampler` breaks the contract of `samplers.AbstractSampler`; an empty list if it is
    sound.

    It samples three tasks of its environment, each with its own policy: `policy`, or a small perceptron, with
    a little noise on its parameters. A future that takes longer than `timeout` seconds is a problem. An
    exception in its code is reported, not raised.
    """
    kit = SamplerChecks(sampler, policy, timeout)
    return common.is_class(sampler, "a sampler") or collect(kit, "attributes") or collect(kit)


class FailingPolicy(AbstractPolicy):
    """Raises whenever it is asked for an action."""

    parameter: Array

    def __call__(self, observations: Array) -> Any:
        raise RuntimeError(f"this policy fails, to see where the exception goes {observations.shape}")


class SamplerChecks:
    """The checks of a sampler, and the calls with fixed keys that they share. Every method may raise
    `Stop`."""

    def __init__(self, sampler: Any, policy: AbstractPolicy | None, timeout: float) -> None:
        self.sampler, self.given, self.timeout = sampler, policy, timeout
        self.key = jax.random.key(_SEED)

    @cached_property
    def policies(self) -> AbstractPolicy:
        """A policy for each task: the same one, with some noise on its parameters."""
        policy, env = self.given, self.sampler.env
        if policy is None:
            options = GaussianMLP if isinstance(env.action_space, Continuous) else CategoricalMLP
            policy = options(hidden=(8,)).build(self.key, env.observation_space, env.action_space)
        keys = jax.random.split(self.key, _TASKS)

        def vary(x: Any) -> Any:
            if not eqx.is_inexact_array(x):
                return jnp.broadcast_to(x, (_TASKS, *x.shape)) if eqx.is_array(x) else x
            return x + 0.1 * jax.vmap(lambda k: jax.random.normal(k, x.shape, x.dtype))(keys)

        return jax.tree.map(vary, policy)

    @cached_property
    def tasks(self) -> PyTree:
        """Tasks of the sampler's environment."""
        return attempt("env.sample_tasks", self.sampler.env.sample_tasks, self.key, _TASKS)

    def rows(self, chosen: Any) -> tuple[AbstractPolicy, PyTree]:
        """The policies and tasks of those numbers, or of one."""
        return jax.tree.map(lambda x: x[chosen] if eqx.is_array(x) else x, (self.policies, self.tasks))

    def sample(self, key: Key, rows: Any = slice(None)) -> Rollout:
        """`sample` with those policies and tasks."""
        return _rollout("sample", attempt("sample", self.sampler.sample, *self.rows(rows), key))

    @cached_property
    def sampled(self) -> Rollout:
        """The rollouts of all tasks, of the right form."""
        require(self.check_sample_has_the_axes())
        return self._first

    @cached_property
    def _first(self) -> Rollout:
        return self.sample(self.key)

    @cached_property
    def start(self) -> PyTree:
        """The sampler's state before the first batch of the first task."""
        return attempt("start", self.sampler.start, *self.rows(0), self.key)

    def collect(self) -> tuple[PyTree, Rollout]:
        """The first batch of the first task, and the state after it."""
        result = attempt("collect", self.sampler.collect, *self.rows(0), self.start, self.key)
        why = "Algorithms take the next batch's beginning and this batch from it."
        remedy = "Return (where, rollout); `where` may be None."
        where, rollout = common.elements("collect", result, 2, why, remedy)
        return where, _rollout("collect", rollout)

    def submitted(self, i: int) -> Rollout:
        """The rollout of task i by `submit`."""
        future = attempt("submit", self.sampler.submit, *self.rows(i), jax.random.fold_in(self.key, i))
        if not isinstance(future, Future):
            problem = error(
                f"`submit` returns {common.describe(future)}, not a concurrent.futures.Future.",
                "Callers wait on it, and await it from asyncio.",
                "Return a Future, finished or not.",
            )
            raise Stop(problem)
        return _rollout("submit", attempt("submit", future.result, self.timeout))

    def _form_problems(self, method: str, rollout: Rollout, leading: tuple[int, ...]) -> Problems:
        """Arrays of the rollout that have another shape or dtype than they must."""
        env = self.sampler.env
        steps = min(jnp.shape(rollout.valid)[-1] if jnp.ndim(rollout.valid) else 0, env.horizon)
        wanted = jax.eval_shape(lambda: empty_rollout(env, (*leading, self.sampler.episodes, steps)))
        names = "task episode" if leading else "episode"
        for field in _FIELDS:
            leaves = common.leaves_with_names(getattr(rollout, field), field)
            for (name, leaf), form in zip(leaves, jax.tree.leaves(getattr(wanted, field)), strict=True):
                yield from common.has_form(
                    f"`{method}` gives `{name}` as",
                    leaf,
                    jax.ShapeDtypeStruct(form.shape, _as_wide(form.dtype, leaf)),
                    f"Axes are [{names} time ...], padded to a common length of at most the horizon; each "
                    "episode has one final observation.",
                    "Give the array these axes, and this dtype.",
                )

    def check_attributes(self) -> Problems:
        yield from common.has_methods(self.sampler, _METHODS, "surefoot.samplers.AbstractSampler")
        if not hasattr(self.sampler, "env"):
            yield error("`env` is missing.", "Algorithms draw tasks from it.", "Make it a field.")
        why = "It is the number of episodes that are drawn of each task."
        yield from common.has_attribute(self.sampler, "episodes", *common.COUNT, why, "a field")

    def check_sample_has_the_axes(self) -> Problems:
        yield from self._form_problems("sample", self._first, (_TASKS,))

    def check_episodes_end_once(self) -> Problems:
        rollout, env = self.sampled, self.sampler.env
        valid, terminated, truncated = map(np.asarray, (rollout.valid, rollout.terminated, rollout.truncated))
        if not (valid[..., 0].all() and (valid[..., 1:] <= valid[..., :-1]).all()):
            yield error(
                "`valid` is not a run of True from the first step, followed by False.",
                "Padding would be learned from, or steps lost.",
                "Set it for every step up to an episode's end, the last one included.",
            )
            return
        last = valid & ~np.concatenate([valid[..., 1:], np.zeros_like(valid[..., :1])], axis=-1)
        if (terminated & truncated).any():
            yield error(
                "A step is both terminated and truncated.",
                "Its return would be bootstrapped from a terminal state.",
                "In a terminal state the time limit does not matter: truncated = limit & ~terminated.",
            )
        elif not np.array_equal(terminated | truncated, last):
            yield error(
                "`terminated` or `truncated` is not set at each episode's last valid step, and only there.",
                "The return ends, or is bootstrapped, at the wrong step.",
                "Run every episode to its end or to the horizon, and set one of the two there.",
            )
        elif env.is_traceable and (truncated.any(-1) & (valid.sum(-1) != env.horizon)).any():
            yield error(
                "An episode is truncated before the horizon.",
                "Unfinished episodes that are cut short favour tasks that end early.",
                "Run every episode to its end or to `env.horizon`.",
            )

    def check_log_probs_are_those_of_the_actions(self) -> Problems:
        rollout = self.sampled
        log_prob = eqx.filter_vmap(lambda policy, r: policy(r.observations).log_prob(r.actions))
        expected = attempt("log_prob", eqx.filter_jit(log_prob), self.policies, rollout)
        if not common.close(*(np.where(rollout.valid, x, 0.0) for x in (rollout.log_probs, expected))):
            yield error(
                "`log_probs` are not those of `actions` at `observations` under the task's own policy.",
                "Importance ratios must be exactly one at the policy that drew the data.",
                "Store observation, action and log-probability as the policy saw and drew them, unclipped.",
            )

    def check_sample_follows_the_key(self) -> Problems:
        if not common.same(self.sampled, self.sample(self.key)):
            yield error(
                "`sample` gives different rollouts for the same arguments.",
                "Runs could not be repeated or resumed.",
                "Derive all randomness from the key: fold in the task, the episode and the step.",
            )
        elif common.same(self.sampled.actions, self.sample(jax.random.fold_in(self.key, 1)).actions):
            yield error(
                "`sample` gives the same actions for different keys.",
                "Every iteration would learn from the same noise.",
                "Derive all randomness from the key.",
            )

    def check_episodes_differ(self) -> Problems:
        alike = self.sample(self.key, jnp.zeros(_TASKS, int)).actions
        pairs = {"tasks": (alike[0], alike[1])}
        if alike.shape[1] > 1:
            pairs["episodes"] = (alike[:, 0], alike[:, 1])
        for name, (one, other) in pairs.items():
            if common.same(one, other):
                yield error(
                    f"Two {name} get the same action noise.",
                    "The second adds nothing to what the first shows.",
                    f"Fold the number of each of the {name} into the key.",
                )

    def check_tasks_do_not_depend_on_each_other(self) -> Problems:
        fewer = jax.tree.map(lambda x: x[: _TASKS - 1], self.sampled)
        if not common.close(fewer, self.sample(self.key, slice(_TASKS - 1))):
            yield error(
                "The rollouts of the first tasks depend on how many others are sampled with them.",
                "Results would depend on the number of tasks or workers.",
                "Use fold_in(key, i) for task i; jax.random.split(key, n) depends on n.",
            )

    def check_tasks_have_their_numbers(self) -> Problems:
        arguments = *self.rows(slice(1, None)), self.key, 1
        later = _rollout("sample", attempt("sample", self.sampler.sample, *arguments))
        if not common.close(jax.tree.map(lambda x: x[1:], self.sampled), later):
            yield error(
                "`sample` does not take the number of its first task into account, its last argument.",
                "Tasks are evaluated in chunks, and the same ones must come out.",
                "Use fold_in(key, first + i) for the task in row i.",
            )

    def check_submit_agrees_with_sample(self) -> Problems:
        for i in range(_TASKS):
            if not common.close(self.submitted(i), jax.tree.map(lambda x, i=i: x[i], self.sampled)):
                yield error(
                    f"`submit` with the policy, task and fold_in(key, {i}) differs from row {i} of `sample`.",
                    "Whichever of the two is used, a run must come out the same.",
                    "Let both call one function for one task, with the key of that task.",
                )
                return

    def check_collect_goes_on(self) -> Problems:
        where, batch = self.collect()
        require(self._form_problems("collect", batch, ()))
        why = "Training is one compiled program, in which forms are fixed."
        yield from common.same_form(self.start, where, "where", why)
        if not common.same((where, batch), self.collect()):
            yield error(
                "`collect` gives different batches for the same arguments.",
                "Runs could not be repeated or resumed.",
                "Derive all randomness from the key, and return what must be remembered as `where`.",
            )

    def check_final_observations_are_numbers(self) -> Problems:
        if not common.finite(self.sampled.final_observations):
            yield error(
                "Among the `final_observations` there are NaN or infinite values.",
                "Returns are bootstrapped from their values.",
                "Store what the last step of each episode led to.",
            )

    def check_times_count_the_steps(self) -> Problems:
        valid, times = np.asarray(self.sampled.valid), np.asarray(self.sampled.times)
        if (valid & (times != np.arange(valid.shape[-1]))).any():
            yield error(
                "`times` do not count the steps of each episode from 0.",
                "Baselines see the time; and zero marks where an episode begins.",
                "Store the number of steps since the reset: 0, 1, 2, …",
            )

    def check_exceptions_travel_in_the_future(self) -> Problems:
        remedy = "Catch it where the sampling is done, and call future.set_exception."
        why = "The caller waits on the future, and must learn there what went wrong."
        try:
            future = self.sampler.submit(FailingPolicy(jnp.zeros(1)), self.rows(0)[1], self.key)
        except FAILURES as failed:
            yield error(f"An exception in the policy leaves `submit` at once: {failed}.", why, remedy)
            return
        raised = None
        with suppress(TimeoutError):
            raised = future.exception(self.timeout) if isinstance(future, Future) else future
        if raised is None:
            yield error("An exception in the policy does not reach the future.", why, remedy)


def _as_wide(dtype: Any, leaf: Any) -> Any:
    """The dtype, or that of double precision where JAX computes in it and the leaf has it."""
    own, kinds = getattr(leaf, "dtype", None), {"f": float, "i": int}
    return own if own == jnp.zeros((), kinds.get(dtype.kind, dtype)).dtype else dtype


def _rollout(method: str, result: Any) -> Rollout:
    """The result, which has the fields of a rollout."""
    why = "Advantages are estimated from a Rollout."
    require(common.has_fields(method, result, _FIELDS, why, "Return surefoot.types.Rollout."))
    return result
