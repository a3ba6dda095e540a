"""The base of loggers, which are callbacks, and what they log: metrics in groups, steps of the environment as
the axis, and a run's options as hyper-parameters."""

import dataclasses
import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from surefoot.experiment import parts
from surefoot.experiment.callbacks import Event

_GROUPS = {
    "return": "return return_before return_after mean_reward episode_length",
    "time": "iteration steps steps_per_second seconds",
    "loss": "loss loss_after gradient_norm explained_variance learning_rate minibatch_steps",
    "policy": "entropy kl beta",
    "trust_region": "cg_iterations cg_residual line_search_attempts step_accepted step_norm",
    "meta": "support_kl kl_coefficient exploration_credit",
    "off_policy": "effective_sample_size staleness staleness_max",
}
"""The metrics of each group."""
GROUP = {name: group for group, names in _GROUPS.items() for name in names.split()}
"""The group of each metric."""
Hyperparameter = bool | int | float | str


class AbstractLogger(ABC):
    """A callback that logs metrics and hyper-parameters: `learner.train(callback=…)`.

    It starts with the first iteration, and ends with training.
    """

    _parameters: Mapping[str, Hyperparameter] = {}
    _started = False
    _finite = True
    _error: BaseException | None = None
    """The error that was being handled when training began."""

    @abstractmethod
    def start(self, parameters: Mapping[str, Hyperparameter]) -> None:
        """Makes what is logged to, and logs the hyper-parameters."""

    @abstractmethod
    def log(self, values: Mapping[str, float], step: int) -> None:
        """Logs an iteration's metrics, named as by `tagged`, at `step` of the axis."""

    @abstractmethod
    def finish(self, succeeded: bool) -> None:
        """Ends logging; `succeeded` says whether the loss and all that was learned stayed finite and no error
        ended training."""

    def begin(self, config: Any) -> None:
        """Takes the configuration of training."""
        self._parameters, self._error = hyperparameters(config), sys.exception()

    def __call__(self, event: Event) -> None:
        if not self._started:
            self.start(self._parameters)
            self._started = True
        self._finite = event.finite
        self.log(tagged(event.row()), axis(event.iteration, event.metrics))

    def close(self) -> None:
        """Ends logging, if it has started."""
        if self._started:
            self._started = False
            self.finish(self._finite and sys.exception() is self._error)


def tagged(metrics: Mapping[str, int | float]) -> dict[str, float]:
    """The finite metrics, named GROUP/METRIC as in `trust_region/cg_residual`; those of a user's own parts
    are in the group `other`."""
    finite = {name: float(value) for name, value in metrics.items() if math.isfinite(value)}
    return {f"{GROUP.get(name, 'other')}/{name}": value for name, value in finite.items()}


def axis(iteration: int, metrics: Mapping[str, Any]) -> int:
    """The place of an iteration on a curve: steps of the environment so far, or the iteration's number if an
    algorithm does not count steps."""
    steps = metrics.get("steps")
    return iteration if steps is None or not math.isfinite(steps) else int(steps)


def hyperparameters(config: Any) -> dict[str, Hyperparameter]:
    """All options of a configuration by their names, such as `algorithm.inner.lr`; a part's own name is under
    its place, as in `algorithm`. What is no number, text or truth value is shown as text."""
    return dict(_flat(config, ""))


def _flat(value: Any, where: str) -> list[tuple[str, Hyperparameter]]:
    if not dataclasses.is_dataclass(value):
        return [(where, value if isinstance(value, Hyperparameter) else str(value))]
    named = [(where, parts.name_of(value))] if where and parts.kind_of(type(value)) else []
    fields = [field.name for field in dataclasses.fields(value) if field.init]
    below = [_flat(getattr(value, name), f"{where}.{name}" if where else name) for name in fields]
    return named + [pair for pairs in below for pair in pairs]
