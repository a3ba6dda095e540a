"""Environments: families of tasks, each with its task distribution."""

from surefoot.envs.bandit import Bandit as Bandit
from surefoot.envs.base import AbstractEnv as AbstractEnv, AbstractFamily as AbstractFamily, Step as Step
from surefoot.envs.gymnax import Gymnax as Gymnax
from surefoot.envs.mujoco.half_cheetah import (
    HalfCheetah as HalfCheetah,
    HalfCheetahDirection as HalfCheetahDirection,
    HalfCheetahVelocity as HalfCheetahVelocity,
)
from surefoot.envs.navigation_2d import Navigation2D as Navigation2D
from surefoot.envs.probes import (
    AbstractProbe as AbstractProbe,
    ActionReward as ActionReward,
    ConstantReward as ConstantReward,
    DelayedReward as DelayedReward,
    EndlessReward as EndlessReward,
    ObservedAction as ObservedAction,
    ObservedReward as ObservedReward,
)
from surefoot.envs.recall import Recall as Recall
from surefoot.envs.tabular_mdp import MDP as MDP, TabularMDP as TabularMDP
