"""REINFORCE (Williams, 1992): make every action of an episode more probable, the more so the better it ended.

∇J = E[∇log P(τ) R(τ)], here the mean over 20 episodes of CartPole: docs/theory/policy_gradient.md derives it.
"""

import jax
import matplotlib.pyplot as plt

from surefoot.algorithms import episode_returns
from surefoot.envs import Gymnax
from surefoot.policies import CategoricalMLP
from surefoot.rules import OptaxStep
from surefoot.samplers import ScanSampler
from surefoot.theory.policy_gradient import policy_gradient, score


def main(iterations: int = 150) -> None:
    env = Gymnax("CartPole-v1")
    sampler, adam = ScanSampler(env, episodes=20), OptaxStep(lr=0.01)
    policy = CategoricalMLP(hidden=(16,)).build(jax.random.key(0), env.observation_space, env.action_space)
    (task,) = env.sample_tasks(jax.random.key(1), 1)

    @jax.jit
    def improve(policy, memory, key):
        _, r = sampler.collect(policy, task, None, key)
        returns = episode_returns(r)  # R(τ)
        scores = jax.vmap(score, (None, 0, 0, 0))(policy, r.observations, r.actions, r.valid)  # ∇log P(τ)
        descent = jax.tree.map(lambda g: -g, policy_gradient(scores, returns))
        return *adam.apply(policy, descent, memory), returns.mean()

    memory, means = adam.init(policy), []
    for i in range(1, iterations + 1):
        policy, memory, mean = improve(policy, memory, jax.random.key(i))
        means.append(mean)
        if i == 1 or i % 10 == 0:
            print(f"iteration {i:3}   mean return {mean:5.1f}")

    figure, axes = plt.subplots()
    axes.plot(range(1, iterations + 1), means)
    axes.set(title="REINFORCE on CartPole", xlabel="iteration", ylabel="mean return of 20 episodes")
    figure.savefig("01_reinforce.png")


if __name__ == "__main__":
    main()
