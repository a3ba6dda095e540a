import inspect
from concurrent.futures import Future
from dataclasses import dataclass, replace
from itertools import count

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest

from support.probes import Clock
from support.wrappers import WrappedFamily, WrappedSampler
from surefoot import samplers
from surefoot.checks import check_sampler
from surefoot.checks.problem import checks_of, collect
from surefoot.checks.sampler import SamplerChecks
from surefoot.envs import Navigation2D
from surefoot.policies import GRU

EXPORTED = [
    x
    for x in vars(samplers).values()
    if inspect.isclass(x) and issubclass(x, samplers.AbstractSampler) and not inspect.isabstract(x)
]
ZOO = []
INNER = samplers.ScanSampler(Navigation2D(horizon=3), 2)
SAMPLE = eqx.filter_jit(INNER.sample)


def broken(check, phrase):
    def register(sampler):
        ZOO.append(pytest.param(sampler, check, phrase, id=sampler.__name__))
        return sampler

    return register


@dataclass(frozen=True)
class Sound:
    """A subclass of nothing."""

    env = INNER.env
    episodes = INNER.episodes

    def submit(self, policy, task, key):
        return INNER.submit(policy, task, key)

    def sample(self, policies, tasks, key, first=0):
        return self.changed(SAMPLE(policies, tasks, key, first))

    def start(self, policy, task, key):
        return jnp.zeros((), jnp.int32)

    def collect(self, policy, task, where, key):
        return where + 1, INNER.submit(policy, task, key).result()

    def changed(self, rollout):
        return rollout


def changed(**changes):
    """What `sample` gives, some of its fields changed."""

    def change(self, rollout):
        for name, function in changes.items():
            rollout = eqx.tree_at(lambda r, n=name: getattr(r, n), rollout, replace_fn=function)
        return rollout

    return change


@broken("attributes", "`episodes` is 0")
class NoEpisodes(Sound):
    episodes = 0


@broken("attributes", "`submit` is missing")
class NoSubmit(Sound):
    submit = None


@broken("sample has the axes", "`terminated` as float32[3,2,3]; it must be bool[3,2,3]")
class FloatFlags(Sound):
    changed = changed(terminated=lambda x: x.astype(jnp.float32))


@broken("sample has the axes", "`sample` returns a Python tuple, which has no `observations`")
class ReturnsATuple(Sound):
    def changed(self, rollout):
        return (rollout.observations, rollout.actions)


@broken("episodes end once", "`valid` is not a run of True")
class ValidHasAHole(Sound):
    changed = changed(valid=lambda x: x.at[..., 1].set(False))


@broken("episodes end once", "A step is both terminated and truncated")
class BothAtOnce(Sound):
    changed = changed(terminated=lambda x: x.at[..., -1].set(True))


@broken("episodes end once", "is not set at each episode's last valid step")
class NeverTruncated(Sound):
    changed = changed(truncated=lambda x: x & False)


@broken("episodes end once", "An episode is truncated before the horizon")
class CutShort(Sound):
    changed = changed(
        terminated=lambda x: x & False,
        valid=lambda x: x.at[..., :2].set(True).at[..., -1].set(False),
        truncated=lambda x: x.at[..., -2].set(True).at[..., -1].set(False),
    )


@broken("log probs are those of the actions", "`log_probs` are not those of `actions`")
class ClipsTheActions(Sound):
    changed = changed(actions=lambda x: jnp.clip(x, -0.1, 0.1))


@broken("sample follows the key", "`sample` gives different rollouts for the same arguments")
class CountsCalls(Sound):
    calls = count()

    def sample(self, policies, tasks, key, first=0):
        return SAMPLE(policies, tasks, jax.random.fold_in(key, next(self.calls)))


@broken("sample follows the key", "`sample` gives the same actions for different keys")
class IgnoresTheKey(Sound):
    def sample(self, policies, tasks, key, first=0):
        return SAMPLE(policies, tasks, jax.random.key(0))


