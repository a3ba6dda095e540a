"""The natural gradient (Kakade, 2002): the length of a step is measured by the KL that it causes.

θ ← θ − α F⁻¹g with α = √(2δ / gᵀF⁻¹g), so that KL(old ‖ new) ≈ δ: docs/theory/trust_region.md derives it.
"""

import jax
import matplotlib.pyplot as plt

from surefoot.algorithms import Estimation, Estimator, Scales
from surefoot.baselines import Zero
from surefoot.envs import Gymnax
from surefoot.policies import CategoricalMLP
from surefoot.samplers import ScanSampler
from surefoot.theory.objectives import PolicyObjective, loss_and_gradient, reinforce
from surefoot.theory.trust_region import natural_direction, step_length


def main(iterations: int = 40, max_kl: float = 0.01) -> None:
    env, objective = Gymnax("CartPole-v1"), PolicyObjective(reinforce)
    estimator = Estimator.of(env, Estimation(Zero()))
    policy = CategoricalMLP().build(jax.random.key(0), env.observation_space, env.action_space)
    (task,) = env.sample_tasks(jax.random.key(1), 1)

    @jax.jit
    def improve(policy, key):
        _, r = ScanSampler(env, episodes=20).collect(policy, task, None, key)
        batch = estimator.batch(estimator.prepare(r, Scales(None, None)), None)
        _, g = loss_and_gradient(objective, policy, batch)
        s = natural_direction(objective, policy, g, batch, damping=0.01, max_iterations=10, tolerance=1e-5)
        new = jax.tree.map(lambda p, x: p - step_length(max_kl, s.curvature) * x, policy, s.direction)
        kl = objective.divergence(policy(batch.observations), new(batch.observations), batch)
        return new, r.rewards.sum(axis=1).mean(), kl

    means, kls = [], []
    for i in range(1, iterations + 1):
        policy, mean, kl = improve(policy, jax.random.key(i))
        means.append(mean)
        kls.append(kl)
        print(f"iteration {i:2}   mean return {mean:5.1f}   KL {kl:.4f}, asked for {max_kl}")

    figure, (above, below) = plt.subplots(2, sharex=True, layout="constrained")
    above.plot(range(1, iterations + 1), means)
    above.set(title="Natural gradient on CartPole", ylabel="mean return")
    below.plot(range(1, iterations + 1), kls)
    below.axhline(max_kl, linestyle="--", color="black")
    below.set(title="KL of each step; dashed: δ", xlabel="iteration", ylabel="KL (nats)")
    figure.savefig("04_natural_gradient.png")


if __name__ == "__main__":
    main()
