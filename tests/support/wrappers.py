"""Parts that hold another part and delegate everything to it, as a user's own wrapper does."""

from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from jaxtyping import Array, PyTree

from surefoot.envs import AbstractEnv, AbstractFamily
from surefoot.envs.simulation import AbstractSimulator
from surefoot.policies import AbstractPolicy, PolicyOptions
from surefoot.policies.base import act, initial_memory
from surefoot.rules import AbstractRule
from surefoot.samplers import AbstractSampler
from surefoot.types import ActionSpace, Key, ObservationSpace, Rollout


@dataclass(frozen=True)
class WrappedRule(AbstractRule):
    rule: AbstractRule

    @property
    def requires_surrogate(self) -> bool:
        return self.rule.requires_surrogate

    @property
    def takes_several_steps(self) -> bool:
        return self.rule.takes_several_steps

    @property
    def measures_by_kl(self) -> bool:
        return self.rule.measures_by_kl

    def init(self, policy: PyTree) -> PyTree:
        return self.rule.init(policy)

    def step(self, objective: Any, policy: PyTree, batch: PyTree, state: PyTree) -> tuple[Any, Any, Any]:
        return self.rule.step(objective, policy, batch, state)


class WrappedPolicy(AbstractPolicy):
    policy: Any

    @property
    def is_recurrent(self) -> bool:
        return self.policy.is_recurrent

    @property
    def predicts_values(self) -> bool:
        return self.policy.predicts_values

    @property
    def auxiliary(self) -> Any:
        return self.policy.auxiliary

    def __call__(self, observations: Array) -> Any:
        return self.policy(observations)

    def values(self, observations: Array) -> Array:
        return self.policy.values(observations)

    def outputs(self, observations: Array, actions: Array) -> Any:
        return self.policy.outputs(observations, actions)

    def initial_memory(self) -> PyTree:
        return initial_memory(self.policy)

    def act(self, observations: Array, memory: PyTree) -> tuple[Any, PyTree]:
        return act(self.policy, observations, memory)

    def unroll(self, observations: Array, starts: Array, memory: PyTree) -> Any:
        return self.policy.unroll(observations, starts, memory)

    def unroll_outputs(self, observations: Array, actions: Array, starts: Array, memory: PyTree) -> Any:
        return self.policy.unroll_outputs(observations, actions, starts, memory)

    def unroll_values(self, now: Array, following: Array, starts: Array, memory: PyTree) -> Any:
        return self.policy.unroll_values(now, following, starts, memory)


@dataclass(frozen=True)
class WrappedPolicyOptions(PolicyOptions):
    options: PolicyOptions

    def build(
        self, key: Key, observation_space: ObservationSpace, action_space: ActionSpace
    ) -> WrappedPolicy:
        return WrappedPolicy(self.options.build(key, observation_space, action_space))


@dataclass(frozen=True)
class WrappedFamily(AbstractFamily):
    """A family that is not an `AbstractEnv`, whatever it wraps."""

    family: AbstractFamily

    @property
    def horizon(self) -> int:
        return self.family.horizon

    @property
    def releases_gil(self) -> bool:
        return self.family.releases_gil

    @property
    def trial_episodes(self) -> int | None:
        return self.family.trial_episodes

    @property
    def observation_space(self) -> ObservationSpace:
        return self.family.observation_space

    @property
    def action_space(self) -> ActionSpace:
        return self.family.action_space

    @property
    def time_limit_ends_return(self) -> bool:
        return self.family.time_limit_ends_return

    def sample_tasks(self, key: Key, n: int) -> Any:
        return self.family.sample_tasks(key, n)

    def simulator(self, threads: int) -> AbstractSimulator:
        return self.family.simulator(threads)


@dataclass(frozen=True)
class WrappedEnv(WrappedFamily, AbstractEnv):
    family: AbstractEnv

    def reset(self, key: Key, task: Any) -> tuple[Any, Array]:
        return self.family.reset(key, task)

    def step(self, key: Key, state: Any, action: Array, task: Any) -> Any:
        return self.family.step(key, state, action, task)


@dataclass(frozen=True)
class WrappedSampler(AbstractSampler):
    sampler: AbstractSampler

    @property
    def env(self) -> AbstractFamily:
        return self.sampler.env

    @property
    def episodes(self) -> int:
        return self.sampler.episodes

    @property
    def traceable(self) -> bool:
        return self.sampler.traceable

    @property
    def asynchronous(self) -> bool:
        return self.sampler.asynchronous

    def start(self, policy: AbstractPolicy, task: Any, key: Key) -> PyTree:
        return self.sampler.start(policy, task, key)

    def collect(self, policy: AbstractPolicy, task: Any, where: PyTree, key: Key) -> tuple[PyTree, Rollout]:
        return self.sampler.collect(policy, task, where, key)

    def submit(self, policy: AbstractPolicy, task: Any, key: Key) -> Future[Rollout]:
        return self.sampler.submit(policy, task, key)

    def sample(self, policies: AbstractPolicy, tasks: Any, key: Key, first: Any = 0) -> Rollout:
        return self.sampler.sample(policies, tasks, key, first)

    def close(self) -> None:
        self.sampler.close()
