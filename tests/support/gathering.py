"""What an iteration of a single task learns from, before it learns."""

from surefoot.algorithms import Setting
from surefoot.algorithms.base import LearnerState
from surefoot.algorithms.on_policy import PreparedBatch, judge, play_batch
from surefoot.types import Key


def gather(setting: Setting, state: LearnerState, key: Key) -> PreparedBatch:
    limit_ends = setting.sampler.env.time_limit_ends_return
    played = play_batch(setting, state, key)
    return judge(setting.estimation, setting.normalisation, limit_ends, state, *played)
