"""Environments: families of tasks, each with its task distribution."""

from surefoot.envs.atari import Atari as Atari
from surefoot.envs.bandit import Bandit as Bandit
from surefoot.envs.base import AbstractEnv as AbstractEnv, AbstractFamily as AbstractFamily, Step as Step
from surefoot.envs.gymnasium import Gymnasium as Gymnasium
from surefoot.envs.gymnax import Gymnax as Gymnax
from surefoot.envs.mujoco.environments import (
    Ant as Ant,
    AntDir as AntDir,
    AntGoal as AntGoal,
    AntHeading as AntHeading,
    AntVel as AntVel,
    HalfCheetah as HalfCheetah,
    HalfCheetahDir as HalfCheetahDir,
    HalfCheetahVel as HalfCheetahVel,
    Hopper as Hopper,
    HopperParams as HopperParams,
    Humanoid as Humanoid,
    HumanoidDir as HumanoidDir,
    InvertedDoublePendulum as InvertedDoublePendulum,
    InvertedPendulum as InvertedPendulum,
    Reacher as Reacher,
    Swimmer as Swimmer,
    SwimmerDir as SwimmerDir,
    Walker2d as Walker2d,
    Walker2dDir as Walker2dDir,
    Walker2dParams as Walker2dParams,
    Walker2dVel as Walker2dVel,
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
from surefoot.envs.trial import Trial as Trial
