"""Environments: families of tasks, each with its task distribution."""

from surefoot.envs.bandit import Bandit as Bandit
from surefoot.envs.base import AbstractEnv as AbstractEnv, Step as Step
from surefoot.envs.navigation_2d import Navigation2D as Navigation2D
from surefoot.envs.tabular_mdp import MDP as MDP, TabularMDP as TabularMDP
