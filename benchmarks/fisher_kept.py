"""Fisher-vector products that keep the primal, beside surefoot's, which compute it anew in each product.

    python benchmarks/fisher_kept.py

Ten products in one program, as conjugate gradient takes them, of MAML's objective on 40 tasks of 2-D
navigation. The primal is what a derivative is taken of: the inner step and the predictions. Of it either
everything is kept that the derivative reads, or the results of matrix products alone, or those of the large
ones alone. Working memory is what the compiled program asks for besides its inputs and outputs.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from harness import MIB, print_table
from jax.flatten_util import ravel_pytree
from jaxtyping import PyTree
from meta_step_problem import Problem, direction
from meta_step_surefoot import Side, collect

from surefoot.theory.fisher import fisher_vector_product
from surefoot.theory.meta import Adapted
from surefoot.types import MetaBatch

PRODUCTS = 10
LARGE = 32
"""Numbers that each result of a large product is a sum of, at least."""
Product = Callable[[PyTree], PyTree]


def large_products(primitive: Any, *operands: Any, **parameters: Any) -> bool:
    """Whether an operation is a large product of matrices."""
    if primitive.name != "dot_general":
        return False
    (contracted, _), _ = parameters["dimension_numbers"]
    return bool(np.prod([operands[0].shape[axis] for axis in contracted]) >= LARGE)


def anew(objective: Adapted, policy: PyTree, batch: MetaBatch) -> Product:
    """surefoot's product."""
    return partial(fisher_vector_product, objective, policy, batch)


def keeping(kept: Callable[..., Any], objective: Adapted, policy: PyTree, batch: MetaBatch) -> Product:
    """The same product from linearisations of every task, made once. `kept` says of each operation of the
    primal whether its result is kept."""
    parameters, static = eqx.partition(policy, eqx.is_inexact_array)
    each = jax.tree.map(lambda x: x[:, None], batch)

    def linearise(task: MetaBatch) -> Any:
        def predict(parameters: PyTree) -> PyTree:
            return objective.predict(eqx.combine(parameters, static), task)

        return jax.linearize(jax.checkpoint(predict, policy=kept), parameters)

    linearised = jax.lax.map(linearise, each)

    def product(vector: PyTree) -> PyTree:
        def add(total: PyTree, of_task: Any) -> tuple[PyTree, None]:
            task, (prediction, push_forward) = of_task
            slope = jax.grad(lambda new: objective.divergence(prediction, new, task))
            _, cotangent = jax.jvp(slope, (prediction,), (push_forward(vector),))
            (of_this,) = jax.linear_transpose(push_forward, parameters)(cotangent)
            return jax.tree.map(jnp.add, total, of_this), None

        total, _ = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, parameters), (each, linearised))
        return jax.tree.map(lambda x: x / len(batch.query.valid), total)

    return product


WAYS: dict[str, Callable[..., Product]] = {
    "nothing (surefoot)": anew,
    "everything": partial(keeping, jax.checkpoint_policies.everything_saveable),
    "products": partial(keeping, jax.checkpoint_policies.dots_saveable),
    "large products": partial(keeping, large_products),
}
"""By what of the primal is kept."""


def chained(way: Callable[..., Product], objective: Adapted) -> Callable[..., PyTree]:
    """Products one after another, each of a vector that depends on the one before; returns the last."""

    def run(policy: PyTree, batch: MetaBatch, vector: PyTree) -> PyTree:
        product = way(objective, policy, batch)

        def following(last: PyTree, _: None) -> tuple[PyTree, None]:
            return product(jax.tree.map(lambda v, x: v + 1e-6 * x, vector, last)), None

        return jax.lax.scan(following, vector, length=PRODUCTS)[0]

    return run


def main() -> None:
    """Prints a row for each way. Raises `SystemExit` if their results differ."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tasks", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    problem = Problem(tasks=options.tasks, observations=2, actions=2)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "problem.npz"
        collect(problem, path)
        side = Side(problem, path)
    policy, batch = side.policy, side.batch
    vector = ravel_pytree(policy)[1](jnp.asarray(direction(problem)))
    programs = {
        name: jax.jit(chained(way, side.objective())).lower(policy, batch, vector).compile()
        for name, way in WAYS.items()
    }
    results = {name: ravel_pytree(run(policy, batch, vector))[0] for name, run in programs.items()}
    first, *others = results.values()
    if not all(jnp.linalg.norm(x - first) < 1e-5 * jnp.linalg.norm(first) for x in others):
        raise SystemExit("The products differ.")
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(options.repeats):
        for name, run in programs.items():
            began = time.perf_counter()
            jax.block_until_ready(run(policy, batch, vector))
            seconds[name].append(time.perf_counter() - began)
    anew_seconds = next(iter(seconds.values()))
    rows = []
    for name, run in programs.items():
        ratio = median(a / b for a, b in zip(seconds[name], anew_seconds, strict=True))
        memory: Any = run.memory_analysis()
        rows.append(
            [
                name,
                f"{median(seconds[name]):.2f}",
                f"{ratio:.2f}",
                f"{memory.temp_size_in_bytes / MIB:.0f}",
            ]
        )
    head = ["kept of the primal", "seconds", "× surefoot", "working memory, MiB"]
    print_table(f"{PRODUCTS} Fisher-vector products, {options.tasks} tasks", head, rows)


if __name__ == "__main__":
    main()
