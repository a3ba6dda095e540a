"""The contract kit of algorithms."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from surefoot.algorithms import Estimation, Setting
from surefoot.algorithms.base import LearnerState
from surefoot.baselines import Zero
from surefoot.checks import common
from surefoot.checks.problem import Problem, Problems, Stop, attempt, collect, error, problem_of, require
from surefoot.envs import AbstractFamily, Bandit, Navigation2D, Trial
from surefoot.loading import FAILURES
from surefoot.options import UserError
from surefoot.policies import GRU, ActorCritic, GaussianMLP, PolicyOptions
from surefoot.samplers import InProcess, Processes, SamplerOptions
from surefoot.types import with_key, without_key

_EPISODES, _SEED, _TASKS, _ITERATIONS = 4, 7, 2, 3
_CONTRACT = "surefoot.algorithms.AbstractAlgorithm"
_METHODS = ("init", "iterate", "adapter", "evaluation_tasks", "learned", "policy_space", "in_one_program")
_DERIVE = f"derive the class from {_CONTRACT}"


@dataclass(frozen=True)
class _Scene:
    """A problem to learn, small enough for a check."""

    env: AbstractFamily
    policy: PolicyOptions
    sampler: SamplerOptions = InProcess()
    estimation: Estimation = Estimation(Zero(), fit="same-batch")


_NAVIGATION = Navigation2D(horizon=4)
_SCENES = (
    _Scene(_NAVIGATION, GaussianMLP(hidden=(4,))),
    _Scene(
        _NAVIGATION,
        GaussianMLP(hidden=(4,)),
        estimation=Estimation(Zero(), fit="same-batch", credit="whole-return", normalise=False),
    ),
    _Scene(
        _NAVIGATION,
        GaussianMLP(hidden=(4,)),
        estimation=Estimation(Zero(), fit="same-batch", normalise=False),
    ),
    _Scene(_NAVIGATION, ActorCritic(hidden=(4,))),
    _Scene(Trial(Bandit(arms=2, horizon=1), episodes=3), GRU(units=4)),
    _Scene(_NAVIGATION, ActorCritic(hidden=(4,)), Processes(workers=1)),
)
"""Tried one after another, until the algorithm does not refuse."""


def check_algorithm(algorithm: Any) -> list[Problem]:
    """All ways in which `algorithm` breaks the contract of `algorithms.AbstractAlgorithm`; an empty list if
    it is sound.

    It need not be a subclass here; training takes no other. It learns for a few iterations of 4 episodes for
    each task, in the first small problem that it does not refuse: `navigation-2d` with a Gaussian policy or
    an actor-critic, trials of a bandit with a policy that remembers, and the first one in a worker process.
    An exception in its code is reported, not raised.
    """
    if isinstance(algorithm, type):
        return common.is_class(algorithm, "an algorithm")
    kit = AlgorithmChecks(algorithm)
    try:
        return collect(kit, "options") or collect(kit)
    finally:
        kit.close()


class AlgorithmChecks:
    """The checks of an algorithm, and the iterations with fixed keys that they share. Every method may raise
    `Stop`."""

    def __init__(self, algorithm: Any) -> None:
        self.algorithm = algorithm
        self.before = common.attributes(algorithm)
        self.key = jax.random.key(_SEED)
        self._settings: list[Setting] = []

    def close(self) -> None:
        """Ends worker processes."""
        for setting in self._settings:
            setting.close()

    def _begin(self, scene: _Scene) -> tuple[Setting, Any, Any]:
        sampler = scene.sampler.of_episodes(scene.env, _EPISODES)
        setting = Setting.of(sampler, scene.estimation)
        self._settings.append(setting)
        space = self.algorithm.policy_space(scene.env.observation_space)
        policy = scene.policy.build(self.key, space, scene.env.action_space)
        return setting, policy, self.algorithm.init(setting, policy, self.key)

    @cached_property
    def scene(self) -> tuple[Setting, Any, Any]:
        """The setting, the policy before training and the first state."""
        refused: list[str] = []
        for scene in _SCENES:
            try:
                return attempt("init", self._begin, scene)
            except Stop as stop:
                if "UserError" not in stop.problem.what:
                    raise
                refused.append(stop.problem.what)
        raise Stop(
            error(
                f"It refuses every problem of this check, the first one so: {refused[0]}",
                "Nothing else can be checked.",
                "Let it serve whole episodes of a Gaussian policy, of an actor-critic, or of trials.",
            )
        )

    @property
    def state(self) -> Any:
        """The first state."""
        return self.scene[2]

    def program(self) -> Callable[..., Any]:
        """An iteration as a learner calls it, traced anew."""
        setting, algorithm = self.scene[0], self.algorithm
        if attempt("in_one_program", algorithm.in_one_program, setting, self.state):
            return eqx.filter_jit(lambda state, key: algorithm.iterate(setting, state, key))
        return lambda state, key: algorithm.iterate(setting, state, key)

    @cached_property
    def compiled(self) -> Callable[..., Any]:
        """The program of all iterations."""
        return self.program()

    def iterate(
        self, state: Any, number: int = 0, program: Callable[..., Any] | None = None
    ) -> tuple[Any, Any]:
        """One iteration, by its own `program` if one is given; its result is a pair."""
        key = jax.random.fold_in(self.key, number)
        result = attempt("iterate", program or self.compiled, state, key)
        why, remedy = "A learner takes two things from it.", "Return (state, metrics)."
        return common.elements("iterate", result, 2, why, remedy)

    @cached_property
    def first(self) -> tuple[Any, Any]:
        """The first iteration."""
        return self.iterate(self.state)

    def check_options(self) -> Problems:
        yield from common.has_methods(self.algorithm, _METHODS, _CONTRACT)
        yield from common.is_immutable(self.algorithm)
        why = "Evaluation adapts the policy to each task, or not, by it."
        yield from common.has_attribute(self.algorithm, "adapts", *common.BOOL, why)
        if not hasattr(self.algorithm, "adaptation_rule"):
            why = "It is the rule of adaptation unless the user names another; None for none."
            yield error("`adaptation_rule` is missing.", why, f"Make it a @property: {_DERIVE}.")

    def check_init(self) -> Problems:
        require(_is_state("init", self.state))
        setting, policy, state = self.scene
        yield from common.all_arrays(state, "state")
        if not callable(state.policy):
            why = "A policy maps observations to a distribution."
            told = f"The `policy` of the first state is {common.describe(state.policy)}."
            yield error(told, why, "Keep the policy that `init` is given, or one that wraps it.")
        again = attempt("init", self.algorithm.init, setting, policy, self.key)
        if not common.same(again, state):
            yield error(
                "`init` gives another state with the same arguments.",
                "A run could not be repeated.",
                "Draw everything random from the key, and keep nothing in attributes.",
            )

    def check_iteration_keeps_the_form_of_the_state(self) -> Problems:
        state, _ = self.first
        require(_is_state("iterate", state))
        why = "Iterations are one compiled program, and a checkpoint has one form."
        yield from common.same_form(self.state, state, "state", why)

    def check_policy_changes(self) -> Problems:
        state = self.state
        for number in range(_ITERATIONS):
            state, _ = self.iterate(state, number)
        if common.same(state.policy, self.state.policy):
            yield error(
                f"The policy is the same after {_ITERATIONS} iterations.",
                "It learns nothing.",
                "Return the improved policy as `policy` of the state.",
            )

    def check_metrics(self) -> Problems:
        _, metrics = self.first
        if not isinstance(metrics, Mapping):
            told = f"`iterate` returns metrics that are {common.describe(metrics)}."
            yield error(told, "They are logged by name.", "Make them a dictionary of scalars.")
            return
        for name in ("return", "loss"):
            if name not in metrics:
                why = "Every run shows it, and training stops where the loss is not finite."
                yield error(f"The metrics have no `{name}`.", why, f"Add metrics[{name!r}], a scalar.")
        for name, value in metrics.items():
            if not (isinstance(name, str) and name.isidentifier() and name == name.lower()):
                why = "It is a column, and a tag of TensorBoard."
                yield error(f"A metric is named {name!r}.", why, "Write names as explained_variance.")
            elif jnp.shape(value) != () or not hasattr(value, "dtype"):
                why = "Every metric is one number of an iteration."
                remedy = "Give a scalar array, such as a mean."
                yield error(f"The metric `{name}` is {common.describe(value)}.", why, remedy)
            elif not common.finite(value):
                why = "No NaN stands for what is unknown: JAX's debugging flags would stop there."
                yield error(f"The metric `{name}` is {float(value)}.", why, "Divide by no count of 0.")

    def check_follows_from_its_key(self) -> Problems:
        state, metrics = self.first
        # Traced anew, what was drawn while the other was traced is drawn again.
        again, same_metrics = self.iterate(self.state, program=self.program())
        if not (common.same(state, again) and common.same(metrics, same_metrics)):
            yield error(
                "`iterate` gives something else with the same state and key.",
                "A run could neither be repeated nor resumed.",
                "Draw everything random from the key, and keep nothing in attributes.",
            )
        other, _ = self.iterate(self.state, 1)
        if common.same(state.policy, other.policy):
            yield error(
                "`iterate` gives the same policy whatever the key is.",
                "Every iteration would see the same episodes.",
                "Hand the key on to the sampler.",
            )

    def check_goes_on_from_a_checkpoint(self) -> Problems:
        state, _ = self.first
        require(common.all_arrays(state, "state"))
        leaves, structure = jax.tree.flatten(state)
        restored = jax.tree.unflatten(structure, [_restored(leaf) for leaf in leaves])
        one, two = self.iterate(state, 1), self.iterate(restored, 1)
        if not (common.same(one[0], two[0]) and common.same(one[1], two[1])):
            yield error(
                "It goes on otherwise from a state that was saved and restored.",
                "A resumed run would not equal an uninterrupted one.",
                "Keep all that changes in the state, as arrays.",
            )

    def check_adapter(self) -> Problems:
        setting, _, state = self.scene
        adapter = attempt("adapter", self.algorithm.adapter, setting.estimator, state)
        names = ("begin", "acting", "batch", "improve")
        yield from common.has_methods(adapter, names, "surefoot.algorithms.AbstractAdapter")
        steps = getattr(adapter, "steps", None)
        if not isinstance(steps, int) or isinstance(steps, bool) or steps < 0:
            why = "It is the number of steps of adaptation that the algorithm trains for."
            yield error(f"The adapter's `steps` is {steps!r}.", why, "Make it an int of 0 or more.")
        learner = attempt("adapter.begin", adapter.begin, state.policy)
        acting = attempt("adapter.acting", adapter.acting, learner)
        if not callable(acting):
            told = f"The adapter's `acting` gives {common.describe(acting)}."
            yield error(told, "It is the policy that meets the environment.", "Return a policy.")
            return
        if getattr(adapter, "adapts_within_trials", False) or not hasattr(setting.sampler, "sample"):
            return
        task = attempt("sample_tasks", setting.sampler.env.sample_tasks, self.key, 1)
        one = jax.tree.map(lambda x: x[0], task)
        _, rollout = attempt("collect", setting.sampler.collect, acting, one, None, self.key)
        batch = attempt("adapter.batch", adapter.batch, rollout, jnp.asarray(0))
        try:
            improved = adapter.improve(learner, batch)
        except UserError:  # it says that policies of this kind do not adapt
            return
        except FAILURES as failed:
            yield problem_of("adapter.improve", failed, adapter.improve)
            return
        why = "Steps of adaptation are a compiled loop."
        yield from common.same_form(learner, improved, "learner", why)

    def check_evaluation_tasks(self) -> Problems:
        setting, _, state = self.scene
        env = setting.sampler.env
        tasks = attempt("evaluation_tasks", self.algorithm.evaluation_tasks, env, state, self.key, _TASKS)
        wanted = jax.eval_shape(lambda: env.sample_tasks(self.key, _TASKS))
        why = "Every task is evaluated."
        yield from common.same_form(wanted, tasks, "evaluation_tasks(…, 2)", why)

    def check_learned(self) -> Problems:
        learned = attempt("learned", self.algorithm.learned, self.state)
        ours = {id(x) for x in jax.tree.leaves(eqx.filter(self.state.policy, eqx.is_inexact_array))}
        if not ours <= {id(x) for x in jax.tree.leaves(learned)}:
            yield error(
                "`learned` does not contain the policy.",
                "Training would go on with a policy that is not finite.",
                "Return state.policy, and what else must stay finite.",
            )

    def check_keeps_no_state(self) -> Problems:
        yield from common.keeps_no_state(self.before, self.algorithm, lambda: self.first)


def _is_state(method: str, state: Any) -> Problems:
    if not isinstance(state, LearnerState):
        yield error(
            f"`{method}` gives {common.describe(state)} as its state.",
            "A learner reads its policy, scales and baselines.",
            "Return surefoot.algorithms.LearnerState(policy, scales, baselines, own).",
        )


def _restored(leaf: Any) -> Any:
    """An array as a checkpoint gives it back."""
    return with_key(np.array(without_key(leaf)), leaf)
