"""Algorithms: compositions of rules, and the way from trajectories to advantages."""

from surefoot.algorithms.a3c import A3C as A3C
from surefoot.algorithms.adaptation import Adaptation as Adaptation, adapt_to_tasks as adapt_to_tasks
from surefoot.algorithms.base import (
    AbstractAlgorithm as AbstractAlgorithm,
    LearnerState as LearnerState,
    Setting as Setting,
    policy_objective as policy_objective,
)
from surefoot.algorithms.estimation import Estimation as Estimation, episode_returns as episode_returns
from surefoot.algorithms.maml import MAML as MAML
from surefoot.algorithms.normalisation import Normalisation as Normalisation, Scales as Scales
from surefoot.algorithms.off_policy import OffPolicyReinforce as OffPolicyReinforce
from surefoot.algorithms.reinforce import Reinforce as Reinforce
from surefoot.algorithms.single_task import SingleTask as SingleTask
