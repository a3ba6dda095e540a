"""PPO (Schulman et al., 2017) on CartPole: a preset, changed a little, and a run that is kept on disk.

The clipped objective is in docs/theory/objectives.md, the minibatches in docs/theory/minibatches.md. From the
command line it is: surefoot train cartpole/ppo --rule.epochs 5 --rule.lr-end None
"""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt

import surefoot
from surefoot.algorithms import SingleTask
from surefoot.experiment.metrics import read_metrics
from surefoot.rules import PPOClip


def main(iterations: int = 48) -> None:
    config = replace(
        surefoot.preset("cartpole/ppo"),
        algorithm=SingleTask(rule=PPOClip(lr=1e-3, clip=0.2, epochs=5, minibatches=32)),
        evaluation=surefoot.Evaluation(tasks=1, episodes=100),
        iterations=iterations,
    )
    with TemporaryDirectory() as folder:
        run = surefoot.train(config, Path(folder) / "run").run
        rows = list(read_metrics(run.folder.metrics))
        for row in rows:
            print(f"{row['steps']:6.0f} steps   mean return {row['return']:5.1f}   KL {row['kl']:.4f}")
    trained = surefoot.evaluate(config, run.state.learner, run.iteration)
    print(f"100 episodes after training: mean return {trained.returns.mean():.1f}")

    figure, axes = plt.subplots()
    axes.plot([row["steps"] for row in rows], [row["return"] for row in rows])
    axes.set(title="PPO on CartPole", xlabel="steps of the environment", ylabel="mean return of an episode")
    figure.savefig("06_ppo.png")


if __name__ == "__main__":
    main()
