"""rejax's side of `minatar.py`: trains for some iterations at every line of the standard input."""

import json
import sys
import time

import jax
from rejax import get_algo  # pyright: ignore[reportMissingImports]


def no_evaluation(*_: object) -> tuple[()]:
    """In place of the evaluation that a training ends with."""
    return ()


def main() -> None:
    """Compiles, and then trains on demand."""
    problem = json.loads(sys.argv[1])
    steps = problem["streams"] * problem["steps"] * problem["iterations"]
    ppo = get_algo("ppo").create(
        env=problem["env"],
        agent_kwargs={"hidden_layer_sizes": problem["hidden"], "activation": "swish"},
        num_envs=problem["streams"],
        num_steps=problem["steps"],
        num_epochs=problem["epochs"],
        num_minibatches=problem["minibatches"],
        learning_rate=problem["lr"],
        gamma=problem["discount"],
        gae_lambda=problem["gae_lambda"],
        clip_eps=problem["clip"],
        ent_coef=problem["entropy_bonus"],
        max_grad_norm=problem["max_gradient_norm"],
        total_timesteps=steps,
        eval_freq=steps,
        skip_initial_evaluation=True,
    )
    ppo = ppo.replace(eval_callback=no_evaluation)
    began = time.perf_counter()
    state = jax.jit(ppo.init_state)(jax.random.key(0))
    train = jax.jit(lambda state: ppo.train(train_state=state)[0]).lower(state).compile()
    jax.block_until_ready(train(state))
    print(time.perf_counter() - began, flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        state = jax.block_until_ready(train(state))
        print(time.perf_counter() - began, flush=True)


if __name__ == "__main__":
    main()
