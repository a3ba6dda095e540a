"""A search by Optuna for the learning rate and the clip of PPO: each batch of proposals in one program.

docs/theory/objectives.md explains both options. It needs `pip install 'surefoot[gymnax,optuna]'`.
"""

import jax
import jax.numpy as jnp
import optuna

import surefoot


def main(iterations: int = 6, rounds: int = 6, batch: int = 8) -> None:
    def training(lr: jax.Array, clip: jax.Array) -> jax.Array:
        options = {"rule.lr": lr, "rule.clip": clip}
        learner = surefoot.Learner("cartpole/ppo", options=options, streams=8, steps=128)
        state = learner.init(jax.random.key(0))
        _, metrics = jax.lax.scan(lambda state, _: learner.step(state), state, length=iterations)
        return metrics["return"][iterations // 2 :].mean()

    program = jax.jit(jax.vmap(training))  # compiled once, for every round
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=0, n_startup_trials=batch)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for number in range(1, rounds + 1):
        trials = [study.ask() for _ in range(batch)]
        lrs = jnp.array([trial.suggest_float("lr", 1e-5, 1e-1, log=True) for trial in trials])
        clips = jnp.array([trial.suggest_float("clip", 0.05, 0.5) for trial in trials])
        for trial, value in zip(trials, program(lrs, clips).tolist(), strict=True):
            study.tell(trial, value)
        best = ", ".join(f"{name} {value:.4g}" for name, value in study.best_params.items())
        print(f"round {number}: best return so far {study.best_value:.1f} with {best}")


if __name__ == "__main__":
    main()
