"""The cost of each method's meta-gradient beside that of MAML-TRPO, on meta-batches of one size.

    python benchmarks/meta_gradients.py

Each method's loss is differentiated on 40 tasks × 20 episodes × 100 steps of 2-D navigation, with one inner
step, in turns with the others. Beside the ratio of the times is that of the operations, as XLA counts them in
the compiled programs: what a method's own derivatives and terms cost is in both.
"""

import argparse
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from functools import partial
from statistics import median
from typing import Any

import equinox as eqx
import jax
from harness import print_table

from surefoot.algorithms import adapt_to_tasks
from surefoot.algorithms.gradient_adapter import outer_part
from surefoot.experiment import Learner, preset
from surefoot.policies import GaussianMLP
from surefoot.theory.objectives import OnPart, loss_and_gradient
from surefoot.types import MetaBatch

METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "MAML": ("maml-trpo", {}),
    "MAML, surrogate inside": ("maml-trpo", {"inner_loss": "surrogate"}),
    "MAML, DiCE inside": ("maml-trpo", {"inner_loss": "dice"}),
    "first order": ("maml-trpo", {"order": "first"}),
    "ProMP": ("promp", {}),
    "E-MAML": ("e-maml-trpo", {}),
    "ANIL": ("anil-trpo", {}),
    "CAVIA": ("cavia-trpo", {}),
    "Meta-SGD": ("meta-sgd-trpo", {}),
    "Reptile": ("reptile", {}),
}
"""The preset of each method, and the options of its algorithm that differ from it."""


def gradient_of(name: str, options: dict[str, Any], tasks: int) -> tuple[Callable[[], None], float]:
    """A function that computes the method's gradient once, and the operations of its program."""
    config = preset(f"navigation-2d/{name}")
    algorithm: Any = config.algorithm
    algorithm = replace(algorithm, tasks=tasks, inner_steps=1, **options)
    config = replace(config, algorithm=algorithm, policy=GaussianMLP(hidden=(64, 64), action_scale=0.1))
    with closing(Learner(config)) as learner:
        setting, state = learner.setting, learner.state.learner
        goals = config.env.sample_tasks(jax.random.key(1), tasks)
        adapter = algorithm.adapter(setting.estimator, state)
        adaptation = adapt_to_tasks(setting.sampler, adapter, state.policy, goals, jax.random.key(2), 1)
        query = setting.estimator.prepare(adaptation.rollouts[-1], state.scales)
    objective: Any = algorithm.objective(state.own.terms)
    batch = MetaBatch(support=adaptation.batches[:-1], query=adaptation.batches[-1])
    returns = jax.vmap(partial(setting.estimator.returns, previous=state.baselines[-1]))(query)
    batch = replace(batch, prepared=objective.prepare(state.policy, batch, returns))
    part, rest = outer_part(state.policy)
    compilable: Any = eqx.filter_jit(partial(loss_and_gradient, OnPart(objective, rest)))
    compiled = compilable.lower(part, batch).compile()
    operations = compiled.compiled.cost_analysis()["flops"]
    return lambda: jax.block_until_ready(eqx.filter(compiled(part, batch), eqx.is_array)), operations


def main() -> None:
    """Prints a row for each method."""
    parser = argparse.ArgumentParser(description="The cost of each method's meta-gradient beside MAML's")
    parser.add_argument("--tasks", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    gradients = {name: gradient_of(of, more, options.tasks) for name, (of, more) in METHODS.items()}
    seconds: dict[str, list[float]] = {name: [] for name in gradients}
    for _ in range(options.repeats + 1):  # the first round is not counted
        for name, (compute, _) in gradients.items():
            began = time.perf_counter()
            compute()
            seconds[name].append(time.perf_counter() - began)
    first = seconds["MAML"][1:]
    rows = []
    for name, (_, operations) in gradients.items():
        times = seconds[name][1:]
        ratio = median(a / b for a, b in zip(times, first, strict=True))
        counted = operations / gradients["MAML"][1]
        rows.append([name, f"{1e3 * median(times):.0f}", f"{ratio:.2f}", f"{counted:.2f}"])
    print_table("A meta-gradient", ["method", "ms", "× MAML's time", "× MAML's operations"], rows)


if __name__ == "__main__":
    main()