@broken("episodes differ", "Two episodes get the same action noise")
class SameEpisodes(Sound):
    changed = changed(actions=lambda x: jnp.broadcast_to(x[:, :1], x.shape))


@broken("episodes differ", "Two tasks get the same action noise")
class SameTasks(Sound):
    changed = changed(actions=lambda x: jnp.broadcast_to(x[:1], x.shape))


@broken("tasks do not depend on each other", "depend on how many others are sampled with them")
class SplitsTheKey(Sound):
    def sample(self, policies, tasks, key, first=0):
        return SAMPLE(policies, tasks, jax.random.fold_in(key, tasks.shape[0]))


@broken("tasks have their numbers", "does not take the number of its first task into account")
class CountsTasksFromZero(Sound):
    def sample(self, policies, tasks, key, first=0):
        return SAMPLE(policies, tasks, key)


@broken("submit agrees with sample", "differs from row 0 of `sample`")
class SubmitsAnotherKey(Sound):
    def submit(self, policy, task, key):
        return INNER.submit(policy, task, jax.random.fold_in(key, 1))


@broken("submit agrees with sample", "`submit` returns a Rollout, not a concurrent.futures.Future")
class ReturnsARollout(Sound):
    def submit(self, policy, task, key):
        return INNER.submit(policy, task, key).result()


@broken("submit agrees with sample", "`submit` raised TimeoutError")
class Hangs(Sound):
    def submit(self, policy, task, key):
        return Future()


@broken("collect goes on", "`collect` gives `observations` as float32[1,2,3,2]; it must be float32[2,3,2]")
class CollectsTasks(Sound):
    def collect(self, policy, task, where, key):
        return where, jax.tree.map(lambda x: x[None], Sound.collect(self, policy, task, where, key)[1])


@broken("collect goes on", "`collect` returns a Rollout, not a pair")
class CollectsABatchAlone(Sound):
    def collect(self, policy, task, where, key):
        return Sound.collect(self, policy, task, where, key)[1]


@broken("collect goes on", "`where` changes from int32[] to float32[]")
class WhereChangesDtype(Sound):
    def collect(self, policy, task, where, key):
        return where.astype(float), Sound.collect(self, policy, task, where, key)[1]


@broken("collect goes on", "`collect` gives different batches for the same arguments")
class CountsBatches(Sound):
    calls = count()

    def collect(self, policy, task, where, key):
        return Sound.collect(self, policy, task, where, jax.random.fold_in(key, next(self.calls)))


@broken("final observations are numbers", "there are NaN or infinite values")
class NoFinalObservation(Sound):
    changed = changed(final_observations=lambda x: x * jnp.nan)


@broken("sample has the axes", "gives `final_observations` as")
class KeepsEveryNextObservation(Sound):
    def changed(self, rollout):
        return changed(final_observations=lambda _: rollout.next_observations)(self, rollout)


@broken("times count the steps", "`times` do not count the steps of each episode from 0")
class CountsFromOne(Sound):
    changed = changed(times=lambda x: x + 1)


@broken("times count the steps", "`times` do not count the steps of each episode from 0")
class CountsOnFromEpisodeToEpisode(Sound):
    changed = changed(times=lambda x: x + 3 * jnp.arange(2)[:, None])


@broken("exceptions travel in the future", "An exception in the policy leaves `submit` at once")
class RaisesAtOnce(Sound):
    def submit(self, policy, task, key):
        future = INNER.submit(policy, task, key)
        future.result()
        return future


@broken("exceptions travel in the future", "An exception in the policy does not reach the future")
class SwallowsExceptions(Sound):
    def submit(self, policy, task, key):
        future = Future()
        future.set_result(None)
        return future


