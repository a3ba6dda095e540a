"""Environments: families of tasks, each with its task distribution."""

from surefoot.envs.bandit import Bandit as Bandit
from surefoot.envs.base import AbstractEnv as AbstractEnv, AbstractFamily as AbstractFamily, Step as Step
from surefoot.envs.gymnasium import Gymnasium as Gymnasium
from surefoot.envs.gymnax import Gymnax as Gymnax
from surefoot.envs.mujoco.ant import (
    Ant as Ant,
    AntDirection as AntDirection,
    AntGoal as AntGoal,
    AntHeading as AntHeading,
    AntVelocity as AntVelocity,
)
from surefoot.envs.mujoco.half_cheetah import (
    HalfCheetah as HalfCheetah,
    HalfCheetahDirection as HalfCheetahDirection,
    HalfCheetahVelocity as HalfCheetahVelocity,
)
from surefoot.envs.mujoco.hopper import Hopper as Hopper, HopperParameters as HopperParameters
from surefoot.envs.mujoco.humanoid import Humanoid as Humanoid, HumanoidHeading as HumanoidHeading
from surefoot.envs.mujoco.inverted_double_pendulum import InvertedDoublePendulum as InvertedDoublePendulum
from surefoot.envs.mujoco.inverted_pendulum import InvertedPendulum as InvertedPendulum
from surefoot.envs.mujoco.reacher import Reacher as Reacher
from surefoot.envs.mujoco.swimmer import Swimmer as Swimmer, SwimmerDirection as SwimmerDirection
from surefoot.envs.mujoco.walker2d import (
    Walker2d as Walker2d,
    Walker2dDirection as Walker2dDirection,
    Walker2dParameters as Walker2dParameters,
    Walker2dVelocity as Walker2dVelocity,
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
