"""RL²: a policy with a memory learns to adapt within trials (Duan et al., 2016b; Wang et al., 2016)."""

from dataclasses import dataclass, replace
from typing import Annotated, Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree

from surefoot.algorithms.adaptation import for_each_task, sample_tasks
from surefoot.algorithms.base import AbstractTrialAdapter, LearnerState, Setting, own_keys
from surefoot.algorithms.estimator import Estimator
from surefoot.algorithms.improvement import Improvement
from surefoot.algorithms.normalisation import Scales
from surefoot.algorithms.on_policy import AbstractOnPolicyAlgorithm, OnPolicyState
from surefoot.algorithms.reporting import Progress, describe_trials
from surefoot.envs import AbstractFamily
from surefoot.envs.trial import episode_numbers
from surefoot.options import UserError, at_least
from surefoot.policies import AbstractPolicy, RememberingPolicy, act, initial_memory
from surefoot.rules import AbstractRule
from surefoot.rules.base import Metrics
from surefoot.samplers import AbstractSampler
from surefoot.types import Batch, Key, Observations, Rollout, masked


class MemoryAdapter(AbstractTrialAdapter):
    """Adapts a policy by its memory: a step of adaptation is an episode of a trial, and the parameters stay
    as they are.

    A learner is the policy and its memory. Where a task has several trials, `improve` carries the memory of
    the first one.
    """

    steps: int = eqx.field(static=True)
    scales: Scales
    estimator: Estimator = eqx.field(static=True)

    def begin(self, policy: AbstractPolicy) -> tuple[AbstractPolicy, PyTree]:
        """The policy, and its memory at the beginning of a trial."""
        return policy, initial_memory(policy)

    def acting(self, learner: tuple[AbstractPolicy, PyTree]) -> AbstractPolicy:
        """The policy that goes on from its memory. In the first observation after an episode it expects the
        last action, its reward and the end of the episode, as `Trial` gives them."""
        return self.estimator.acting(RememberingPolicy(*learner), self.scales)

    def phases(self, rollout: Rollout, steps: int) -> tuple[Rollout, ...]:
        if steps > self.steps:
            raise UserError(
                f"In a trial of {self.steps + 1} episodes there are {self.steps} steps of adaptation, and "
                f"{steps} are asked for; use --steps {self.steps}, or train with more --env.episodes."
            )
        return tuple(episode_of_trials(rollout, k, self.steps + 1) for k in range(steps + 1))

    def batch(self, rollout: Rollout, phase: Int[Array, ""]) -> Batch:
        """An episode of the trial, in the scale that the policy sees. Its advantages are zero: the memory
        needs none."""
        del phase
        seen = self.estimator.prepare(rollout, self.scales).rollout
        return Batch(
            seen.observations, seen.actions, seen.log_probs, jnp.zeros_like(seen.rewards), seen.valid
        )

    def improve(self, learner: tuple[AbstractPolicy, PyTree], batch: Batch) -> tuple[AbstractPolicy, PyTree]:
        """The policy, and its memory after one more episode."""
        policy, memory = learner

        def advance(memory: PyTree, step: tuple[Observations, Array]) -> tuple[PyTree, None]:
            observation, valid = step
            _, following = act(policy, observation, memory)
            return jax.tree.map(lambda new, old: jnp.where(valid, new, old), following, memory), None

        first = jax.tree.map(lambda x: x[0], (batch.observations, batch.valid))
        memory, _ = jax.lax.scan(advance, memory, first)
        return policy, memory


