"""Baselines: what is taken from the return changes not where the gradient points, but how noisy it is.

E[∇log P(τ) (R(τ) − b)] is the same for every constant b: docs/theory/policy_gradient.md finds the best one.
Here b is estimated from the same 40 episodes, for a small bias, which `leave_one_out=True` would remove.
"""

import jax
import matplotlib.pyplot as plt
from jax.flatten_util import ravel_pytree

from surefoot.algorithms import episode_returns
from surefoot.envs import Gymnax
from surefoot.policies import CategoricalMLP
from surefoot.samplers import ScanSampler
from surefoot.theory.policy_gradient import optimal_baseline, policy_gradient, score


def main(iterations: int = 60, lr: float = 0.004) -> None:
    env = Gymnax("CartPole-v1")
    policy = CategoricalMLP(hidden=()).build(jax.random.key(0), env.observation_space, env.action_space)
    (task,) = env.sample_tasks(jax.random.key(1), 1)
    parameters, policy_of = ravel_pytree(policy)

    @jax.jit
    def improve(parameters, key):
        policy = policy_of(parameters)
        _, r = ScanSampler(env, episodes=40).collect(policy, task, None, key)
        returns = episode_returns(r)
        scores = jax.vmap(score, (None, 0, 0, 0))(policy, r.observations, r.actions, r.valid)
        scores = jax.vmap(lambda s: ravel_pytree(s)[0])(scores)  # [episode parameter]
        baselines = [0.0, returns.mean(), optimal_baseline(scores, returns)]
        noise = [(scores * (returns[:, None] - b)).std(axis=0).sum() for b in baselines]
        return parameters + lr * policy_gradient(scores, returns, baselines[-1]), returns.mean(), noise

    noises = []
    for i in range(1, iterations + 1):
        parameters, mean, (none, average, best) = improve(parameters, jax.random.key(i))
        noises.append((none, average, best))
        print(f"return {mean:5.1f}   noise {none:7.1f}, less the mean {average:6.1f}, the best {best:6.1f}")

    figure, axes = plt.subplots()
    axes.semilogy(
        range(1, iterations + 1), noises, label=["no baseline", "the mean return", "the best constant"]
    )
    axes.set(title="REINFORCE on CartPole, 40 episodes", xlabel="iteration", ylabel="noise of the gradient")
    axes.legend(title="baseline")
    figure.savefig("02_baselines.png")


if __name__ == "__main__":
    main()