MAKERS = {
    "scan": lambda env: samplers.InProcess().of_episodes(env, 2),
    "batched": lambda env: samplers.BatchedSampler(env, 2, threads=1),
    "batched, of a wrapped family": lambda env: samplers.BatchedSampler(WrappedFamily(env), 2, threads=1),
    "processes": lambda env: samplers.Processes(workers=1).of_episodes(env, 2),
    "ray": lambda env: samplers.Ray(workers=1).of_episodes(env, 2),
}


@pytest.mark.filterwarnings("default")  # Ray's own
@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_the_library_keeps_its_own_contract(make):
    sampler = make(Navigation2D(horizon=3))
    try:
        assert check_sampler(sampler) == []
        assert check_sampler(WrappedSampler(sampler)) == []
    finally:
        sampler.close()


def test_every_exported_sampler_is_among_them():
    made = {type(make(Navigation2D(horizon=3))) for make in MAKERS.values()}
    assert made == set(EXPORTED)


def test_padding_may_hold_anything():
    sampler = samplers.ScanSampler(Clock(horizon=4), 8)

    @dataclass(frozen=True)
    class Soiled(samplers.ScanSampler):
        def sample(self, policies, tasks, key, first=0):
            return soil(sampler.sample(policies, tasks, key, first))

        def submit(self, policy, task, key):
            future = Future()
            try:
                future.set_result(soil(sampler.submit(policy, task, key).result()))
            except Exception as error:
                future.set_exception(error)
            return future

    def soil(rollout):
        assert not isinstance(rollout.valid, jax.core.Tracer)
        assert not rollout.valid.all()
        padding = ~rollout.valid
        times = jnp.where(padding, -1, rollout.times)
        observations = jnp.where(padding[..., None], jnp.nan, rollout.observations)
        return replace(rollout, times=times, observations=observations)

    assert check_sampler(Soiled(sampler.env, sampler.episodes)) == []


def test_a_policy_that_remembers_is_sampled_from():
    env = Navigation2D(horizon=3)
    policy = GRU(units=4).build(jax.random.key(0), env.observation_space, env.action_space)
    assert check_sampler(samplers.ScanSampler(env, 2), policy) == []


def test_a_sampler_that_forgets_what_a_policy_remembers_is_found():
    policy = GRU(units=4).build(jax.random.key(0), INNER.env.observation_space, INNER.env.action_space)

    @dataclass(frozen=True)
    class Forgets(Sound):
        """Its log-probabilities are those of first steps."""

        def sample(self, policies, tasks, key, first=0):
            rollout = SAMPLE(policies, tasks, key)
            first = eqx.filter_vmap(
                lambda p, r: p(r.observations[..., None, :]).log_prob(r.actions[..., None, :])
            )
            return replace(rollout, log_probs=first(policies, rollout)[..., 0])

    found = {p.check for p in check_sampler(Forgets(), policy)}
    assert "log probs are those of the actions" in found


def test_a_subclass_of_nothing_is_sound():
    assert check_sampler(Sound()) == []


@pytest.mark.parametrize(("sampler", "check", "phrase"), ZOO)
def test_each_fault_is_found(sampler, check, phrase):
    problems = collect(SamplerChecks(sampler(), None, 0.1), check)
    assert check in {p.check for p in problems if phrase in p.what}


def test_every_check_has_an_example():
    assert set(checks_of(SamplerChecks)) == {case.values[1] for case in ZOO}


def test_all_faults_are_found_at_once():
    class Many(SubmitsAnotherKey):
        changed = changed(actions=lambda x: jnp.clip(x, -0.1, 0.1))

    found = {p.check for p in check_sampler(Many())}
    assert found == {"log probs are those of the actions", "submit agrees with sample"}


def test_in_double_precision_rollouts_may_be_single(x64: None):
    with jax.numpy_dtype_promotion("standard"):  # as users have it
        assert check_sampler(samplers.BatchedSampler(Navigation2D(horizon=3), 2, 1)) == []