def episode_of_trials(rollout: Rollout, number: int, episodes: int) -> Rollout:
    """One episode of each trial of a rollout `[*axes time ...]`, with the time since it began for the last
    axis. `number` counts from 0 to `episodes` − 1.

    An episode that ends before its horizon is `terminated` there; one that reaches it is `truncated`.
    """
    horizon = rollout.valid.shape[-1] // episodes

    def cut(trial: Rollout) -> Rollout:
        """The episode of one trial, axes `[time ...]`."""
        its_own = trial.valid & (episode_numbers(trial.observations) == number)
        start, length = jnp.argmax(its_own), jnp.sum(its_own)
        steps = jnp.arange(horizon)
        valid = steps < length
        places = jnp.where(valid, start + steps, 0)
        kept = masked(jax.tree.map(lambda x: x[places], trial), valid)
        last = valid & (steps == length - 1)
        led_to = jnp.maximum(start + length - 1, 0)
        return replace(
            kept,
            final_observations=jax.tree.map(lambda x: x[led_to][None], trial.next_observations),
            valid=valid,
            terminated=last & (length < horizon),
            truncated=last & (length == horizon),
            times=jnp.where(valid, steps, 0).astype(trial.times.dtype),
        )

    for _ in range(rollout.valid.ndim - 1):
        cut = jax.vmap(cut)
    return cut(replace(rollout, memory=None))


@dataclass(frozen=True)
class RL2(Improvement, AbstractOnPolicyAlgorithm):
    """RL²: improve a policy with a memory on trials, each several episodes of one task, so that it learns to
    explore and to adapt by what it remembers (Duan et al., 2016b).

    Every batch has new tasks. Advantages run on from one episode of a trial to the next. Needs an environment
    of trials (`--env trial`) and a recurrent policy.
    """

    tasks: Annotated[int, at_least(1)] = 20
    """Number of tasks drawn at each iteration; `--episodes` trials are sampled of each."""
    adapts = True

    @property
    def adaptation_rule(self) -> None:
        """None: the policy adapts by its memory."""
        return None

    def init(self, setting: Setting, policy: AbstractPolicy, key: Key) -> LearnerState:
        """Raises `UserError` if the environment has no trials, the sampler draws no whole episodes, or the
        policy has no memory."""
        env = setting.sampler.env
        if env.trial_episodes is None:
            raise UserError(
                "RL² learns from trials of several episodes, and this environment has none; wrap it: "
                "--env trial --env.env NAME, or surefoot.envs.Trial(env, episodes) in Python."
            )
        if not isinstance(setting.sampler, AbstractSampler):
            raise UserError("RL² learns from whole trials; set --streams 0.")
        if not policy.is_recurrent:
            raise UserError(
                "RL² adapts by the policy's memory, and this policy has none; use --policy gru, or --policy "
                "recurrent-actor-critic or attention-actor-critic with --rule ppo-clip."
            )
        self.check_policy(policy)
        baseline_key, rule_key = jax.random.split(key)
        baseline, scales = setting.estimator.init(baseline_key, env)
        progress = Progress.start(self.tasks * setting.sampler.episodes)
        own = OnPolicyState(own_keys(self.rule.init(policy), rule_key), None, None, progress)
        return LearnerState(policy, scales, (baseline,), own)

    def sample(self, setting: Setting, state: LearnerState, key: Key) -> tuple[None, Rollout]:
        """Trials of new tasks, all in one batch."""
        sampler: Any = setting.sampler
        task_key, rollout_key = jax.random.split(key)
        tasks = sampler.env.sample_tasks(task_key, self.tasks)
        acting = setting.estimator.acting(state.policy, state.scales)
        policies = for_each_task(acting, self.tasks)
        rollout = sample_tasks(sampler, policies, tasks, rollout_key, 0)
        return None, jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), rollout)

    def describe(self, env: AbstractFamily, sampled: Rollout) -> Metrics:
        """The returns of the first and of the last episode of a trial."""
        assert env.trial_episodes is not None
        return describe_trials(sampled, env.trial_episodes)

    def adapter(
        self, estimator: Estimator, state: LearnerState, rule: AbstractRule | None = None
    ) -> MemoryAdapter:
        """Raises `UserError` if a rule is given."""
        if rule is not None:
            raise UserError("RL² adapts by the policy's memory and takes no rule for it; leave out --inner.")
        assert estimator.trial_episodes is not None
        return MemoryAdapter(estimator.trial_episodes - 1, state.scales, estimator)

    def learned(self, state: LearnerState) -> Any:
        return state.policy, state.scales, state.baselines, state.own.rule
