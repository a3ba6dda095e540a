"""A MuJoCo family as a Gymnasium vector environment, for learners from other libraries."""

from collections.abc import Mapping
from numbers import Integral
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from jaxtyping import Bool, Float, Float32, Int, UInt8, UInt32

from surefoot.envs.mujoco.family import AbstractMujocoFamily
from surefoot.envs.mujoco.rendering import Screen
from surefoot.options import UserError, check, fits, shown
from surefoot.types import Task

_WORD = 2**32
Observations = Float32[np.ndarray, "rows obs"]
Actions = Float[np.ndarray, "rows act"]
Ends = Bool[np.ndarray, " rows"]
Rows = Int[np.ndarray, " n"]
Frame = UInt8[np.ndarray, "height width 3"]


class MujocoVectorEnv(VectorEnv[Observations, Any, np.ndarray]):
    """`num_envs` episodes of a family's tasks, stepped in one call.

    After an episode has ended, the next step resets its row, ignores the row's action and earns 0
    (`AutoresetMode.NEXT_STEP`, Gymnasium's default). Episodes are truncated at the family's horizon.

    After `reset(seed=s)` row i starts as Gymnasium's environment of the same name does after
    `reset(seed=s + i)`; later episodes start elsewhere. Observations are in single precision.
    """

    tasks: Task
    """The task of each row, the same in all its episodes; None before the first `reset`."""
    _simulator: Any = None  # of one that could not be made: Gymnasium closes it too
    _screen: Screen | None = None

    def __init__(
        self,
        family: AbstractMujocoFamily,
        num_envs: int,
        threads: int = 1,
        tasks: Task | None = None,
        render_mode: str | None = None,
        width: int = 480,
        height: int = 480,
    ) -> None:
        """`tasks` have a leading axis of `num_envs`. Without them, `reset` draws the tasks of the rows that
        it seeds from the family's distribution.

        With `render_mode` "rgb_array", `render` draws pictures of `width` × `height` pixels.
        """
        check(render_mode in (None, "rgb_array"), "render_mode", render_mode, "rgb_array, or none")
        counts = {"num_envs": num_envs, "threads": threads}
        for name, count in counts.items():
            check(fits(count, int) and count >= 1, name, count, "a whole number, 1 or more")
        for name, size in (("width", width), ("height", height)):
            check(fits(size, int) and 1 <= size <= _MOST_PIXELS, name, size, f"from 1 to {_MOST_PIXELS}")
        self.family, self.num_envs, self.render_mode = family, num_envs, render_mode
        self.metadata = {
            "autoreset_mode": AutoresetMode.NEXT_STEP,
            "render_modes": ["rgb_array"],
            "render_fps": round(1 / family.dt),
        }
        low, high = family.model.actuator_ctrlrange.T.astype(np.float32)
        self.single_action_space = Box(low, high, dtype=np.float32)
        self.single_observation_space = Box(-np.inf, np.inf, family.observation_space.shape, np.float32)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self._given = tasks is not None
        self.tasks = self._checked(tasks) if self._given else None
        self._seeds: list[int] = self.np_random.integers(_WORD, size=num_envs).tolist()
        self._episodes = np.full(num_envs, -1)
        self._times = np.zeros(num_envs, int)
        self._ended = np.zeros(num_envs, bool)
        self._observations = np.zeros((num_envs, *family.observation_space.shape), np.float32)
        self._simulator = family.simulator(threads)
        self._size = width, height

    @property
    def np_random_seed(self) -> tuple[int, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The seed of each row."""
        return tuple(self._seeds)

    def reset(
        self, *, seed: Any = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """New episodes: their first observations.

        A single seed gives row i `seed + i`; a list has one for each row. Rows without a seed, or with None,
        continue with their next episodes. `options={"tasks": ...}` changes the tasks permanently;
        `options={"reset_mask": mask}` leaves the rows where the mask is False as they are. Raises `UserError`
        for seeds and options of another form.
        """
        self._check_open()
        options = {} if options is None else options
        known = isinstance(options, Mapping) and set(options) <= {"tasks", "reset_mask"}
        check(known, "options", options, "a dictionary with tasks, reset_mask, or both")
        mask = self._mask(options["reset_mask"]) if "reset_mask" in options else np.ones(self.num_envs, bool)
        tasks = self._checked(options["tasks"]) if "tasks" in options else None
        if tasks is not None and not mask.all():
            raise UserError("Tasks are changed for all rows at once; leave out reset_mask.")
        rows = np.flatnonzero(mask)
        self._choose_tasks(self._seed(seed, rows), tasks)
        self._times[rows], self._ended[rows] = 0, False
        if mask.all():
            self._observations = self._simulator.begin(self._keys(rows), self.tasks)
        else:
            if not self._given:  # the rows may have new tasks
                self._simulator.restore(self._simulator.save(), self.tasks)
            self._observations[rows] = self._simulator.renew(rows, self._keys(rows))
        return self._observations.copy(), {}

    def step(
        self, actions: Any
    ) -> tuple[Observations, Float[np.ndarray, " rows"], Ends, Ends, dict[str, Any]]:
        """One step of every row. `actions` are real numbers, `[num_envs, act]`, in an array or what NumPy
        makes one of; those beyond the action space are clipped to it. Raises `UserError` for others."""
        self._check_began()
        actions = self._acted(actions)
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

    def render(self) -> tuple[Frame, ...]:
        """A picture of each row, as the video of its task shows it. Raises `UserError` if nothing can be
        drawn on this machine, or without `render_mode`."""
        self._check_began()
        if self.render_mode is None:
            raise UserError("These environments draw no pictures; make them with render_mode='rgb_array'.")
        if self._screen is None:
            self._screen = Screen(self.family.model, *self._size)
        return tuple(self._frame(self._screen, row) for row in range(self.num_envs))

    def close_extras(self, **kwargs: Any) -> None:
        """Ends the simulator's threads, and frees what pictures are drawn with."""
        del kwargs
        for held in (self._simulator, self._screen):
            if held is not None:
                held.close()

    def _check_open(self) -> None:
        if self.closed:
            raise ClosedEnvironmentError("These environments were closed; make new ones.")

    def _check_began(self) -> None:
        self._check_open()
        if self._episodes[0] < 0:
            raise ResetNeeded("Call reset() first: no episode has begun.")

    def _acted(self, actions: Any) -> Actions:
        """The actions as an array. Raises `UserError` unless they are numbers of the action space's shape."""
        shape = self.action_space.shape
        try:
            array = np.asarray(actions)
        except (TypeError, ValueError) as error:  # rows of unequal length, or no array at all
            raise UserError(f"actions are {shown(actions)}; they must be one array {shape}.") from error
        if array.shape != shape or array.dtype.kind not in "fiu":
            raise UserError(
                f"actions are an array {array.shape} of {array.dtype}; they must be real numbers of shape "
                f"{shape}: a row for each of the {self.num_envs} environments."
            )
        array = array.astype(float)
        if np.isnan(array).any():
            raise UserError(f"actions are not numbers (NaN) in row {np.argwhere(np.isnan(array))[0][0]}.")
        return array

    def _mask(self, mask: Any) -> Ends:
        """The rows to reset. Raises `UserError` if the mask has another form."""
        fits = isinstance(mask, np.ndarray) and mask.dtype == bool and mask.shape == (self.num_envs,)
        wanted = f"a NumPy array of {self.num_envs} booleans, at least one of them true"
        check(fits and bool(mask.any()), "reset_mask", mask, wanted)
        if self._episodes[0] < 0 and not mask.all():
            raise ResetNeeded("The first reset() must reset every row: leave out reset_mask.")
        return mask

    def _seed(self, seed: Any, rows: Rows) -> Int[np.ndarray, " new"]:
        """Sets the rows' seeds, or continues with their next episodes. Returns the rows that begin anew."""
        count = self.num_envs
        if seed is None:
            seeds: list[Any] = [None] * count
        elif isinstance(seed, Integral):
            seeds = [int(seed) + i for i in range(count)]
        else:
            seeds = list(seed) if isinstance(seed, list | tuple | np.ndarray) else []
        whole = all(x is None or (isinstance(x, Integral) and not isinstance(x, bool)) for x in seeds)
        form = f"a whole number or none, or a list of {count} of them"
        check(len(seeds) == count and whole and not isinstance(seed, bool), "seed", seed, form)
        within = all(x is None or 0 <= x < _WORD**2 for x in seeds)
        check(within, "seed", seed, "from 0 to 2⁶⁴ − 1")
        given = np.array([x is not None for x in seeds])
        anew = rows[given[rows] | (self._episodes[rows] < 0)]
        for row in rows[given[rows]]:
            self._seeds[row] = int(seeds[row])
        self._episodes[rows] += 1
        self._episodes[anew] = 0
        return anew

    def _choose_tasks(self, anew: Rows, tasks: Task | None) -> None:
        """Takes these tasks for good, or draws those of the rows that begin anew unless some were given."""
        if tasks is not None:
            self.tasks, self._given = tasks, True
        elif len(anew) and not self._given:
            words = np.array([divmod(self._seeds[row], _WORD) for row in anew], np.uint32)
            drawn = _drawn(self.family, words)
            if self.tasks is None:
                self.tasks = drawn
            else:
                self.tasks = jax.tree.map(lambda x, new: x.at[anew].set(new), self.tasks, drawn)

    def _checked(self, tasks: Any) -> Task:
        """The tasks as JAX arrays. Raises `UserError` unless they have the shapes of the family's."""
        try:
            tasks = jax.tree.map(jnp.asarray, tasks)
        except TypeError as error:
            raise UserError(f"tasks are {shown(tasks)}; they must be arrays.") from error
        wanted = jax.eval_shape(lambda key: self.family.sample_tasks(key, self.num_envs), jax.random.key(0))
        if _form(tasks) != _form(wanted):
            raise UserError(
                f"{type(self.family).__name__} has tasks of another form: {self.num_envs} of them are "
                f"{_form(wanted)}, and these are {_form(tasks)}."
            )
        return tasks

    def _keys(self, rows: Rows) -> UInt32[np.ndarray, "n 3"]:
        """The keys of these rows' episodes: the episode's number and the row's seed. The first number is 0,
        so that the generator's seed is the row's, and its draws are those of Gymnasium's environment."""
        seeds = [divmod(self._seeds[row], _WORD) for row in rows]
        return np.column_stack([self._episodes[rows], seeds]).astype(np.uint32)

    def _frame(self, screen: Screen, row: int) -> Frame:
        task = jax.tree.map(lambda x: np.asarray(x[row]), self.tasks)
        view = self.family.view(task, self.family.model)
        return screen.draw(self._simulator.snapshot(np.array([row])).qpos[0], view)


_MOST_PIXELS = 4096


def _drawn(family: AbstractMujocoFamily, words: UInt32[np.ndarray, "n 2"]) -> Task:
    """A task for each seed, given as two words. It depends on nothing but the seed."""

    def draw(high: jax.Array, low: jax.Array) -> Task:
        key = jax.random.fold_in(jax.random.key(low), high)
        return jax.tree.map(lambda x: x[0], family.sample_tasks(key, 1))

    return jax.vmap(draw)(*jnp.asarray(words).T)


def _form(tree: Any) -> Any:
    return jax.tree.map(lambda x: x.shape, tree)
