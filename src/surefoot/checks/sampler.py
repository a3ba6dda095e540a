"""The contract kit of samplers."""

from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from surefoot.checks.common import close, finite, has_methods, is_instance, same, same_form
from surefoot.checks.problem import Problem, collect, error, require
from surefoot.checks.sampler_probe import TASKS, FailingPolicy, SamplerProbe
from surefoot.policies import AbstractPolicy

_METHODS = ("submit", "sample", "start", "collect")


def check_sampler(
    sampler: Any, policy: AbstractPolicy | None = None, *, timeout: float = 120.0
) -> list[Problem]:
    """All ways in which `sampler` breaks the contract of `samplers.AbstractSampler`; none if it is sound.

    It samples three tasks of its environment, each with its own policy: `policy`, or a small perceptron, with
    a little noise on its parameters. A future that takes longer than `timeout` seconds is a problem. What its
    code raises is reported, not raised.
    """
    problems = collect([_attributes], sampler)
    return problems or collect(_CHECKS, SamplerProbe(sampler, policy, timeout))


def _attributes(sampler: Any) -> Iterator[Problem]:
    yield from is_instance(sampler, "a sampler")
    yield from has_methods(sampler, _METHODS, "surefoot.samplers.AbstractSampler")
    if not hasattr(sampler, "env"):
        yield error("`env` is missing.", "Algorithms draw tasks from it.", "Make it a field.")
    episodes = getattr(sampler, "episodes", None)
    if not isinstance(episodes, int) or episodes < 1:
        yield error(
            f"`episodes` is {episodes!r}; it must be an int of 1 or more.",
            "So many episodes of each task are drawn.",
            "Make it a field.",
        )


def _sample_has_the_axes(probe: SamplerProbe) -> Iterator[Problem]:
    yield from probe.form_problems()


def _episodes_end_once(probe: SamplerProbe) -> Iterator[Problem]:
    rollout = probe.sampled
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
            "Where the state is terminal, the time limit does not matter: truncated = limit & ~terminated.",
        )
    elif not np.array_equal(terminated | truncated, last):
        yield error(
            "`terminated` or `truncated` is not set at the last valid step of each episode, and there alone.",
            "The return ends, or is bootstrapped, at the wrong step.",
            "Play every episode to its end or to the horizon, and set one of the two there.",
        )
    elif (truncated.any(-1) & (valid.sum(-1) != probe.sampler.env.horizon)).any():
        yield error(
            "An episode is truncated before the horizon.",
            "Unfinished episodes that are cut short favour tasks that end early.",
            "Play every episode to its end or to `env.horizon`.",
        )


def _log_probs_are_those_of_the_actions(probe: SamplerProbe) -> Iterator[Problem]:
    rollout = probe.sampled
    expected = eqx.filter_vmap(lambda policy, r: policy(r.observations).log_prob(r.actions))(
        probe.policies, rollout
    )
    if not close(jnp.where(rollout.valid, rollout.log_probs, 0.0), jnp.where(rollout.valid, expected, 0.0)):
        yield error(
            "`log_probs` are not those of `actions` at `observations` under the task's own policy.",
            "Importance ratios must be exactly one at the policy that drew the data.",
            "Store observation, action and log-probability as the policy saw and drew them, before clipping.",
        )


def _sample_follows_the_key(probe: SamplerProbe) -> Iterator[Problem]:
    if not same(probe.sampled, probe.sample(TASKS, probe.key)):
        yield error(
            "`sample` gives different rollouts for the same arguments.",
            "Runs could not be repeated or resumed.",
            "Derive all randomness from the key: fold in the task, the episode and the step.",
        )
    elif same(probe.sampled.actions, probe.sample(TASKS, jax.random.fold_in(probe.key, 1)).actions):
        yield error(
            "`sample` gives the same actions for different keys.",
            "Every iteration would learn from the same noise.",
            "Derive all randomness from the key.",
        )


def _episodes_differ(probe: SamplerProbe) -> Iterator[Problem]:
    alike = probe.sample_alike().actions
    pairs = {"tasks": (alike[0], alike[1])}
    if alike.shape[1] > 1:
        pairs["episodes"] = (alike[:, 0], alike[:, 1])
    for name, (one, other) in pairs.items():
        if same(one, other):
            yield error(
                f"Two {name} get the same action noise.",
                "They count twice and teach once.",
                f"Fold the number of each of the {name} into the key.",
            )


