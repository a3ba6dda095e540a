"""Every way to learn, on environments whose values are known by hand.

Values must come within 0.1 of what is known. A policy has found the right action if that is its most probable
one everywhere and it earns 0.8 or more, where the best policy earns 1 and the random policy 0.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from support.rules import RULES
from support.settings import setting_of, train
from surefoot.algorithms import (
    AbstractAlgorithm,
    Estimation,
    OffPolicyReinforce,
    Reinforce,
    Setting,
    SingleTask,
)
from surefoot.baselines import AbstractBaseline, LinearFeatures, ValueNetwork, Zero
from surefoot.envs import (
    AbstractProbe,
    ActionReward,
    ConstantReward,
    DelayedReward,
    EndlessReward,
    ObservedAction,
    ObservedReward,
)
from surefoot.policies import GRU, ActorCritic, CategoricalMLP, GaussianMLP
from surefoot.rules import AbstractRule, GradientStep, OptaxStep, PPOClip, TrustRegion
from surefoot.samplers import StreamSampler

KEY = jax.random.key(0)
DISCOUNT = 0.5
ACTIONS = pytest.mark.parametrize("actions", ["discrete", "continuous"])
VALUES = pytest.mark.parametrize(
    "env",
    [ConstantReward(), ObservedReward(), DelayedReward(3), EndlessReward(4)],
    ids=["constant", "observed", "delayed", "endless"],
)
BASELINES: dict[str, AbstractBaseline] = {
    "linear": LinearFeatures(),
    "monte-carlo network": ValueNetwork(hidden=(), lr=0.1, epochs=10),
    "td network": ValueNetwork(hidden=(), lr=0.1, target="td", rounds=2, epochs=5),
    "td network, minibatches": ValueNetwork(hidden=(8,), lr=0.02, target="td", epochs=8, minibatches=2),
}
STILL = SingleTask(rule=GradientStep(lr=0.0))


def build(env: AbstractProbe, policy: Any = None) -> Any:
    """Of the environment's kind, unless told which; random at first, and as symmetric as the probes ask."""
    default = CategoricalMLP if env.actions == "discrete" else GaussianMLP
    options = policy or default(hidden=(), output_scale=0.0)
    return options.build(KEY, env.observation_space, env.action_space)


def observations(env: AbstractProbe) -> Any:
    """All that there are."""
    if isinstance(env, DelayedReward):
        return jnp.eye(env.steps)
    return (
        jnp.array([[1.0], [-1.0]]) if isinstance(env, ObservedReward | ObservedAction) else jnp.ones((1, 1))
    )


def streaming(env: AbstractProbe, **options: Any) -> Setting:
    """64 streams of 5 steps, which end wherever they happen to be."""
    estimation = Estimation(**{"baseline": Zero(), "fit": "previous-batch", "discount": DISCOUNT, **options})
    return Setting.of(StreamSampler(env, streams=64, steps=5), estimation)


def known_values(env: AbstractProbe, random: bool) -> np.ndarray:
    value = env.random_value if random else env.optimal_value
    return np.array([value(observation, DISCOUNT) for observation in observations(env)])


def assert_right(env: AbstractProbe, policy: Any, seen: list[dict[str, float]]) -> None:
    # Each observation is an episode of its own, for a policy that remembers as for one that does not.
    all_of_them = observations(env)
    chosen = policy(all_of_them[:, None]).mode().reshape(len(all_of_them))
    np.testing.assert_array_equal(chosen > 0, all_of_them[:, 0] > 0)
    assert abs(seen[0]["return"]) < 0.5
    assert np.mean([m["return"] for m in seen[-5:]]) > 0.8


@VALUES
@pytest.mark.parametrize("baseline", BASELINES.values(), ids=BASELINES)
def test_baselines_learn_the_known_values(env: AbstractProbe, baseline: AbstractBaseline):
    """From whole episodes, with a policy that stays as it is."""
    setting = setting_of(env, episodes=16, baseline=baseline, fit="previous-batch", discount=DISCOUNT)
    state, _ = train(STILL, setting, build(env), iterations=30)
    times = jnp.arange(3.0) if isinstance(env, DelayedReward) else jnp.zeros(len(observations(env)))
    values = baseline.values(state.baselines[0], observations(env), times)
    np.testing.assert_allclose(values, known_values(env, random=True), atol=0.1)


