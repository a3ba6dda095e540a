"""Reports: what a run leaves for a person to look at."""

from surefoot.report.adaptation import draw_adaptation as draw_adaptation
from surefoot.report.finish import finish as finish
from surefoot.report.learning import draw_learning as draw_learning
from surefoot.report.seeds import draw_seeds as draw_seeds, finish_seeds as finish_seeds
from surefoot.report.sweep import finish_sweep as finish_sweep
