"""Statistics of several training runs: which claims a number of seeds supports.

Scores are an array `[seed task]`. The guide "Evidence" says which interval covers how often.
"""

from surefoot.statistics.intervals import (
    FEWEST_SEEDS as FEWEST_SEEDS,
    FEWEST_TASKS as FEWEST_TASKS,
    Interval as Interval,
    difference as difference,
    improvement_interval as improvement_interval,
    interval as interval,
)
from surefoot.statistics.scores import (
    interquartile_mean as interquartile_mean,
    mean as mean,
    performance_profile as performance_profile,
    probability_of_improvement as probability_of_improvement,
)
