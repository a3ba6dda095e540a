"""Reproductions of published tables: what they need is run, and our figures are set beside the published
ones."""

from surefoot.reproduction.running import (
    InterruptedTrainingError as InterruptedTrainingError,
    reproduce as reproduce,
)
from surefoot.reproduction.tables import (
    TABLES as TABLES,
    Agent as Agent,
    PublishedTable as PublishedTable,
    Row as Row,
)
