from dataclasses import dataclass, replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float

from support.dense import gradient_of
from surefoot.options import UserError
from surefoot.policies import (
    AbstractActorCritic,
    AbstractAuxiliary,
    ActorCritic,
    NoAuxiliary,
    PredictNextObservation,
    PredictReward,
)
from surefoot.theory.averages import valid_mean
from surefoot.theory.objectives import ActorCriticObjective, PolicyObjective, surrogate
from surefoot.types import Batch, Continuous, Discrete, ObservationSpace, Transitions

SPACES = pytest.mark.parametrize("space", [Discrete(3), Continuous(2)], ids=["discrete", "continuous"])
INF = float("inf")
OBSERVATIONS = jax.random.normal(jax.random.key(5), (2, 4, 2))
VALID = jnp.array([[True, True, True, True], [True, True, False, False]])


def build(space: Any = Discrete(3), **options: Any) -> Any:  # noqa: B008
    chosen = ActorCritic(**{"hidden": (5, 4), "output_scale": 1.0, **options})
    return chosen.build(jax.random.key(0), 2, space)


def outputs_of(policy: Any, actions: Array, observations: Array = OBSERVATIONS) -> Any:
    return _outputs(policy, observations, actions)


_outputs = eqx.filter_jit(lambda policy, observations, actions: policy.outputs(observations, actions))


@eqx.filter_jit
def batch_of(policy: Any) -> Batch:
    distribution = policy(OBSERVATIONS)
    actions = distribution.sample(jax.random.key(7))
    known = Transitions(
        *jax.random.normal(jax.random.key(8), (4, 2, 4)), jax.random.normal(jax.random.key(9), (2, 4, 2))
    )
    advantages = jax.random.normal(jax.random.key(10), (2, 4))
    return Batch(OBSERVATIONS, actions, distribution.log_prob(actions), advantages, VALID, transitions=known)


def features_of(policy: Any) -> Array:
    """By hand: every layer of the torso has its activation, the last one too."""
    x = OBSERVATIONS
    for weight, bias in zip(policy.torso.weights, policy.torso.biases, strict=True):
        x = jnp.tanh(x @ weight + bias)
    return x


@SPACES
@pytest.mark.parametrize("auxiliary", [NoAuxiliary(), PredictReward()], ids=["alone", "with auxiliary"])
def test_everything_at_once_is_what_each_part_says(space: Any, auxiliary: AbstractAuxiliary):
    policy = build(space, auxiliary=auxiliary)
    batch = batch_of(policy)
    outputs = outputs_of(policy, batch.actions)
    distribution, values = eqx.filter_jit(lambda p: (p(OBSERVATIONS), p.values(OBSERVATIONS)))(policy)
    for got, expected in zip(
        jax.tree.leaves(outputs.distribution), jax.tree.leaves(distribution), strict=True
    ):
        np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(outputs.values, values)
    assert outputs.values.shape == (2, 4)
    assert isinstance(policy, AbstractActorCritic)
    assert (policy.auxiliary is None) == (outputs.auxiliary is None) == isinstance(auxiliary, NoAuxiliary)


def test_actions_and_values_are_linear_in_shared_features():
    policy = build()
    features = features_of(policy)
    assert features.shape == (2, 4, 4)
    logits = features @ policy.actor.network.weights[0] + policy.actor.network.biases[0]
    values = features @ policy.critic.weights[0] + policy.critic.biases[0]
    np.testing.assert_allclose(policy(OBSERVATIONS).logits, logits, atol=1e-6)
    np.testing.assert_allclose(policy.values(OBSERVATIONS), values[..., 0], atol=1e-6)


