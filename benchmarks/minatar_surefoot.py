"""surefoot's side of `minatar.py`: trains for some iterations at every line of the standard input."""

import json
import sys
import time
from typing import Any

import jax

from surefoot.algorithms import Estimation, SingleTask
from surefoot.baselines import ValueNetwork
from surefoot.envs import Gymnax
from surefoot.experiment import Config, Learner
from surefoot.policies import CategoricalMLP
from surefoot.rules import PPOClip
from surefoot.samplers.host_runner import disable_async_dispatch

# As every command of surefoot does, before JAX computes.
disable_async_dispatch()


def configuration(problem: dict[str, Any]) -> Config:
    """The problem's settings."""
    network = {"hidden": tuple(problem["hidden"]), "activation": "silu", "encoder": "flat"}
    sizes = {name: problem[name] for name in ("lr", "epochs", "minibatches")}
    rule = PPOClip(**sizes, clip=problem["clip"], max_gradient_norm=problem["max_gradient_norm"])
    return Config(
        env=Gymnax(problem["env"]),
        policy=CategoricalMLP(**network),
        algorithm=SingleTask(rule, entropy_bonus=problem["entropy_bonus"]),
        estimation=Estimation(
            ValueNetwork(**network, **sizes),
            discount=problem["discount"],
            gae_lambda=problem["gae_lambda"],
            fit="previous-batch",
        ),
        streams=problem["streams"],
        steps=problem["steps"],
    )


def main() -> None:
    """Compiles, and then trains on demand."""
    problem = json.loads(sys.argv[1])
    learner = Learner(configuration(problem))
    state, began = learner.state, time.perf_counter()
    step = learner.compile(state)
    jax.block_until_ready(step(state))
    print(time.perf_counter() - began, flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        for _ in range(problem["iterations"]):
            state, _ = step(state)
        jax.block_until_ready(state)
        print(time.perf_counter() - began, flush=True)


if __name__ == "__main__":
    main()
