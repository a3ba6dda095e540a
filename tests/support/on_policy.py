"""Everything of an iteration of a single task before its rule takes a step."""

from dataclasses import replace
from typing import NamedTuple

import jax

from surefoot.algorithms import LearnerState, Setting
from surefoot.algorithms.on_policy import critic_of, prepare
from surefoot.types import Batch, Key


class PreparedBatch(NamedTuple):
    batch: Batch
    state: LearnerState
    """The state of the next iteration, but for policy, rule and baselines."""


def prepared_batch(setting: Setting, state: LearnerState, key: Key) -> PreparedBatch:
    estimator, (baseline,) = setting.estimator, state.baselines
    acting = estimator.acting(state.policy, state.scales)
    task = jax.tree.map(lambda x: x[0], state.own.task)
    sampler_state, sampled = setting.sampler.collect(acting, task, state.own.sampler, key)
    batch = estimator.batch(prepare(estimator, state, sampled), baseline, critic_of(state.policy))
    progress = state.own.progress.after(sampled)
    own = replace(state.own, sampler=sampler_state, progress=progress)
    return PreparedBatch(batch, replace(state, scales=estimator.update(state.scales, sampled), own=own))
