"""Everything of an iteration of a single task before its rule takes a step."""

from surefoot.algorithms import LearnerState, Setting
from surefoot.algorithms.on_policy import PreparedBatch, estimate, prepare, sample_batch
from surefoot.types import Key


def prepared_batch(setting: Setting, state: LearnerState, key: Key) -> PreparedBatch:
    sampler_state, sampled = sample_batch(setting, state, key)
    ready = prepare(setting.estimator, state, sampled)
    return estimate(setting.estimator, state, sampler_state, sampled, ready)
