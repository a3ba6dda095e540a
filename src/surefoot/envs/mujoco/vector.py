"""A MuJoCo family as a Gymnasium vector environment, for learners from other libraries."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from jaxtyping import Bool, Float, Float32, Int, Shaped, UInt32

from surefoot.envs.mujoco.family import AbstractMujocoFamily
from surefoot.options import UserError, check
from surefoot.types import Task

_WORD = 2**32
Observations = Float32[np.ndarray, "rows obs"]
Actions = Shaped[np.ndarray, "rows act"]
Ends = Bool[np.ndarray, " rows"]


class MujocoVectorEnv(VectorEnv[Observations, Actions, np.ndarray]):
    """`num_envs` episodes of a family's tasks, stepped in one call.

    After an episode has ended, the next step resets its row, ignores the row's action and earns 0
    (`AutoresetMode.NEXT_STEP`, Gymnasium's default). Episodes are truncated at the family's horizon.

    After `reset(seed=s)` row i starts as Gymnasium's environment of the same name does after
    `reset(seed=s + i)`; later episodes start elsewhere. Observations are in single precision.
    """

    tasks: Task
    """The task of each row, the same in all its episodes; None before the first `reset`."""

    def __init__(
        self, family: AbstractMujocoFamily, num_envs: int, threads: int = 1, tasks: Task | None = None
    ) -> None:
        """`tasks` have a leading axis of `num_envs`. Without them, `reset` draws tasks from the family's
        distribution whenever it is given seeds."""
        check(num_envs >= 1, "num_envs", num_envs, "1 or more")
        check(threads >= 1, "threads", threads, "1 or more")
        self.family, self.num_envs = family, num_envs
        self.metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}
        low, high = family.model.actuator_ctrlrange.T.astype(np.float32)
        self.single_action_space = Box(low, high, dtype=np.float32)
        self.single_observation_space = Box(-np.inf, np.inf, family.observation_space.shape, np.float32)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self._given = tasks is not None
        self.tasks = self._checked(tasks) if self._given else None
        self._seeds: list[int] = []
        self._episodes = np.zeros(num_envs, int)
        self._times = np.zeros(num_envs, int)
        self._ended = np.zeros(num_envs, bool)
        self._observations = np.zeros((num_envs, *family.observation_space.shape), np.float32)
        self._simulator = family.simulator(threads)

    def reset(
        self, *, seed: int | list[int] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """New episodes in every row. A single seed gives row i `seed + i`; without one, the rows continue
        with their next episodes. `options={"tasks": ...}` changes the tasks permanently."""
        self._check_open()
        self._choose_tasks(options or {}, anew=self._seed(seed))
        self._times[:], self._ended[:] = 0, False
        self._observations = self._simulator.begin(self._keys(np.arange(self.num_envs)), self.tasks)
        return self._observations.copy(), {}

    def step(
        self, actions: Actions
    ) -> tuple[Observations, Float[np.ndarray, " rows"], Ends, Ends, dict[str, Any]]:
        self._check_open()
        if not self._seeds:
            raise ResetNeeded("Call reset() before step().")
        going, again = np.flatnonzero(~self._ended), np.flatnonzero(self._ended)
        rewards, terminated = np.zeros(self.num_envs), np.zeros(self.num_envs, bool)
        if len(going):
            outcome = self._simulator.step(going, actions[going])
            self._observations[going] = outcome.observations
            rewards[going], terminated[going] = outcome.rewards, outcome.terminated
            self._times[going] += 1
        if len(again):
            self._episodes[again] += 1
            self._observations[again] = self._simulator.renew(again, self._keys(again))
            self._times[again] = 0
        truncated = self._times >= self.family.horizon
        self._ended = terminated | truncated
        return self._observations.copy(), rewards, terminated, truncated, {}

    def close_extras(self, **kwargs: Any) -> None:
        """Ends the simulator's threads."""
        del kwargs
        self._simulator.close()

    def _check_open(self) -> None:
        if self.closed:
            raise ClosedEnvironmentError("These environments were closed; make new ones.")

    def _seed(self, seed: int | list[int] | None) -> bool:
        """Sets the rows' seeds, or continues with their next episodes. Returns whether the seeds are new."""
        if seed is None and self._seeds:
            self._episodes += 1
            return False
        if isinstance(seed, list):
            check(len(seed) == self.num_envs, "seed", seed, f"one number or {self.num_envs} of them")
            seeds = seed
        elif seed is not None:
            super().reset(seed=seed)
            seeds = [seed + i for i in range(self.num_envs)]
        else:
            seeds = self.np_random.integers(_WORD, size=self.num_envs).tolist()
        check(min(seeds) >= 0 and max(seeds) < _WORD**2, "seed", seed, "from 0 to 2⁶⁴ − 1")
        self._seeds = seeds
        self._episodes[:] = 0
        return True

    def _choose_tasks(self, options: dict[str, Any], anew: bool) -> None:
        unknown = set(options) - {"tasks"}
        check(not unknown, "options", unknown, "tasks only")
        if "tasks" in options:
            self.tasks, self._given = self._checked(options["tasks"]), True
        elif anew and not self._given:
            self.tasks = self.family.sample_tasks(jax.random.key(self._seeds[0] % _WORD), self.num_envs)

    def _checked(self, tasks: Any) -> Task:
        """The tasks as JAX arrays. Raises `UserError` unless they have the shapes of the family's."""
        tasks = jax.tree.map(jnp.asarray, tasks)
        wanted = jax.eval_shape(lambda key: self.family.sample_tasks(key, self.num_envs), jax.random.key(0))
        if _form(tasks) != _form(wanted):
            raise UserError(
                f"{type(self.family).__name__} has tasks of another form: {self.num_envs} of them are "
                f"{_form(wanted)}, and these are {_form(tasks)}."
            )
        return tasks

    def _keys(self, rows: Int[np.ndarray, " n"]) -> UInt32[np.ndarray, "n 3"]:
        """The keys of these rows' episodes: the episode's number and the row's seed. The first number is 0,
        so that the generator's seed is the row's, and its draws are those of Gymnasium's environment."""
        seeds = [(self._seeds[row] // _WORD, self._seeds[row] % _WORD) for row in rows]
        return np.column_stack([self._episodes[rows], seeds]).astype(np.uint32)


def _form(tree: Any) -> Any:
    return jax.tree.map(lambda x: x.shape, tree)