@VALUES
@pytest.mark.parametrize("name", ["monte-carlo network", "td network"])
def test_baselines_learn_the_known_values_from_streams(env: AbstractProbe, name: str):
    """Rows end in the middle of episodes, and episodes in the middle of rows."""
    setting = streaming(env, baseline=BASELINES[name])
    state, _ = train(STILL, setting, build(env), iterations=30)
    values = BASELINES[name].values(state.baselines[0], observations(env), jnp.zeros(len(observations(env))))
    np.testing.assert_allclose(values, known_values(env, random=True), atol=0.1)


@pytest.mark.parametrize(
    ("env", "credit"),
    [
        (ConstantReward(), "gae"),
        (ObservedReward(), "k-step"),
        (DelayedReward(3), "gae"),
        (EndlessReward(4), "k-step"),
        (ObservedAction(), "gae"),
    ],
    ids=["constant", "observed", "delayed", "endless", "observed action"],
)
def test_an_actor_critic_learns_the_known_values(env: AbstractProbe, credit: Any):
    """Advantage actor-critic, from streams: those of the best policy, once it is found."""
    setting = streaming(env, credit=credit, gae_lambda=0.9, k=2)
    algorithm = SingleTask(rule=OptaxStep(lr=0.03), value_coefficient=1.0)
    state, seen = train(algorithm, setting, build(env, ActorCritic(hidden=(8,))), iterations=100)
    values = state.policy.values(observations(env))
    np.testing.assert_allclose(values, known_values(env, random=False), atol=0.1)
    if isinstance(env, ObservedAction):
        assert_right(env, state.policy, seen)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_every_rule_finds_the_right_action(rule: AbstractRule):
    """Discrete here; `test_single_task` has them all find a continuous one."""
    env = ObservedAction()
    setting = setting_of(env, episodes=64)
    state, seen = train(SingleTask(rule=rule), setting, build(env), iterations=50)
    assert_right(env, state.policy, seen)


@ACTIONS
def test_an_action_that_is_always_right_is_found(actions: Any):
    env = ActionReward(actions)
    setting = setting_of(env, episodes=64, baseline=LinearFeatures(), fit="cross-fit")
    state, seen = train(SingleTask(), setting, build(env), iterations=25)
    assert_right(env, state.policy, seen)


@pytest.mark.parametrize(
    ("rule", "policy"),
    [
        (TrustRegion(max_kl=0.05), GRU(units=4)),
        (PPOClip(lr=0.03), GRU(units=4)),
        (PPOClip(lr=0.03), ActorCritic(hidden=(8,))),
    ],
    ids=["gru by trpo", "gru by ppo", "actor-critic by ppo"],
)
def test_policies_of_every_kind_find_the_right_action_in_streams(rule: AbstractRule, policy: Any):
    env = ObservedAction()
    setting = streaming(env, baseline=BASELINES["monte-carlo network"], gae_lambda=0.95)
    state, seen = train(SingleTask(rule=rule), setting, build(env, policy), iterations=25)
    assert_right(env, state.policy, seen)


@pytest.mark.parametrize(
    ("baseline", "actions"),
    [("none", "discrete"), ("optimal", "continuous"), ("leave-one-out", "discrete")],
)
def test_reinforce_finds_the_right_action(baseline: Any, actions: Any):
    env = ObservedAction(actions)
    setting = setting_of(env, episodes=64, credit="whole-return", normalise=False)
    algorithm = Reinforce(step=OptaxStep(lr=0.1), baseline=baseline)
    state, seen = train(algorithm, setting, build(env), iterations=50)
    assert_right(env, state.policy, seen)


@pytest.mark.parametrize(
    ("weighting", "actions"),
    [("trajectory", "discrete"), ("per-decision", "continuous"), ("marginal", "discrete")],
)
def test_off_policy_reinforce_finds_the_right_action(weighting: Any, actions: Any):
    env = ObservedAction(actions)
    setting = setting_of(env, episodes=64, normalise=False)
    algorithm: AbstractAlgorithm = OffPolicyReinforce(
        OptaxStep(lr=0.05), gradient_steps=4, weighting=weighting, clip=2.0
    )
    state, seen = train(algorithm, setting, build(env), iterations=30)
    assert_right(env, state.policy, seen)
