"""Baselines: estimates of the return that lower the variance of a policy gradient."""

from surefoot.baselines.base import AbstractBaseline as AbstractBaseline, Samples as Samples
from surefoot.baselines.constant import Constant as Constant
from surefoot.baselines.linear_features import LinearFeatures as LinearFeatures
from surefoot.baselines.time_dependent import TimeDependent as TimeDependent
from surefoot.baselines.value_network import ValueNetwork as ValueNetwork
from surefoot.baselines.zero import Zero as Zero
