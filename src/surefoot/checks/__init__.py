"""Contract kits: what your own environment, policy, baseline, rule, algorithm or sampler must do to work with
the rest."""

from surefoot.checks.algorithm import check_algorithm as check_algorithm
from surefoot.checks.baseline import check_baseline as check_baseline
from surefoot.checks.env import check_env as check_env
from surefoot.checks.gymnasium import check_gymnasium as check_gymnasium
from surefoot.checks.policy import check_policy as check_policy
from surefoot.checks.problem import Problem as Problem, load_object as load_object
from surefoot.checks.rule import check_rule as check_rule
from surefoot.checks.sampler import check_sampler as check_sampler
from surefoot.loading import load_class as load_class
