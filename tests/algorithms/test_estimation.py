"""Advantages by hand. Discounts of ½ keep the numbers exact.

The episodes of `ENDED` have rewards 1, 2, 4 and 8: the second stops after two steps in a terminal state, the
first is cut short by the limit.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float

from support.dense import identical
from support.probes import Target, rollout_of
from surefoot.algorithms import Estimation, Estimator, episode_returns
from surefoot.baselines import AbstractBaseline, LinearFeatures, Samples, Zero
from surefoot.options import UserError
from surefoot.theory.advantages import normalise
from surefoot.types import Batch, Key, ObservationSpace, Rollout

REWARDS = [[1.0, 2.0, 4.0], [8.0, 2.0, 0.0]]
ENDED = rollout_of(REWARDS, lengths=[3, 2], terminated=[False, True])


@dataclass(frozen=True)
class Mean(AbstractBaseline):
    """V is the mean of the returns it was fitted to, the same everywhere; after the last step too."""

    def init(self, key: Key, observation_space: ObservationSpace, horizon: int) -> Array:
        return jnp.zeros(())

    def fit(self, parameters: Array, samples: Samples) -> Array:
        valid = samples.valid
        return jnp.sum(jnp.where(valid, samples.returns, 0.0)) / jnp.sum(valid).astype(samples.returns.dtype)

    def values(
        self, parameters: Array, observations: Float[Array, "time obs"], times: Float[Array, " time"]
    ) -> Float[Array, " time"]:
        return jnp.broadcast_to(parameters, times.shape)


@dataclass(frozen=True)
class Place(Mean):
    """V is ten times the observation, plus the time: known without any fit."""

    def values(
        self, parameters: Array, observations: Float[Array, "time obs"], times: Float[Array, " time"]
    ) -> Float[Array, " time"]:
        return 10.0 * observations[:, 0] + times


def estimation(baseline: AbstractBaseline = Zero(), **options: Any) -> Estimation:  # noqa: B008
    return Estimation(baseline, **{"discount": 0.5, "normalise": False, "fit": "same-batch", **options})


def advantages(
    estimate: Estimation, rollout: Rollout, previous: Any = None, limit_ends: bool = True
) -> Array:
    if previous is None:
        _, horizon, size = rollout.observations.shape
        previous = estimate.baseline.init(jax.random.key(0), size, horizon)
    return batch_of(estimate, rollout, previous, limit_ends).advantages


@dataclass(frozen=True)
class Says(Target):
    """An environment that says whether its time limit ends the return."""

    ends: bool = True

    @property
    def time_limit_ends_return(self) -> bool:
        return self.ends


def estimator(estimate: Estimation, limit_ends: bool) -> tuple[Estimator, Any]:
    made = Estimator.of(Says(ends=limit_ends), estimate)
    return made, made.normalisation.init(1)


def batch_of(estimate: Estimation, rollout: Rollout, previous: Any, limit_ends: bool) -> Batch:
    made, scales = estimator(estimate, limit_ends)
    return made.batch(made.prepare(rollout, scales), previous)


def samples_of(estimate: Estimation, rollout: Rollout, previous: Any, limit_ends: bool) -> Samples:
    made, scales = estimator(estimate, limit_ends)
    return made.samples(made.prepare(rollout, scales), previous)


def refit_of(estimate: Estimation, rollout: Rollout) -> Any:
    made, scales = estimator(estimate, True)
    return made.refit(made.prepare(rollout, scales), jnp.zeros(()))


def test_the_scale_of_normalised_advantages_is_kept():
    raw = np.asarray(advantages(estimation(), ENDED))[np.asarray(ENDED.valid)]
    batch = batch_of(estimation(normalise=True), ENDED, None, True)
    np.testing.assert_allclose(batch.advantage_scale, np.full((2, 3), raw.std()), rtol=1e-6)
    assert batch_of(estimation(), ENDED, None, True).advantage_scale is None


def test_without_a_baseline_advantages_are_rewards_to_go():
    expected = [[1 + 0.5 * (2 + 0.5 * 4), 2 + 0.5 * 4, 4], [8 + 0.5 * 2, 2, 0]]
    np.testing.assert_array_equal(advantages(estimation(), ENDED), expected)


@pytest.mark.parametrize("padding", [100.0, float("nan")])
@pytest.mark.parametrize("fit", ["same-batch", "previous-batch", "cross-fit"])
@pytest.mark.parametrize("gae_lambda", [0.5, 1.0])
def test_padding_does_not_leak(fit: str, padding: float, gae_lambda: float):
    estimate = estimation(Mean(), fit=fit, gae_lambda=gae_lambda, normalise=True)
    soiled = rollout_of(REWARDS, lengths=[3, 2], terminated=[False, True], padding=padding)
    previous = jnp.array(3.0)
    np.testing.assert_array_equal(
        advantages(estimate, soiled, previous), advantages(estimate, ENDED, previous)
    )
    np.testing.assert_array_equal(
        np.asarray(samples_of(estimate, soiled, previous, False).returns)[np.asarray(ENDED.valid)],
        np.asarray(samples_of(estimate, ENDED, previous, False).returns)[np.asarray(ENDED.valid)],
    )


@pytest.mark.parametrize(
    ("option", "env_says", "ends"),
    [("env", True, True), ("env", False, False), ("ends", False, True), ("bootstraps", True, False)],
)
def test_the_time_limit_is_the_environments_or_the_users_to_judge(
    option: Literal["env", "ends", "bootstraps"], env_says: bool, ends: bool
):
    # V(s, t) = 10 s + t = 11 t here: 0, 11, 22 on the way, and 33 after the step that was cut short.
    estimate = estimation(Place(), gae_lambda=0.0, fit="previous-batch", time_limit=option)
    got = advantages(estimate, ENDED, jnp.zeros(()), env_says)
    after = 0.0 if ends else 33.0
    first = [1 + 0.5 * 11 - 0, 2 + 0.5 * 22 - 11, 4 + 0.5 * after - 22]
    # The second episode terminated: nothing follows it, whatever the limit means.
    second = [8 + 0.5 * 11 - 0, 2 - 11, 0]
    np.testing.assert_allclose(got, [first, second], rtol=1e-6)


@pytest.mark.parametrize("ends", [True, False])
def test_gae_adds_the_residuals_of_its_own_episode(ends: bool):
    estimate = estimation(Place(), gae_lambda=0.5, fit="previous-batch")
    residuals = np.asarray(
        advantages(estimation(Place(), gae_lambda=0.0, fit="previous-batch"), ENDED, jnp.zeros(()), ends)
    )
    first, second = residuals
    expected = [
        [first[0] + 0.25 * (first[1] + 0.25 * first[2]), first[1] + 0.25 * first[2], first[2]],
        [second[0] + 0.25 * second[1], second[1], 0],
    ]
    np.testing.assert_allclose(advantages(estimate, ENDED, jnp.zeros(()), ends), expected, rtol=1e-6)


# V(s, t) = 10 s + t = 11 t here: 0, 11 and then 22 after the step that was cut short; 0, 11, 22 and then 33.
@pytest.mark.parametrize(
    ("k", "first", "second"),
    [
        (1, 1 + 0.5 * 11, [4 + 0.5 * 11, 8 + 0.5 * 22]),
        (2, 1 + 0.5 * (2 + 0.5 * 22), [4 + 0.5 * (8 + 0.5 * 22), 8 + 0.5 * (16 + 0.5 * 33)]),
        (
            3,
            1 + 0.5 * (2 + 0.5 * 22),
            [4 + 0.5 * (8 + 0.5 * (16 + 0.5 * 33)), 8 + 0.5 * (16 + 0.5 * 33)],
        ),
    ],
)
def test_k_rewards_are_those_of_ones_own_episode(k: int, first: float, second: list[float]):
    """A stream in which one episode is cut short after two steps, and the next goes on after three."""
    row = rollout_of([[1.0, 2.0, 4.0, 8.0, 16.0]], lengths=[5], terminated=[True])
    times = jnp.array([[0, 1, 0, 1, 2]])
    stream = replace(
        row,
        observations=times[..., None].astype(float),
        final_observations=jnp.array([[[2.0], [3.0]]]),
        terminated=jnp.zeros_like(row.terminated),
        truncated=jnp.array([[False, True, False, False, False]]),
        times=times,
    )
    got = advantages(
        estimation(Place(), credit="k-step", k=k, fit="previous-batch"), stream, jnp.zeros(()), False
    )
    expected = [first, 2 + 0.5 * 22 - 11, second[0], second[1] - 11, 16 + 0.5 * 33 - 22]
    np.testing.assert_array_equal(got, [expected])


@pytest.mark.parametrize("ends", [True, False])
def test_the_whole_return_is_less_the_baseline_and_ends_with_the_episode(ends: bool):
    estimate = estimation(Place(), credit="whole-return", fit="previous-batch")
    whole = 1 + 0.5 * (2 + 0.5 * 4)
    expected = [[whole, whole - 11, whole - 22], [9, 9 - 11, 0]]
    np.testing.assert_array_equal(advantages(estimate, ENDED, jnp.zeros(()), ends), expected)


def test_the_targets_of_the_baseline_bootstrap_with_what_it_learned_before():
    targets = samples_of(estimation(Mean(), time_limit="bootstraps"), ENDED, jnp.array(16.0), True).returns
    last = 4 + 0.5 * 16
    expected = [[1 + 0.5 * (2 + 0.5 * last), 2 + 0.5 * last, last], [8 + 0.5 * 2, 2, 0]]
    np.testing.assert_array_equal(targets, expected)
    ended = samples_of(estimation(Mean(), time_limit="ends"), ENDED, jnp.array(16.0), True).returns
    np.testing.assert_array_equal(ended, [[3, 4, 4], [9, 2, 0]])


# Returns-to-go 3, 4, 4 and 9, 2: their mean is 22/5, that of each episode 11/3 and 11/2.
@pytest.mark.parametrize(
    ("fit", "first", "second"),
    [("same-batch", 4.4, 4.4), ("cross-fit", 5.5, 11 / 3), ("previous-batch", 7.0, 7.0)],
)
def test_each_fit_judges_by_its_own_value(fit: Any, first: float, second: float):
    got = advantages(estimation(Mean(), fit=fit), ENDED, jnp.array(7.0))
    expected = [[3 - first, 4 - first, 4 - first], [9 - second, 2 - second, 0]]
    np.testing.assert_allclose(got, expected, rtol=1e-5)


@pytest.mark.parametrize("ends", [True, False])
@pytest.mark.parametrize(
    ("fit", "first", "second"),
    [("same-batch", 4.4, 4.4), ("cross-fit", 5.5, 11 / 3), ("previous-batch", 7.0, 7.0)],
)
def test_a_truncated_episode_bootstraps_with_the_fit_that_judges_it(
    fit: Any, first: float, second: float, ends: bool
):
    # Where the limit is no end, the targets are bootstrapped with the previous fit, here zero: the same as
    # those above. The advantages then use the value of the fit that judges.
    previous = jnp.zeros(())
    if fit == "previous-batch":
        first = second = 0.0
    got = advantages(estimation(Mean(), fit=fit), ENDED, previous, ends)
    last = 4 + (0 if ends else 0.5 * first)
    returns = [1 + 0.5 * (2 + 0.5 * last), 2 + 0.5 * last, last]
    expected = [[g - first for g in returns], [9 - second, 2 - second, 0]]
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_cross_fitting_judges_no_episode_by_its_own_return():
    key = jax.random.key(0)
    rewards = jax.random.normal(key, (5, 4))
    rollout = rollout_of(rewards.tolist(), lengths=[4] * 5, terminated=[True] * 5)
    estimate = estimation(Mean(), fit="cross-fit", discount=1.0)

    def judged_by(rollout: Rollout) -> Array:
        returns = samples_of(estimate, rollout, jnp.zeros(()), True).returns
        return returns - advantages(estimate, rollout)

    values = judged_by(rollout)
    for episode in (0, 4):
        changed = rollout_of(rewards.at[episode].add(10.0).tolist(), lengths=[4] * 5, terminated=[True] * 5)
        difference = np.abs(judged_by(changed) - values)
        half = [0, 1] if episode < 2 else [2, 3, 4]
        other = [e for e in range(5) if e not in half]
        np.testing.assert_allclose(difference[half], 0, atol=1e-5)
        assert difference[other].min() > 1.0


def test_a_fit_to_the_episodes_it_judges_shrinks_their_advantages_and_a_cross_fit_does_not():
    """One-step episodes at random places with rewards of pure noise, N(0, 1): nothing can be predicted, so
    unbiased advantages have a mean square of 1 and more. A fit of 12 features to 20 episodes takes out a good
    part of the noise that it is meant to measure against."""
    noise_key, place_key = jax.random.split(jax.random.key(0))
    rewards = jax.random.normal(noise_key, (20, 1))
    rollout = rollout_of(rewards.tolist(), lengths=[1] * 20, terminated=[True] * 20)
    places = jax.random.normal(place_key, (20, 1, 4))
    rollout = replace(rollout, observations=places, final_observations=places)
    square = float(jnp.mean(rewards**2))
    before, cross = (
        eqx.filter_jit(advantages)(estimation(LinearFeatures(), fit=fit), rollout)
        for fit in ("same-batch", "cross-fit")
    )
    assert jnp.mean(before**2) < 0.8 * square
    assert jnp.mean(cross**2) > square


def test_advantages_are_normalised_over_valid_steps_if_asked():
    plain = advantages(estimation(Mean()), ENDED)
    got = advantages(estimation(Mean(), normalise=True), ENDED)
    np.testing.assert_allclose(got, normalise(plain, ENDED.valid), atol=1e-6)
    valid = np.asarray(got)[np.asarray(ENDED.valid)]
    np.testing.assert_allclose([valid.mean(), valid.std()], [0, 1], atol=1e-6)
    assert plain.std() > 2


def test_the_batch_keeps_what_was_sampled():
    batch = batch_of(estimation(), ENDED, None, True)
    np.testing.assert_array_equal(batch.observations, ENDED.observations)
    np.testing.assert_array_equal(batch.actions, ENDED.actions)
    np.testing.assert_array_equal(batch.log_probs, ENDED.log_probs)
    np.testing.assert_array_equal(batch.valid, ENDED.valid)


def test_nothing_that_stood_in_padding_reaches_the_batch():
    soiled = rollout_of(REWARDS, lengths=[3, 2], terminated=[False, True], padding=float("nan"))
    assert identical(batch_of(estimation(), soiled, None, True), batch_of(estimation(), ENDED, None, True))


def test_refitting_takes_the_episodes_of_all_tasks():
    other = rollout_of([[6.0, 0.0, 0.0], [2.0, 0.0, 0.0]], lengths=[1, 1], terminated=[True, True])
    both = jax.tree.map(lambda a, b: jnp.stack([a, b]), ENDED, other)
    fitted = refit_of(estimation(Mean()), both)
    np.testing.assert_allclose(fitted, (22 + 6 + 2) / 7, rtol=1e-6)


def test_episode_returns_are_undiscounted_and_without_padding():
    soiled = rollout_of(REWARDS, lengths=[3, 2], terminated=[False, True], padding=float("nan"))
    np.testing.assert_array_equal(episode_returns(soiled), [7.0, 10.0])


def test_cross_fitting_needs_two_episodes():
    with pytest.raises(UserError, match=r"--estimation\.fit same-batch"):
        Estimation(fit="cross-fit").validate(1)
    Estimation(fit="cross-fit").validate(2)
    Estimation(fit="same-batch").validate(1)


@pytest.mark.parametrize("options", [{"discount": 1.1}, {"gae_lambda": -0.1}])
def test_wrong_options_are_refused(options: dict):
    with pytest.raises(UserError, match="must be between 0 and 1"):
        Estimation(**options)


def test_a_whole_return_ends_where_an_episode_is_cut_and_other_returns_go_on():
    """The baseline of a whole return knows the whole, which is no value of what follows."""
    whole = samples_of(estimation(Place(), credit="whole-return"), ENDED, jnp.zeros(()), False)
    np.testing.assert_allclose(whole.returns, [[3.0, 3.0, 3.0], [9.0, 9.0, 0.0]])
    made, scales = estimator(estimation(Place()), False)
    goes_on = made.returns(made.prepare(ENDED, scales), jnp.zeros(()))
    after = 10 * float(ENDED.final_observations[0, 0, 0]) + 3
    np.testing.assert_allclose(goes_on, [3.0 + after / 8, 9.0])
    ends, scales = estimator(estimation(Place()), True)
    np.testing.assert_allclose(ends.returns(ends.prepare(ENDED, scales), jnp.zeros(())), [3.0, 9.0])
