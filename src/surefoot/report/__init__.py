"""Reports: what a run leaves for a person to look at."""

from surefoot.report.adaptation import draw_adaptation as draw_adaptation
from surefoot.report.finish import finish as finish, finish_seeds as finish_seeds
from surefoot.report.learning import draw_learning as draw_learning, draw_seeds as draw_seeds