@pytest.mark.parametrize("batch", [(), (3,), (2, 4)])
def test_predictions_have_the_shape_of_the_batch(batch: tuple[int, ...]):
    policy = build(Continuous(2), auxiliary=PredictNextObservation())
    observations, actions = jnp.ones((*batch, 2)), jnp.ones((*batch, 2))
    outputs = policy.outputs(observations, actions)
    assert policy.values(observations).shape == outputs.values.shape == batch
    assert outputs.distribution.mean.shape == outputs.auxiliary.shape == (*batch, 2)


@SPACES
def test_predicting_the_reward_by_hand(space: Any):
    policy = build(space, auxiliary=PredictReward(weight=0.3))
    batch = batch_of(policy)
    actions = jax.nn.one_hot(batch.actions, 3) if isinstance(space, Discrete) else batch.actions
    inputs = np.concatenate([features_of(policy), actions], axis=-1)
    predicted = inputs @ policy.predictor.weights[0] + policy.predictor.biases[0]
    assert predicted.shape == (2, 4, 1)
    prediction = outputs_of(policy, batch.actions).auxiliary
    np.testing.assert_allclose(prediction, predicted, atol=1e-6)
    errors = (predicted[..., 0] - np.asarray(batch.transitions.rewards))[np.asarray(VALID)]
    np.testing.assert_allclose(policy.auxiliary(prediction, batch), 0.3 * (errors**2).mean() / 2, rtol=1e-5)


@SPACES
def test_predicting_the_next_observation_by_hand(space: Any):
    policy = build(space, auxiliary=PredictNextObservation(weight=0.5))
    batch = batch_of(policy)
    goes_on = VALID.at[0, 1].set(False)
    batch = eqx.tree_at(lambda b: b.transitions.discounts, batch, jnp.where(goes_on, 0.9, 0.0))
    prediction = outputs_of(policy, batch.actions).auxiliary
    assert prediction.shape == (2, 4, 2)
    errors = np.asarray(prediction - batch.transitions.next_observations)[np.asarray(VALID & goes_on)]
    np.testing.assert_allclose(policy.auxiliary(prediction, batch), 0.5 * (errors**2).mean() / 2, rtol=1e-5)


@SPACES
@pytest.mark.parametrize("kind", [PredictReward, PredictNextObservation])
def test_the_prediction_depends_on_the_action(space: Any, kind: Any):
    policy = build(space, auxiliary=kind())
    batch = batch_of(policy)
    other = 2 - batch.actions if isinstance(space, Discrete) else batch.actions + 1.0
    before, after = (outputs_of(policy, actions) for actions in (batch.actions, other))
    moved = jnp.abs(after.auxiliary - before.auxiliary).max(axis=-1)
    np.testing.assert_array_equal(moved > 0.01, jnp.any(jnp.atleast_3d(other != batch.actions), axis=-1))
    np.testing.assert_array_equal(after.values, before.values)


@pytest.mark.parametrize("kind", [PredictReward, PredictNextObservation])
def test_auxiliary_losses_see_no_padding(kind: Any):
    policy = build(auxiliary=kind())
    batch = batch_of(policy)
    known = batch.transitions
    soiled = replace(
        known,
        rewards=jnp.where(VALID, known.rewards, jnp.nan),
        next_observations=jnp.where(VALID[..., None], known.next_observations, jnp.nan),
    )
    prediction = outputs_of(policy, batch.actions).auxiliary
    clean = policy.auxiliary(prediction, batch)
    np.testing.assert_array_equal(policy.auxiliary(prediction, replace(batch, transitions=soiled)), clean)


@dataclass(frozen=True)
class PredictDistance(AbstractAuxiliary):
    """A user's own: two numbers for the first two elements of the observation, in absolute terms."""

    scale: float = 2.0

    def size(self, observation_space: ObservationSpace) -> int:
        assert observation_space == 2
        return 2

    def loss(self, prediction: Float[Array, "*axes size"], batch: Batch) -> Float[Array, ""]:
        return self.scale * valid_mean(jnp.abs(prediction - batch.observations).sum(axis=-1), batch.valid)