def _tasks_do_not_depend_on_each_other(probe: SamplerProbe) -> Iterator[Problem]:
    fewer = jax.tree.map(lambda x: x[: TASKS - 1], probe.sampled)
    if not close(fewer, probe.sample(TASKS - 1, probe.key)):
        yield error(
            "The rollouts of the first tasks depend on how many others are sampled with them.",
            "Results would depend on the number of tasks or workers.",
            "Use fold_in(key, i) for task i; jax.random.split(key, n) depends on n.",
        )


def _submit_agrees_with_sample(probe: SamplerProbe) -> Iterator[Problem]:
    for i in range(TASKS):
        if not close(probe.submitted(i), jax.tree.map(lambda x, i=i: x[i], probe.sampled)):
            yield error(
                f"`submit` with the policy, task and fold_in(key, {i}) differs from row {i} of `sample`.",
                "Whichever of the two is used, a run must come out the same.",
                "Let both call one function for one task, with the key of that task.",
            )
            return


def _collect_goes_on(probe: SamplerProbe) -> Iterator[Problem]:
    require(probe.collected_form_problems())
    where, batch = probe.collect()
    why = "Training is one compiled program, in which forms are fixed."
    yield from same_form(probe.start, where, "where", why)
    if not same((where, batch), probe.collect()):
        yield error(
            "`collect` gives different batches for the same arguments.",
            "Runs could not be repeated or resumed.",
            "Derive all randomness from the key, and return what must be remembered as `where`.",
        )


def _next_observations_are_those_that_follow(probe: SamplerProbe) -> Iterator[Problem]:
    rollout = probe.sampled
    valid = np.asarray(rollout.valid)
    here, there = np.asarray(rollout.observations), np.asarray(rollout.next_observations)
    if not finite(there[valid]):
        yield error(
            "Among the `next_observations` of valid steps there are NaN or infinite values.",
            "Returns are bootstrapped from their values.",
            "Store what each step led to, the last one of an episode included.",
        )
        return
    goes_on = valid[..., 1:]
    if not close(there[..., :-1, :][goes_on], here[..., 1:, :][goes_on]):
        yield error(
            "`next_observations` are not the observations of the steps that follow.",
            "Temporal differences and models would be learned from steps that were never taken.",
            "Store what `step` gave, before any reset: the policy sees the same at the next step.",
        )


def _times_count_the_steps(probe: SamplerProbe) -> Iterator[Problem]:
    valid, times = np.asarray(probe.sampled.valid), np.asarray(probe.sampled.times)
    if (valid & (times != np.arange(valid.shape[-1]))).any():
        yield error(
            "`times` do not count the steps of each episode from 0.",
            "Baselines see the time; and zero marks where an episode begins.",
            "Store the number of steps since the reset: 0, 1, 2, …",
        )


def _exceptions_travel_in_the_future(probe: SamplerProbe) -> Iterator[Problem]:
    remedy = "Catch it where the sampling is done, and call future.set_exception."
    why = "The caller waits on the future, and must learn there what went wrong."
    try:
        future = probe.sampler.submit(FailingPolicy(jnp.zeros(1)), probe.task(0), probe.key)
    except Exception as failed:
        yield error(f"An exception in the policy leaves `submit` at once: {failed}.", why, remedy)
        return
    if isinstance(future, Future) and not _fails(future, probe.timeout):
        yield error("An exception in the policy does not reach the future.", why, remedy)


def _fails(future: Future[Any], timeout: float) -> bool:
    try:
        return future.exception(timeout) is not None
    except TimeoutError:
        return False


_CHECKS = (
    _sample_has_the_axes,
    _episodes_end_once,
    _log_probs_are_those_of_the_actions,
    _sample_follows_the_key,
    _episodes_differ,
    _tasks_do_not_depend_on_each_other,
    _submit_agrees_with_sample,
    _collect_goes_on,
    _next_observations_are_those_that_follow,
    _times_count_the_steps,
    _exceptions_travel_in_the_future,
)
