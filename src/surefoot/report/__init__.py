"""Reports: what a run found, as pictures."""

from surefoot.report.adaptation import draw_adaptation as draw_adaptation, finish as finish
