"""A run on disk: one folder with everything that was asked for and everything that came of it.

RUN/config.yaml               the configuration, complete
RUN/metrics.jsonl             one line for each iteration
RUN/tensorboard/              the same for TensorBoard
RUN/checkpoints/000100.ckpt   the training state after 100 iterations
RUN/evaluation.json           what the policy is worth at the end: before and after adaptation, if it adapts
RUN/adaptation.png            the same as a picture; learning.png of a policy that does not adapt
"""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from surefoot.algorithms import LearnerState
from surefoot.experiment import checkpoint
from surefoot.experiment.config import Config
from surefoot.experiment.evaluation import adapt, default_steps
from surefoot.experiment.serialise import load_config
from surefoot.options import UserError
from surefoot.policies import AbstractPolicy
from surefoot.rules import AbstractRule
from surefoot.types import Key, Task


class TrainingState(eqx.Module):
    """What a checkpoint holds."""

    learner: LearnerState
    key: Key
    """The root of every iteration's keys."""
    iteration: Int[Array, ""]
    """Iterations that have been completed."""


@eqx.filter_jit
def initial_state(config: Config) -> TrainingState:
    """The training state before the first iteration: all of it follows from the configuration."""
    return state_from(config, jax.random.key(config.seed))


def state_from(config: Config, key: Key) -> TrainingState:
    """The same with another key than that of the configuration's seed."""
    policy_key, start_key, iterations_key = jax.random.split(key, 3)
    policy = config.build_policy(policy_key)
    with closing(config.setting()) as setting:
        learner = config.algorithm.init(setting, policy, start_key)
    state = TrainingState(learner, iterations_key, jnp.zeros((), jnp.int32))
    # A weakly typed array compiles to another program than the strongly typed one that a checkpoint gives
    # back, and another program rounds differently: a resumed run would not equal an uninterrupted one.
    return jax.tree.map(lambda x: x.astype(x.dtype), state)


def must_be_new(path: Path) -> None:
    """Raises `UserError` if there is anything at `path`: no run is ever written over."""
    try:
        taken = path.exists()
    except OSError as error:
        raise UserError(
            f"There can be no run folder {path}: {error.strerror}. Choose another --out."
        ) from error
    if taken:
        raise UserError(
            f"{path} exists already. Choose another --out, or go on with it: surefoot resume {path}"
        )


def make_new(path: Path) -> None:
    """A folder where there was nothing. Raises `UserError`."""
    must_be_new(path)
    try:
        path.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"The run folder {path} cannot be made: {error.strerror}.") from error


def seed_folders(out: Path) -> list[Path]:
    """The runs that `train_seeds` made under `out`; none if it did not."""
    return sorted(path.parent for path in out.glob("seed*/config.yaml"))


@dataclass(frozen=True)
class RunFolder:
    """Where a run keeps what."""

    path: Path

    @classmethod
    def create(cls, path: Path) -> "RunFolder":
        """A new folder. Raises `UserError` if there is anything at `path`."""
        make_new(path)
        (path / "checkpoints").mkdir()
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> "RunFolder":
        """The folder of an existing run, at `path` or with the checkpoint at `path`. Raises `UserError` if
        there is none."""
        folder = cls(path.resolve().parent.parent if _is_checkpoint(path) else path)
        try:
            there, complete = folder.path.is_dir(), folder.config.exists()
        except OSError as error:
            raise UserError(f"There is no run at {path}: {error.strerror}.") from error
        if not there:
            raise UserError(f"There is no run at {path}.")
        seeds = [] if complete else seed_folders(folder.path)
        if seeds:
            raise UserError(
                f"{folder.path} holds the runs of several seeds. Name one of them, as {seeds[0]}."
            )
        if not complete:
            raise UserError(f"{folder.path} is not a run of surefoot: it has no config.yaml.")
        return folder

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def evaluation(self) -> Path:
        return self.path / "evaluation.json"

    def checkpoint(self, iteration: int) -> Path:
        """The file of the state after so many iterations."""
        return self.path / "checkpoints" / f"{iteration:06d}.ckpt"

    def latest_checkpoint(self) -> Path:
        """Raises `UserError` if there is none."""
        files = [x for x in (self.path / "checkpoints").glob("*.ckpt") if x.stem.isdecimal()]
        if not files:
            raise UserError(f"{self.path} holds no checkpoint; start the run again with another --out.")
        return max(files, key=lambda file: int(file.stem))

    def save(self, state: TrainingState) -> Path:
        """Writes a checkpoint; returns its path."""
        iteration = int(state.iteration)
        path = self.checkpoint(iteration)
        checkpoint.save(path, state, iteration)
        return path


@dataclass(frozen=True)
class Run:
    """A run as it stands: what was asked for and what has been learned."""

    folder: RunFolder
    config: Config
    state: TrainingState

    @property
    def policy(self) -> AbstractPolicy:
        """The trained policy: call it on observations for a distribution over actions."""
        return self._acting(self.state.learner.policy)

    @property
    def iteration(self) -> int:
        """Iterations of training behind it."""
        return int(self.state.iteration)

    @property
    def picture(self) -> Path:
        """Where the picture of it is, when it is finished."""
        adapts = default_steps(self.config) > 0
        return self.folder.path / ("adaptation.png" if adapts else "learning.png")

    def adapt(
        self,
        task: Task,
        key: Key,
        *,
        steps: int = 1,
        episodes: int | None = None,
        inner: AbstractRule | None = None,
    ) -> AbstractPolicy:
        """The policy after `steps` inner steps on one task of the run's environment, each on fresh episodes.

        `inner` replaces the run's own inner rule, `episodes` the number it was trained with.
        """
        tasks = jax.tree.map(lambda x: jnp.asarray(x)[None], task)
        lived = adapt(
            self.config, self.state.learner, tasks, key, steps=steps, episodes=episodes, inner=inner
        )
        return self._acting(jax.tree.map(lambda x: x[0], lived.policies))

    def _acting(self, policy: AbstractPolicy) -> AbstractPolicy:
        """The policy as it meets the environment."""
        return self.config.normalisation.policy(policy, self.state.learner.scales)


def load(path: str | Path) -> Run:
    """A run from its folder, or from one checkpoint file in it. Raises `UserError`, saying what is wrong.

    `load(RUN)` takes the latest checkpoint.
    """
    path = Path(path)
    folder = RunFolder.open(path)
    config = load_config(folder.config)
    file = path if _is_checkpoint(path) else folder.latest_checkpoint()
    state, _ = checkpoint.load(file, eqx.filter_eval_shape(initial_state, config))
    return Run(folder, config, state)


def _is_checkpoint(path: Path) -> bool:
    return path.suffix == ".ckpt"
