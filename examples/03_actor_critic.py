"""Actor and critic: an action is credited with what it earned beyond what the critic had expected.

A_t = δ_t + γλ A_{t+1} with δ_t = r_t + γ V(s_{t+1}) − V(s_t): docs/theory/advantages.md derives it.
"""

import jax
import matplotlib.pyplot as plt

from surefoot.envs import Gymnax
from surefoot.policies import ActorCritic
from surefoot.rules import OptaxStep
from surefoot.samplers import ScanSampler
from surefoot.theory.advantages import gae


def main(iterations: int = 60) -> None:
    env, adam = Gymnax("CartPole-v1"), OptaxStep(lr=0.005)
    policy = ActorCritic().build(jax.random.key(0), env.observation_space, env.action_space)
    (task,) = env.sample_tasks(jax.random.key(1), 1)

    @jax.jit
    def improve(policy, memory, key):
        _, r = ScanSampler(env, episodes=20).collect(policy, task, None, key)
        v, v_next = (r.valid * policy.values(o) for o in (r.observations, r.next_observations))
        gamma, decay = 0.99 * (r.valid & ~r.terminated), 0.98 * ~r.truncated
        advantages = jax.vmap(gae)(0.02 * r.rewards, gamma, v, v_next, decay)  # V is near one then

        def loss(policy):
            log_probs, values = policy(r.observations).log_prob(r.actions), policy.values(r.observations)
            return (0.5 * (advantages + v - values) ** 2 - log_probs * advantages).mean(where=r.valid)

        return *adam.apply(policy, jax.grad(loss)(policy), memory), r.rewards.sum(axis=1).mean()

    memory, means = adam.init(policy), []
    for i in range(1, iterations + 1):
        policy, memory, mean = improve(policy, memory, jax.random.key(i))
        means.append(mean)
        print(f"iteration {i:2}   mean return {mean:5.1f}")

    figure, axes = plt.subplots()
    axes.plot(range(1, iterations + 1), means)
    axes.set(title="Actor-critic on CartPole", xlabel="iteration", ylabel="mean return of 20 episodes")
    figure.savefig("03_actor_critic.png")


if __name__ == "__main__":
    main()
