"""A configuration that trains in milliseconds."""

from support.probes import Target
from surefoot.algorithms import Estimation, SingleTask
from surefoot.baselines import Zero
from surefoot.experiment import Config, Evaluation
from surefoot.policies import GaussianMLP
from surefoot.rules import OptaxStep

SMALL = Config(
    env=Target(),
    policy=GaussianMLP(hidden=()),
    algorithm=SingleTask(rule=OptaxStep(lr=0.1)),
    estimation=Estimation(Zero(), fit="same-batch"),
    evaluation=Evaluation(tasks=2, episodes=4, steps=0),
    episodes=4,
    iterations=4,
)
