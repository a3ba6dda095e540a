"""Algorithms: compositions of rules, and the way from trajectories to advantages."""

from surefoot.algorithms.a3c import A3C as A3C
from surefoot.algorithms.adaptation import Adaptation as Adaptation, adapt_to_tasks as adapt_to_tasks
from surefoot.algorithms.anil import ANIL as ANIL
from surefoot.algorithms.base import (
    AbstractAdapter as AbstractAdapter,
    AbstractAlgorithm as AbstractAlgorithm,
    AbstractTrialAdapter as AbstractTrialAdapter,
    LearnerState as LearnerState,
    Setting as Setting,
    policy_objective as policy_objective,
)
from surefoot.algorithms.cavia import CAVIA as CAVIA
from surefoot.algorithms.emaml import EMAML as EMAML
from surefoot.algorithms.estimation import Estimation as Estimation
from surefoot.algorithms.estimator import Estimator as Estimator, episode_returns as episode_returns
from surefoot.algorithms.gradient_adapter import GradientAdapter as GradientAdapter
from surefoot.algorithms.maml import MAML as MAML
from surefoot.algorithms.meta_sgd import MetaSGD as MetaSGD
from surefoot.algorithms.normalisation import Normalisation as Normalisation, Scales as Scales
from surefoot.algorithms.off_policy import OffPolicyReinforce as OffPolicyReinforce
from surefoot.algorithms.promp import ProMP as ProMP
from surefoot.algorithms.reinforce import Reinforce as Reinforce
from surefoot.algorithms.reptile import Reptile as Reptile
from surefoot.algorithms.rl2 import RL2 as RL2, MemoryAdapter as MemoryAdapter
from surefoot.algorithms.single_task import SingleTask as SingleTask
