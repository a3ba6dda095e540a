"""The identities that the chapters of the theory derive, in numbers: each side is computed on its own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from surefoot.lab.exact import all_trajectories, log_probs, policy_gradient, solve
from surefoot.lab.problems import Episodes, Problem, SoftmaxTable, chain, chain_policy, random_policy
from surefoot.theory import policy_gradient as gradients
from surefoot.theory.distributions import Categorical, DiagonalGaussian
from surefoot.theory.importance import weighted_reward_to_go
from surefoot.theory.objectives import reinforce
from surefoot.theory.returns import discounted_return
from surefoot.theory.trust_region import step_length

pytestmark = pytest.mark.usefixtures("x64")


def everything(problem: Problem, policy: SoftmaxTable) -> tuple[Episodes, Array, Array]:
    """All episodes, their probabilities and their returns."""
    episodes, chances = all_trajectories(problem, policy)
    returns = jax.vmap(lambda rewards: discounted_return(rewards, problem.discounts))(episodes.rewards)
    return episodes, chances, returns


def two_policies() -> tuple[Problem, SoftmaxTable, SoftmaxTable]:
    problem = chain()
    return problem, chain_policy(), random_policy(jax.random.key(3), problem)


# Chapter 4


def test_the_gradient_of_a_sum_over_trajectories_is_the_mean_of_score_times_return():
    problem, policy, _ = two_policies()
    episodes, chances, returns = everything(problem, policy)
    step_scores = policy.scores[episodes.states, episodes.actions]
    found = jnp.einsum("n,ntp,n->p", chances, step_scores, returns)

    def expected_return(table: Array) -> Array:  # the first line: Σ P R, by the definition of P
        rows = jax.nn.softmax(table)
        moves = problem.mdp.transitions[
            episodes.states[:, :-1], episodes.actions[:, :-1], episodes.states[:, 1:]
        ]
        steps = rows[episodes.states, episodes.actions]
        product = problem.start[episodes.states[:, 0]] * steps.prod(axis=1) * moves.prod(axis=1)
        return jnp.sum(product * returns)

    np.testing.assert_allclose(expected_return(policy.table), jnp.sum(chances * returns), rtol=1e-12)
    np.testing.assert_allclose(found, jax.grad(expected_return)(policy.table).reshape(-1), atol=1e-12)
    np.testing.assert_allclose(found, policy_gradient(problem, policy), atol=1e-12)


def test_trajectories_that_earn_nothing_teach_nothing_without_a_baseline():
    scores = {"w": jnp.array([[1.0, -2.0], [3.0, 0.5]])}
    nothing = gradients.policy_gradient(scores, jnp.zeros(2))
    np.testing.assert_array_equal(nothing["w"], np.zeros(2))
    # Beside one that earns something, and with a baseline, the other one teaches too.
    one = gradients.policy_gradient(scores, jnp.array([0.0, 1.0]), 0.5)
    np.testing.assert_allclose(one["w"], [(1.0 * -0.5 + 3.0 * 0.5) / 2, (-2.0 * -0.5 + 0.5 * 0.5) / 2])


# Chapter 7


def test_an_expectation_under_one_distribution_from_another():
    p, q, f = np.array([0.2, 0.5, 0.3]), np.array([0.6, 0.3, 0.1]), np.array([1.0, -4.0, 2.5])
    np.testing.assert_allclose(np.sum(q * (p / q) * f), np.sum(p * f), rtol=1e-14)


def test_the_gradient_of_importance_sampling_at_another_policy_and_at_the_old_one():
    problem, old, new = two_policies()
    episodes, chances, returns = everything(problem, old)
    for policy in (new, old):
        weights = jnp.exp(jnp.sum(log_probs(policy, episodes) - log_probs(old, episodes), axis=-1))
        value = jnp.sum(chances * weights * returns)
        np.testing.assert_allclose(value, solve(problem, policy.probabilities).value, rtol=1e-12)
        scores = jnp.sum(policy.scores[episodes.states, episodes.actions], axis=1)
        found = jnp.einsum("n,n,np,n->p", chances, weights, scores, returns)
        np.testing.assert_allclose(found, policy_gradient(problem, policy), atol=1e-12)


@pytest.mark.parametrize("t", [0, 1, 2])
def test_a_step_needs_the_ratio_of_its_state_and_of_its_action(t: int):
    problem, old, new = two_policies()
    episodes, chances, _ = everything(problem, old)
    f = jax.random.normal(jax.random.key(0), old.table.shape)
    before, after = (np.asarray(solve(problem, policy.probabilities).occupancy[t]) for policy in (old, new))
    expected = jnp.sum(after[:, None] * new.probabilities * f)
    ratios = jnp.exp(log_probs(new, episodes) - log_probs(old, episodes))
    states, actions = episodes.states[:, t], episodes.actions[:, t]
    of_state = jnp.where(before > 0, after / jnp.where(before > 0, before, 1.0), 0.0)
    found = jnp.sum(chances * of_state[states] * ratios[:, t] * f[states, actions])
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    # The factor of the state is the mean of the past's ratios.
    past = jnp.prod(ratios[:, :t], axis=1)
    for state in np.flatnonzero(before > 0):
        here = jnp.where(states == int(state), chances, 0.0)
        np.testing.assert_allclose(jnp.sum(here * past) / jnp.sum(here), of_state[int(state)], rtol=1e-12)
    if t > 0:
        assert abs(jnp.sum(chances * ratios[:, t] * f[states, actions]) - expected) > 1e-3, "it is not one"


def test_the_return_is_a_mean_of_values_and_a_value_one_of_ratio_times_q():
    problem, old, new = two_policies()
    exact = solve(problem, new.probabilities)
    np.testing.assert_allclose(problem.start @ exact.values[0], exact.value, rtol=1e-12)
    ratio = new.probabilities / old.probabilities
    again = jnp.einsum("sa,sa,tsa->ts", old.probabilities, ratio, exact.action_values)
    np.testing.assert_allclose(again, exact.values, rtol=1e-12)


def test_with_the_old_policy_s_q_the_slope_is_right_at_the_old_policy():
    problem, old, _ = two_policies()
    exact = solve(problem, old.probabilities)

    def weighted(table: Array) -> Array:
        ratio = jax.nn.softmax(table) / old.probabilities
        return jnp.einsum("ts,sa,sa,tsa->", exact.visits, old.probabilities, ratio, exact.action_values)

    found = jax.grad(weighted)(old.table).reshape(-1)
    np.testing.assert_allclose(found, policy_gradient(problem, old), atol=1e-12)


# Chapter 8


def test_the_gradient_of_the_kl_is_the_mean_of_the_new_policy_s_score():
    old, new = jnp.array([0.3, -1.0, 0.8]), jnp.array([-0.2, 0.4, 0.1])
    found = jax.grad(lambda x: Categorical(old).kl(Categorical(x)))(new)
    scores = jax.jacobian(jax.nn.log_softmax)(new)
    np.testing.assert_allclose(found, -jax.nn.softmax(old) @ scores, atol=1e-14)
    np.testing.assert_allclose(found, jax.nn.softmax(new) - jax.nn.softmax(old), atol=1e-14)
    np.testing.assert_allclose(
        jax.grad(lambda x: Categorical(old).kl(Categorical(x)))(old), np.zeros(3), atol=1e-14
    )


# Chapter 11


def gaussian(parameters: Array) -> DiagonalGaussian:
    return DiagonalGaussian(parameters[:1], parameters[1:])


def test_taylor_in_two_variables_by_the_chapter_s_numbers():
    here, step = jnp.array([0.0, jnp.log(0.5)]), np.array([0.05, 0.02])

    def divergence(x: Array) -> Array:
        return gaussian(here).kl(gaussian(x))

    matrix = np.asarray(jax.hessian(divergence)(here))
    np.testing.assert_allclose(matrix, [[1 / 0.5**2, 0.0], [0.0, 2.0]], atol=1e-12)
    np.testing.assert_allclose(jax.grad(divergence)(here), np.zeros(2), atol=1e-14)
    bracket = matrix[0, 0] * step[0] ** 2 + 2 * matrix[0, 1] * step[0] * step[1] + matrix[1, 1] * step[1] ** 2
    np.testing.assert_allclose(0.5 * bracket, 0.00540, atol=5e-9)
    np.testing.assert_allclose(0.5 * step @ matrix @ step, 0.5 * bracket, rtol=1e-14)
    np.testing.assert_allclose(divergence(here + step), 0.00520, atol=5e-6)


# Chapter 13

FISHER = np.array([[2.0, 0.6], [0.6, 0.5]])
GRADIENT = np.array([1.0, -0.7])


def model_step(delta: float) -> np.ndarray:
    x = np.linalg.solve(FISHER, GRADIENT)
    return -np.asarray(step_length(delta, jnp.asarray(x @ FISHER @ x))) * x


def test_the_step_is_a_stationary_point_of_the_lagrangian_and_no_point_of_the_region_is_better():
    delta, x = 0.02, np.linalg.solve(FISHER, GRADIENT)
    step, beta = model_step(delta), np.sqrt(x @ FISHER @ x / (2 * delta))
    np.testing.assert_allclose(GRADIENT + beta * FISHER @ step, np.zeros(2), atol=1e-12)
    np.testing.assert_allclose(0.5 * step @ FISHER @ step, delta, rtol=1e-12)
    angles = np.linspace(0, 2 * np.pi, 1000)
    half = np.linalg.cholesky(np.linalg.inv(FISHER))
    boundary = np.sqrt(2 * delta) * half @ np.stack([np.cos(angles), np.sin(angles)])
    best = np.min(GRADIENT @ boundary)
    assert GRADIENT @ step <= best
    np.testing.assert_allclose(GRADIENT @ step, best, rtol=1e-4)
    np.testing.assert_allclose(GRADIENT @ step, -np.sqrt(2 * delta * x @ FISHER @ x), rtol=1e-12)


def test_the_notes_multiplier_is_the_reciprocal_of_the_step_length():
    delta, s = 0.02, np.linalg.solve(FISHER, GRADIENT)
    shs = 0.5 * s @ FISHER @ s
    lm = np.sqrt(shs / delta)
    np.testing.assert_allclose(-s / lm, model_step(delta), rtol=1e-12)
    np.testing.assert_allclose(step_length(delta, jnp.asarray(2 * shs)), 1 / lm, rtol=1e-12)


def test_the_multiplier_is_the_decrease_of_the_loss_for_each_further_nat():
    delta, h, s = 0.02, 1e-6, np.linalg.solve(FISHER, GRADIENT)
    above, below = GRADIENT @ model_step(delta + h), GRADIENT @ model_step(delta - h)
    np.testing.assert_allclose(-(above - below) / (2 * h), np.sqrt(s @ FISHER @ s / (2 * delta)), rtol=1e-6)


def test_a_ball_s_best_step_is_along_the_gradient():
    a, epsilon = np.array([3.0, -4.0]), 0.25
    best = np.sqrt(epsilon) * a / np.linalg.norm(a)
    np.testing.assert_allclose(best, [0.3, -0.4])
    directions = np.random.default_rng(0).normal(size=(1000, 2))
    others = 0.5 * directions / np.linalg.norm(directions, axis=1, keepdims=True)
    assert np.all(others @ a <= a @ best + 1e-12)
    assert np.max(others @ a) > 0.999 * a @ best


def test_the_second_order_of_a_surrogate_is_small_beside_the_first_in_a_small_region():
    logits, gains = jnp.array([0.2, -0.4, 0.1]), jnp.array([1.0, -0.5, 0.3])

    def loss(x: Array) -> Array:
        return -jnp.sum(jax.nn.softmax(x) * gains)

    slope, curvature = jax.grad(loss)(logits), jax.hessian(loss)(logits)
    p = jax.nn.softmax(logits)
    fisher = np.diag(p) - np.outer(p, p)
    x = np.linalg.pinv(fisher) @ slope
    orders = []
    for delta in (1e-2, 1e-4, 1e-6):
        step = -np.sqrt(2 * delta / (x @ fisher @ x)) * x
        orders.append(abs(0.5 * step @ curvature @ step) / abs(slope @ step))
    np.testing.assert_allclose(np.array(orders[:-1]) / orders[1:], [10.0, 10.0], rtol=1e-6)


# Chapter 5


def test_the_proximal_minimum_is_a_mean_of_target_and_old_value():
    targets, old, kappa = np.array([1.0, 4.0, 2.5]), -1.0, 0.7
    best = (targets.mean() + 2 * kappa * old) / (1 + 2 * kappa)

    def loss(v: Array) -> Array:
        return 0.5 * jnp.mean((v - targets) ** 2) + kappa * (v - old) ** 2

    np.testing.assert_allclose(jax.grad(loss)(jnp.array(best)), 0.0, atol=1e-14)
    assert jax.hessian(loss)(jnp.array(best)) > 0


# Chapter 9


def test_the_pseudo_loss_is_maximum_likelihood_with_a_weight_for_each_action():
    states, actions = jnp.array([0, 0, 0, 1, 1]), jnp.array([0, 1, 0, 2, 1])
    weights = jnp.array([1.0, 2.0, 0.5, 3.0, 1.0])

    def pseudo_loss(table: Array) -> Array:
        return jnp.mean(reinforce(jax.nn.log_softmax(table)[states, actions], jnp.zeros(5), weights))

    counts = np.array([[1.5, 2.0, 0.0], [0.0, 1.0, 3.0]])
    shares = counts / counts.sum(axis=1, keepdims=True)
    at_the_counts = jnp.log(jnp.asarray(np.maximum(shares, 1e-300)))
    np.testing.assert_allclose(jax.grad(pseudo_loss)(at_the_counts), np.zeros((2, 3)), atol=1e-12)
    # With weight one everywhere it is the slope of the mean log-likelihood.
    table = jax.random.normal(jax.random.key(0), (2, 3))
    ones = jax.grad(
        lambda x: jnp.mean(reinforce(jax.nn.log_softmax(x)[states, actions], jnp.zeros(5), jnp.ones(5)))
    )
    likelihood = jax.grad(lambda x: -jnp.mean(jax.nn.log_softmax(x)[states, actions]))
    np.testing.assert_allclose(ones(table), likelihood(table), atol=1e-14)


def test_backpropagation_through_time_with_a_value_head_by_its_recursion():
    """h_t = tanh(w h_{t−1} + u s_t), two actions with logits (p h_t, 0), and V = v h_t."""
    observations, actions = np.array([0.5, -1.0, 2.0, 0.3]), np.array([0, 1, 1, 0])
    advantages, targets, c = np.array([1.0, -0.5, 2.0, 0.7]), np.array([0.2, 1.0, -1.0, 0.4]), 0.5
    w, u, p, v = 0.8, -0.6, 1.3, 0.9

    def loss(parameters: Array) -> Array:
        w, u, p, v = parameters
        h, total = jnp.zeros(()), jnp.zeros(())
        for t in range(4):
            h = jnp.tanh(w * h + u * observations[t])
            log_prob = jax.nn.log_softmax(jnp.stack([p * h, jnp.zeros(())]))[actions[t]]
            total += -log_prob * advantages[t] + 0.5 * c * (v * h - targets[t]) ** 2
        return total

    memory = [0.0]
    for t in range(4):
        memory.append(np.tanh(w * memory[-1] + u * observations[t]))
    gradient, e = np.zeros(4), 0.0
    for t in reversed(range(4)):
        before, h = memory[t], memory[t + 1]
        first = 1 / (1 + np.exp(-p * h))
        in_logit = -advantages[t] * ((actions[t] == 0) - first)
        in_value = c * (v * h - targets[t])
        through = (1 - memory[t + 2] ** 2) * w * e if t < 3 else 0.0
        e = in_logit * p + in_value * v + through
        bent = 1 - h**2
        gradient += [e * bent * before, e * bent * observations[t], in_logit * h, in_value * h]
    np.testing.assert_allclose(jax.grad(loss)(jnp.array([w, u, p, v])), gradient, rtol=1e-12)


# The errors of such notes, of which the pages "Your notes" speak


def test_a_ratio_on_the_action_and_on_its_reward_is_counted_twice():
    problem, old, new = two_policies()
    episodes, chances, _ = everything(problem, old)
    ratios = jnp.exp(log_probs(new, episodes) - log_probs(old, episodes))
    weights = jnp.cumprod(ratios, axis=1) * problem.discount_powers
    scores = new.scores[episodes.states, episodes.actions]

    def gradient(after: Array) -> Array:
        """With `after[t]` as what is credited to the action of step t."""
        return jnp.einsum("n,nt,nt,ntp->p", chances, weights, after, scores)

    right = jax.vmap(weighted_reward_to_go, (0, None, 0))(episodes.rewards, problem.discounts, ratios)
    np.testing.assert_allclose(gradient(right), policy_gradient(problem, new), atol=1e-12)
    error = jnp.linalg.norm(gradient(ratios * right) - gradient(right)) / jnp.linalg.norm(gradient(right))
    np.testing.assert_allclose(error, 0.385, atol=5e-4)


def test_a_factor_of_a_half_that_is_missing_shortens_the_step_by_the_root_of_two():
    delta, x = 0.02, np.linalg.solve(FISHER, GRADIENT)
    without = -np.sqrt(delta / (x @ FISHER @ x)) * x
    np.testing.assert_allclose(without * np.sqrt(2), model_step(delta), rtol=1e-12)
