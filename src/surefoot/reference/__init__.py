"""Reference agents: algorithms that learn one problem by its statistics.

They show how well the exact problems can be learned. For bandits there are `Random`, `EpsilonGreedyArm`,
`UCB1`, `ThompsonSampling`, `GittinsIndex` and `BestArm`; for tabular MDPs `Random`, `EpsilonGreedy`, `PSRL`,
`OptimisticPSRL`, `UCRL2` and `Optimum`. `total_rewards` evaluates any of them, and `bayes_optimal_reward` is
the most that a learner of a small bandit can have. To add one, write its class and export it here.
"""

from surefoot.reference.bandits import (
    UCB1 as UCB1,
    BestArm as BestArm,
    EpsilonGreedyArm as EpsilonGreedyArm,
    GittinsIndex as GittinsIndex,
    ThompsonSampling as ThompsonSampling,
    bayes_optimal_reward as bayes_optimal_reward,
)
from surefoot.reference.base import (
    AbstractAgent as AbstractAgent,
    Random as Random,
    total_rewards as total_rewards,
)
from surefoot.reference.gittins import gittins_index as gittins_index
from surefoot.reference.planning import (
    optimistic_backward_induction as optimistic_backward_induction,
    plan as plan,
)
from surefoot.reference.tabular import (
    PSRL as PSRL,
    UCRL2 as UCRL2,
    EpsilonGreedy as EpsilonGreedy,
    OptimisticPSRL as OptimisticPSRL,
    Optimum as Optimum,
)