def test_a_loss_of_ones_own_shapes_the_shared_features():
    policy = build(auxiliary=PredictDistance())
    batch = batch_of(policy)
    prediction = outputs_of(policy, batch.actions).auxiliary
    distances = np.abs(np.asarray(prediction - OBSERVATIONS)).sum(-1)[np.asarray(VALID)]
    np.testing.assert_allclose(policy.auxiliary(prediction, batch), 2 * distances.mean(), rtol=1e-5)
    still = replace(batch, advantages=jnp.zeros((2, 4)))
    alone = ActorCriticObjective(PolicyObjective(surrogate), 0.0, policy.auxiliary)
    loss, gradient = gradient_of(alone, policy, still)
    np.testing.assert_allclose(loss, 2 * distances.mean(), rtol=1e-5)
    for part in (gradient.torso, gradient.predictor):
        assert all(jnp.abs(weight).max() > 0 for weight in part.weights)
    assert jnp.abs(gradient.critic.weights[0]).max() == 0.0
    without = gradient_of(ActorCriticObjective(PolicyObjective(surrogate), 0.0), policy, still)[1]
    assert all(jnp.abs(leaf).max() == 0.0 for leaf in jax.tree.leaves(without))


def test_policy_and_values_are_learned_on_one_torso():
    """The value's loss moves the torso, and so does the policy's."""
    policy = build()
    batch = batch_of(policy)
    objective = ActorCriticObjective(PolicyObjective(surrogate), 0.5)
    of_policy = gradient_of(objective, policy, replace(batch, transitions=perfect(policy, batch)))[1]
    of_values = gradient_of(objective, policy, replace(batch, advantages=jnp.zeros((2, 4))))[1]
    for gradient in (of_policy, of_values):
        assert all(jnp.abs(weight).max() > 1e-4 for weight in gradient.torso.weights)
    assert jnp.abs(of_policy.critic.weights[0]).max() < 1e-6
    assert jnp.abs(of_values.actor.network.weights[0]).max() == 0.0


def perfect(policy: Any, batch: Batch) -> Transitions:
    """Returns that the values foretell."""
    return eqx.tree_at(lambda t: t.returns, batch.transitions, policy.values(OBSERVATIONS))


def test_it_starts_near_a_uniform_policy_with_values_that_differ():
    policy = build(output_scale=0.0)
    np.testing.assert_allclose(policy(OBSERVATIONS).entropy(), np.log(3), rtol=1e-5)
    assert policy.values(OBSERVATIONS).std() > 0.01


@pytest.mark.parametrize(
    ("kind", "options", "says"),
    [
        (ActorCritic, {"hidden": ()}, r"hidden is \(\); it must be one layer or more"),
        (ActorCritic, {"hidden": (0, 3)}, r"hidden is \(0, 3\); it must be layer sizes of 1 or more"),
        (ActorCritic, {"hidden": (64, 0)}, r"hidden is \(64, 0\)"),
        (ActorCritic, {"initial_std": INF}, "initial-std is inf; it must be above min-std, and finite"),
        (ActorCritic, {"output_scale": INF}, "output-scale is inf; it must be 0 or more, and finite"),
        (PredictReward, {"weight": INF}, "weight is inf"),
        (PredictNextObservation, {"weight": INF}, "weight is inf"),
        (ActorCritic, {"output_scale": -1.0}, "output-scale is -1.0; it must be 0 or more"),
        (ActorCritic, {"initial_std": 0.0}, "initial-std is 0.0; it must be above min-std"),
        (PredictReward, {"weight": -1.0}, "weight is -1.0; it must be 0 or more"),
        (PredictNextObservation, {"weight": -1.0}, "weight is -1.0; it must be 0 or more"),
    ],
)
def test_wrong_options_are_refused_with_what_they_must_be(kind: Any, options: dict, says: str):
    with pytest.raises(UserError, match=says):
        kind(**options)
