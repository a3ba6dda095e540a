"""Sixty-four learning rates in one program: a learner's step is a pure function, of its options too.

`jax.vmap` over the rate trains a policy for each, on the same random numbers. docs/theory/objectives.md has
the loss, docs/guides/one_program.md says what can be compiled so.
"""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt

import surefoot


def main(iterations: int = 20, rates: int = 64) -> None:
    lrs = jnp.logspace(-4.0, 0.0, rates)

    def training(lr: jax.Array) -> jax.Array:
        learner = surefoot.Learner("cartpole/vpg", options={"rule.lr": lr}, streams=8, steps=128)
        state = learner.init(jax.random.key(0))
        _, metrics = jax.lax.scan(lambda state, _: learner.step(state), state, length=iterations)
        return metrics["return"][-1]

    returns = jax.jit(jax.vmap(training))(lrs)
    for lr, value in zip(lrs.tolist(), returns.tolist(), strict=True):
        print(f"learning rate {lr:.5f}   return after {iterations} iterations {value:6.1f}")
    print(f"best: {lrs[jnp.nanargmax(returns)]:.5f}")

    figure, axes = plt.subplots()
    axes.semilogx(lrs, returns, "o")
    axes.set(title=f"CartPole after {iterations} iterations", xlabel="learning rate", ylabel="mean return")
    figure.savefig("08_learning_rates.png")


if __name__ == "__main__":
    main()
