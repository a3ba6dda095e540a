"""Baselines: estimates of the return that lower the variance of a policy gradient."""

from surefoot.baselines.base import AbstractBaseline as AbstractBaseline
from surefoot.baselines.linear_features import LinearFeatures as LinearFeatures
from surefoot.baselines.zero import Zero as Zero
