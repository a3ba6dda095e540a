"""Agents for tabular MDPs: their planning against enumeration and linear programming, and what they know."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linprog

from surefoot.envs import Bandit, TabularMDP
from surefoot.envs.tabular_mdp import MDP
from surefoot.options import UserError
from surefoot.reference import (
    PSRL,
    UCRL2,
    EpsilonGreedy,
    OptimisticPSRL,
    Optimum,
    Random,
    optimistic_backward_induction,
    plan,
    total_rewards,
)
from surefoot.reference.base import Experience
from surefoot.reference.tabular import Knowledge

KEY = jax.random.key(0)
STATES, ACTIONS, HORIZON = 3, 2, 3


def random_mdp() -> MDP:
    tasks = TabularMDP(states=STATES, actions=ACTIONS, horizon=HORIZON).sample_tasks(KEY, 1)
    return jax.tree.map(lambda x: x[0], tasks)


def test_the_plan_is_the_best_of_all_policies():
    """Among every deterministic policy of time and state."""
    mdp = random_mdp()
    transitions, rewards = np.asarray(mdp.transitions, float), np.asarray(mdp.rewards, float)
    best = -np.inf * np.ones(STATES)
    for choices in product(range(ACTIONS), repeat=STATES * HORIZON):
        policy = np.reshape(choices, (HORIZON, STATES))
        value = np.zeros(STATES)
        for t in reversed(range(HORIZON)):
            at = np.arange(STATES), policy[t]
            value = rewards[at] + transitions[at] @ value
        best = np.maximum(best, value)
    np.testing.assert_allclose(plan(mdp, HORIZON)[0].max(axis=1), best, rtol=1e-5)


@pytest.mark.parametrize("radius", [0.0, 0.3, 1.0, 5.0])
def test_the_optimistic_plan_by_linear_programming(radius: float):
    """max p·v over distributions within the L1 distance, written with slack variables for the distance."""
    mdp = random_mdp()
    got = np.asarray(optimistic_backward_induction(mdp, jnp.full((STATES, ACTIONS), radius), HORIZON))
    transitions, rewards = np.asarray(mdp.transitions, float), np.asarray(mdp.rewards, float)
    value, eye, none = np.zeros(STATES), np.eye(STATES), np.zeros((STATES, STATES))
    for t in reversed(range(HORIZON)):
        expected = np.zeros((STATES, ACTIONS))
        for s, a in product(range(STATES), range(ACTIONS)):
            p = transitions[s, a]
            above = np.block([[eye, -eye], [-eye, -eye], [none[:1], np.ones((1, STATES))]])
            found = linprog(
                np.concatenate([-value, np.zeros(STATES)]),
                A_ub=above,
                b_ub=np.concatenate([p, -p, [radius]]),
                A_eq=[[1.0] * STATES + [0.0] * STATES],
                b_eq=[1.0],
            )
            expected[s, a] = rewards[s, a] - found.fun
        np.testing.assert_allclose(got[t], expected, atol=1e-4)
        value = expected.max(axis=1)


def known() -> Knowledge:
    """After two visits of state 0 and action 1, with rewards 4 and 2, to states 2 and 0."""
    env = TabularMDP(states=STATES, actions=ACTIONS, horizon=HORIZON)
    agent, state = PSRL(), PSRL().init(env, None, 10)
    for reward, to in ((4.0, 2), (2.0, 0)):
        places = jnp.eye(STATES)
        step = Experience(places[0], jnp.array(1, jnp.int32), jnp.array(reward), places[to])
        state = agent.learn(state, step)
    return state


def test_the_posterior_by_hand():
    """Dirichlet(2, 1, 2), and a mean reward of (1 + 6)/(1 + 2) with variance 1/3."""
    state = known()
    np.testing.assert_allclose(state.mean.transitions[0, 1], [2 / 5, 1 / 5, 2 / 5], rtol=1e-6)
    np.testing.assert_allclose(state.mean.transitions[1, 1], 1 / 3, rtol=1e-6)
    np.testing.assert_allclose(state.mean.rewards, [[1, 7 / 3], [1, 1], [1, 1]], rtol=1e-6)
    drawn = jax.vmap(state.sample)(jax.random.split(KEY, 4000))
    np.testing.assert_allclose(drawn.transitions.mean(0), state.mean.transitions, atol=0.02)
    np.testing.assert_allclose(drawn.rewards.mean(0), state.mean.rewards, atol=0.07)
    np.testing.assert_allclose(drawn.rewards.var(0)[0], [1, 1 / 3], atol=0.08)
    np.testing.assert_allclose(drawn.transitions.var(0)[0, 1, 1], 1 / 5 * 4 / 5 / 6, atol=0.004)


def test_optimism():
    state = known()
    values = {scale: UCRL2(scale=scale).values(KEY, state) for scale in (0.0, 0.1)}
    np.testing.assert_allclose(values[0.0], plan(state.mean, HORIZON), rtol=1e-5)
    gain = values[0.1] - values[0.0]
    assert (gain > 0).all()
    assert gain[-1, 0, 1] < gain[-1, 0, 0], "what was seen twice has a smaller bonus than what was not"
    log_pairs = np.log(2 * STATES * ACTIONS * 2 / 0.05)
    np.testing.assert_allclose(gain[-1, 0], 0.1 * np.sqrt(3.5 * log_pairs / np.array([1, 2])), rtol=1e-4)
    keys = jax.random.split(KEY, 200)
    means = [
        jax.vmap(lambda k, n=n: OptimisticPSRL(samples=n).values(k, state))(keys).mean() for n in (1, 10)
    ]
    assert means[1] > means[0] + 0.5
    np.testing.assert_array_equal(EpsilonGreedy(0.0).values(KEY, state), plan(state.mean, HORIZON))
    explored = EpsilonGreedy(1.0).values(KEY, state)
    assert float(explored.min()) >= 0
    assert float(explored.max()) <= 1


def test_the_agents_learn():
    """Ten episodes: random actions earn 1 a step in expectation, and the optimum what its plan says."""
    env = TabularMDP(states=STATES, actions=ACTIONS, horizon=HORIZON)
    agents = {
        "random": Random(),
        "psrl": PSRL(),
        "opsrl": OptimisticPSRL(samples=3),
        "ucrl2": UCRL2(scale=0.03),
        "greedy": EpsilonGreedy(0.05),
        "optimum": Optimum(),
    }
    totals = {
        name: np.asarray(total_rewards(agent, env, KEY, problems=500, episodes=10))
        for name, agent in agents.items()
    }
    errors = {name: 4 * x.std() / np.sqrt(len(x)) for name, x in totals.items()}
    assert abs(totals["random"].mean() - 30) < errors["random"]
    for name in ("psrl", "opsrl", "ucrl2", "greedy"):
        assert totals["random"].mean() + 2 * errors["random"] < totals[name].mean() < totals["optimum"].mean()
    task_key, _ = jax.random.split(KEY)
    values = jax.vmap(lambda mdp: plan(mdp, HORIZON)[0, 0].max())(env.sample_tasks(task_key, 500))
    assert abs(totals["optimum"].mean() - 10 * values.mean()) < 4 * np.sqrt(30 / 500) * 1.5


def test_other_environments_are_refused():
    for agent in (PSRL(), Optimum()):
        with pytest.raises(UserError, match="use the environment tabular-mdp"):
            total_rewards(agent, Bandit(), KEY, problems=2)
