"""The meta-step in surefoot, and the collection of the data that all sides start from."""

import time
from functools import partial
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from meta_step_problem import Problem, direction, load

from surefoot.policies import GaussianMLP
from surefoot.policies.gaussian import GaussianMLPPolicy
from surefoot.rules import GradientStep, TrustRegion
from surefoot.theory.advantages import normalise
from surefoot.theory.fisher import fisher_vector_product
from surefoot.theory.meta import Adapted, adapt, adapted
from surefoot.theory.objectives import PolicyObjective, loss_and_gradient, reinforce, surrogate
from surefoot.types import Batch, Continuous, MetaBatch


def new_policy(problem: Problem) -> GaussianMLPPolicy:
    options = GaussianMLP(hidden=problem.hidden)
    return options.build(jax.random.key(0), problem.observations, Continuous(problem.actions))


def collect(problem: Problem, path: Path) -> None:
    """Play every task with the policy, adapt, and play again; write parameters and data to `path`.

    An action is worth its inner product with a vector of the task's, and noise.
    """
    policy = new_policy(problem)
    phases = jax.jit(lambda key: _play(problem, policy, key))(jax.random.key(1))
    arrays = {f"parameter_{i}": x for i, x in enumerate(jax.tree.leaves(policy))}
    for phase, batch in zip(("support", "query"), phases, strict=True):
        for field in ("observations", "actions", "log_probs", "advantages"):
            arrays[f"{phase}_{field}"] = getattr(batch, field)
    arrays["min_log_std"] = jnp.asarray(policy.min_log_std)
    stored: dict[str, Any] = {name: np.asarray(x) for name, x in arrays.items()}
    np.savez(path, **stored)


def _play(problem: Problem, policy: GaussianMLPPolicy, key: jax.Array) -> tuple[Batch, Batch]:
    def of_task(key: jax.Array) -> tuple[Batch, Batch]:
        worth, before, after = jax.random.split(key, 3)
        values = jax.random.normal(worth, (problem.actions,))
        support = _rollouts(problem, policy, values, before)
        *_, moved = adapt(PolicyObjective(reinforce), GradientStep(problem.inner_lr), policy, (support,))
        return support, _rollouts(problem, moved, values, after)

    return jax.vmap(of_task)(jax.random.split(key, problem.tasks))


def _rollouts(problem: Problem, policy: GaussianMLPPolicy, values: jax.Array, key: jax.Array) -> Batch:
    see, act, earn = jax.random.split(key, 3)
    axes = (problem.episodes, problem.steps)
    observations = jax.random.normal(see, (*axes, problem.observations))
    distribution = policy(observations)
    actions = distribution.sample(act)
    valid = jnp.ones(axes, bool)
    advantages = normalise(actions @ values + jax.random.normal(earn, axes), valid)
    return Batch(observations, actions, distribution.log_prob(actions), advantages, valid)


class Side:
    """surefoot's side: the outer rule's step on the adapted objective, compiled."""

    def __init__(self, problem: Problem, path: Path) -> None:
        self._problem = problem
        parameters, support, query, _ = load(path)
        structure = jax.tree.structure(eqx.filter_eval_shape(new_policy, problem))
        self.policy = jax.tree.unflatten(structure, [jnp.asarray(x) for x in parameters])
        self.batch = MetaBatch((_batch(support),), _batch(query))
        self._compiled: dict[tuple[float, int], Any] = {}
        jax.block_until_ready((self.policy, self.batch))

    def use_cache(self, directory: Path) -> None:
        """Keep compiled programs in `directory`, and look for them there."""
        jax.config.update("jax_compilation_cache_dir", str(directory))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)

    def compile(self, fisher_fraction: float = 1.0, chunk: int = 1) -> dict[str, float]:
        """Seconds of tracing and compiling, and the bytes of working memory that the program asks for."""
        start = time.perf_counter()
        compiled = self._lower(self.batch, fisher_fraction, chunk).compile()
        self._compiled[fisher_fraction, chunk] = compiled
        return {"seconds": time.perf_counter() - start, "bytes": _temporaries(compiled)}

    def step(self, fisher_fraction: float = 1.0, chunk: int = 1) -> None:
        step = self._compiled[fisher_fraction, chunk]
        self._result = jax.block_until_ready(step(self.policy, self.batch, jax.random.key(0)))

    def working_bytes(self, tasks: int) -> int:
        """Of the step, were there so many tasks."""
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct((tasks, *x.shape[1:]), x.dtype), self.batch)
        return _temporaries(self._lower(shapes, 1.0, 1).compile())

    def result(self) -> dict[str, Any]:
        """What the last step came to: parameters, and figures before and after it."""
        policy, _, metrics = self._result
        figures = {name: float(x) for name, x in metrics.items()}
        return {"parameters": np.asarray(ravel_pytree(policy)[0]), **figures}

    def gradient(self) -> np.ndarray:
        _, gradient = jax.jit(partial(loss_and_gradient, self.objective()))(self.policy, self.batch)
        return np.asarray(ravel_pytree(gradient)[0])

    def product(self) -> np.ndarray:
        """The Fisher-vector product at the initial parameters, without damping."""
        vector = ravel_pytree(self.policy)[1](jnp.asarray(direction(self._problem)))
        product = jax.jit(partial(fisher_vector_product, self.objective()))
        return np.asarray(ravel_pytree(product(self.policy, self.batch, vector))[0])

    def _lower(self, batch: Any, fisher_fraction: float, chunk: int) -> Any:
        step = partial(self._rule(fisher_fraction).step, self.objective(chunk))
        return jax.jit(step).lower(self.policy, batch, jax.random.key(0))

    def objective(self, chunk: int = 1) -> Adapted:
        return adapted(
            PolicyObjective(surrogate),
            GradientStep(self._problem.inner_lr),
            inner_objective=PolicyObjective(reinforce),
            chunk=chunk,
        )

    def _rule(self, fisher_fraction: float) -> TrustRegion:
        problem = self._problem
        return TrustRegion(
            max_kl=problem.max_kl,
            cg_iterations=problem.cg_iterations,
            cg_tolerance=0.0,
            damping=problem.damping,
            backtrack_ratio=problem.backtrack_ratio,
            max_backtracks=problem.max_backtracks,
            fisher_fraction=fisher_fraction,
        )


class Products:
    """A chain of products [rows width]·[width width], by which the machine's rate is measured."""

    def __init__(self, rows: int, width: int, length: int) -> None:
        chain = jax.jit(lambda x, w: jax.lax.fori_loop(0, length, lambda _, x: x @ w, x))
        self._run = partial(chain, jnp.ones((rows, width)), jnp.eye(width))
        self.run()

    def run(self) -> None:
        jax.block_until_ready(self._run())


def _batch(arrays: dict[str, np.ndarray]) -> Batch:
    fields: dict[str, Any] = {name: jnp.asarray(x) for name, x in arrays.items()}
    return Batch(**fields, valid=jnp.ones(fields["advantages"].shape, bool))


def _temporaries(compiled: Any) -> int:
    return compiled.memory_analysis().temp_size_in_bytes
