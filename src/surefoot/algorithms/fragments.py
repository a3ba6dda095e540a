"""The work of A3C's workers: continue their own episodes for a few steps, and differentiate."""

from weakref import WeakKeyDictionary

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree, UInt32

from surefoot.algorithms.estimator import Estimator
from surefoot.algorithms.normalisation import Scales
from surefoot.algorithms.on_policy import critic_of
from surefoot.policies import AbstractActorCritic
from surefoot.samplers.action_sampler import ActionSampler
from surefoot.samplers.base import finals_of_streams
from surefoot.samplers.batched import keys_of_streams
from surefoot.samplers.host_rollouts import add_task_axis, renewal_keys, repeat_rows, rollout_steps
from surefoot.samplers.host_runner import HostRunner
from surefoot.samplers.messages import with_warm_up
from surefoot.samplers.record import Record
from surefoot.samplers.remote import idle_runner
from surefoot.theory.divergences import mean_entropy
from surefoot.theory.objectives import AbstractObjective, loss_and_gradient
from surefoot.types import Observations, Rollout, Task


class Fragment(eqx.Module):
    """The request to a worker, without the policy and the key."""

    objective: AbstractObjective
    estimator: Estimator = eqx.field(static=True)
    scales: Scales
    task: Task
    """With a leading axis of one."""
    rows: int = eqx.field(static=True)
    """Environments of each worker."""
    steps: int = eqx.field(static=True)


class Learned(eqx.Module):
    """The answer of a worker."""

    gradient: PyTree
    """The gradient of the loss, with the policy's structure."""
    loss: Float[Array, ""]
    entropy: Float[Array, ""]
    """Mean entropy of the policy that sampled, in nats."""
    returns: Float[np.ndarray, " ended"]
    """Undiscounted, of the episodes that ended in the fragment."""
    lengths: Int[np.ndarray, " ended"]


@with_warm_up(idle_runner)
def learn_fragment(
    runner: HostRunner, fragment: Fragment, policy: AbstractActorCritic, words: UInt32[np.ndarray, " words"]
) -> Learned:
    """In a worker: the gradient of its next `fragment.steps` steps. `words` are those of the fragment's key.

    Its environments go on from its last fragment; a worker that has replaced another begins anew.
    """
    ongoing = _ONGOING.get(runner)
    if ongoing is None:
        ongoing = _ONGOING[runner] = Ongoing(runner, fragment)
    rollout, returns, lengths = ongoing.rollout(policy, words, fragment.steps)
    gradient, loss, entropy = fragment_gradient(fragment, policy, rollout)
    return Learned(gradient, loss, entropy, np.array(returns), np.array(lengths, int))


def begin_anew(runner: HostRunner) -> None:
    """In a worker: ends the episodes of an earlier training, which may be of another task."""
    _ONGOING.pop(runner, None)


@eqx.filter_jit
def fragment_gradient(
    fragment: Fragment, policy: AbstractActorCritic, rollout: Rollout
) -> tuple[PyTree, Array, Array]:
    """The gradient of the loss of a rollout `[row time ...]`, the loss, and the mean entropy. Advantages
    are over the policy's own values, which also stand for what follows the last step."""
    estimator = fragment.estimator
    batch = estimator.batch(estimator.prepare(rollout, fragment.scales), None, critic_of(policy))
    loss, gradient = loss_and_gradient(fragment.objective, policy, batch)
    return gradient, loss, mean_entropy(policy(batch.observations), batch.valid)


class Ongoing:
    """A worker's environments, from one fragment to the next."""

    def __init__(self, runner: HostRunner, fragment: Fragment) -> None:
        self._env, self._simulator = runner.env, runner.of_stream(0).simulator  # closed with the runner
        self._rows = fragment.rows
        self._tasks = repeat_rows(fragment.task, fragment.rows)
        self._sampler_state: tuple[Observations, np.ndarray] | None = None
        self._returns = np.zeros(fragment.rows)

    def rollout(
        self, policy: AbstractActorCritic, words: UInt32[np.ndarray, " words"], steps: int
    ) -> tuple[Rollout, list[float], list[int]]:
        """The next steps of every row, axes `[row time ...]`, and return and length of each episode that
        ended in them."""
        key = jax.random.wrap_key_data(jnp.asarray(words))
        begins, acts = map(np.asarray, keys_of_streams(key, self._rows))
        if self._sampler_state is None:
            first = self._simulator.begin(renewal_keys(begins, steps), self._tasks)
            self._sampler_state = jax.tree.map(np.array, first), np.zeros(self._rows, np.int32)
        action_sampler, record = (
            ActionSampler(add_task_axis(policy), acts[None]),
            Record(self._env, self._rows, steps, finals_of_streams(self._env, steps)),
        )
        self._sampler_state = rollout_steps(
            self._simulator,
            self._env.horizon,
            action_sampler,
            *self._sampler_state,
            begins,
            record,
            np.arange(self._rows),
        )
        rollout = record.rollout((self._rows,))
        return rollout, *self._ended(rollout)

    def _ended(self, rollout: Rollout) -> tuple[list[float], list[int]]:
        rewards, times, ended = map(
            np.asarray, (rollout.rewards, rollout.times, rollout.terminated | rollout.truncated)
        )
        returns: list[float] = []
        lengths: list[int] = []
        for step in range(rewards.shape[1]):
            self._returns += rewards[:, step]
            over = ended[:, step]
            returns.extend(self._returns[over].tolist())
            lengths.extend((times[over, step] + 1).tolist())
            self._returns[over] = 0
        return returns, lengths


_ONGOING: WeakKeyDictionary[HostRunner, Ongoing] = WeakKeyDictionary()
"""The ongoing episodes of each runner; a worker process has one, a caller that samples itself more."""
