"""Parts that do not fit one another: a run that cannot be is refused before there is a folder for it."""

import sys
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from support.probes import Clock, Target
from surefoot.algorithms import MAML, Estimation, OffPolicyReinforce, Reinforce, SingleTask
from surefoot.baselines import ValueNetwork, Zero
from surefoot.envs import ActionReward, Gymnax
from surefoot.experiment import Config, Evaluation, train
from surefoot.experiment.learner import Learner, compiled_initial_state
from surefoot.experiment.many import train_seeds
from surefoot.experiment.memory import check_memory
from surefoot.experiment.presets import preset, with_options
from surefoot.options import UserError
from surefoot.policies import GRU, ActorCritic, CategoricalMLP, GaussianMLP
from surefoot.rules import (
    GradientStep,
    OptaxStep,
    PPOClip,
    PPOPenalty,
    TrustRegion,
    TrustRegionPenalty,
)

STREAMS = {"streams": 2, "steps": 4}
WHOLE = Estimation(Zero(), fit="same-batch", credit="whole-return", normalise=False)
PLAIN = Estimation(Zero(), fit="same-batch", normalise=False)


def config(**changes: Any) -> Config:
    """Four episodes of one step, and so four samples a batch."""
    base = Config(
        env=Target(),
        policy=GaussianMLP(hidden=()),
        algorithm=SingleTask(rule=GradientStep()),
        estimation=Estimation(Zero(), fit="same-batch"),
        episodes=4,
        iterations=1,
    )
    return replace(base, **changes)


def single(rule: Any) -> dict[str, Any]:
    return {"algorithm": SingleTask(rule=rule)}


CASES: dict[str, tuple[dict[str, Any], str]] = {
    "continuous actions, categorical policy": (
        {"policy": CategoricalMLP()},
        "discrete actions, and this environment's are continuous; use --policy gaussian-mlp",
    ),
    "discrete actions, Gaussian policy": (
        {"env": ActionReward()},
        "continuous actions, and this environment's are discrete; use --policy categorical-mlp",
    ),
    "more minibatches than steps": (
        single(PPOClip(minibatches=5)),
        r"A batch of 4 .* cannot be divided into 5 minibatches; lower --rule.minibatches",
    ),
    "more minibatches than steps, by penalty": (
        single(PPOPenalty(minibatches=5)),
        "cannot be divided into 5 minibatches",
    ),
    "more minibatches than steps of streams": (
        {**single(PPOClip(minibatches=9)), **STREAMS},
        "A batch of 8 .* cannot be divided into 9",
    ),
    "a line search on the pseudo-loss": (
        {"algorithm": SingleTask(rule=TrustRegion(), loss="reinforce")},
        "the pseudo-loss `reinforce` means nothing; use --loss surrogate",
    ),
    "a line search with a price on the pseudo-loss": (
        {"algorithm": SingleTask(rule=TrustRegionPenalty(), loss="reinforce")},
        "use --loss surrogate",
    ),
    "many steps on the pseudo-loss": (
        {"algorithm": SingleTask(rule=PPOPenalty(minibatches=2), loss="reinforce")},
        "use --loss surrogate",
    ),
    "a clipped pseudo-loss": (
        {"algorithm": SingleTask(rule=PPOClip(minibatches=2), loss="reinforce")},
        "use --loss surrogate",
    ),
    "adaptation by a line search on the pseudo-loss": (
        {"algorithm": MAML(inner=TrustRegion(), tasks=2)},
        "use --inner-loss surrogate",
    ),
    "more minibatches than tasks": (
        {"algorithm": MAML(outer=PPOClip(minibatches=4), tasks=3, inner_loss="surrogate")},
        "A batch of 3 .*--outer.minibatches",
    ),
    "more minibatches than samples of a value network": (
        {"estimation": Estimation(ValueNetwork(minibatches=5), fit="previous-batch")},
        "cannot divide the 4 samples of an iteration into 5 minibatches; lower --estimation.baseline",
    ),
    "a recurrent policy, more minibatches than episodes": (
        {"env": Clock(horizon=8), "policy": GRU(units=2), **single(PPOClip(minibatches=5))},
        r"A batch of 4 \(tasks, steps or episodes\) cannot be divided into 5",
    ),
    "a recurrent policy, more minibatches than streams": (
        {"policy": GRU(units=2), **single(PPOClip(minibatches=4)), **STREAMS},
        "A batch of 2 .* cannot be divided into 4",
    ),
    "adaptation from streams": (
        {"algorithm": MAML(tasks=2), **STREAMS},
        "Adaptation is learned from whole episodes; set --streams 0",
    ),
    "adaptation of an actor-critic": (
        {"algorithm": MAML(tasks=2), "policy": ActorCritic(hidden=(2,))},
        "would not train an actor-critic's values; use another policy",
    ),
    "REINFORCE from streams": (
        {"algorithm": Reinforce(), "estimation": PLAIN, **STREAMS},
        "set --streams 0 and --estimation.credit whole-return",
    ),
    "REINFORCE with rewards-to-go": (
        {"algorithm": Reinforce(), "estimation": PLAIN},
        "--estimation.credit whole-return, or use --algorithm single-task",
    ),
    "REINFORCE with an actor-critic": (
        {"algorithm": Reinforce(), "estimation": WHOLE, "policy": ActorCritic(hidden=(2,))},
        "trains no values",
    ),
    "importance weights of streams": (
        {"algorithm": OffPolicyReinforce(), "estimation": PLAIN, **STREAMS},
        "whole episodes; set --streams 0",
    ),
    "per-decision weights and normalised advantages": (
        {"algorithm": OffPolicyReinforce()},
        "lie on the rewards themselves; set --estimation.no-normalise",
    ),
    "per-decision weights and the whole return": (
        {"algorithm": OffPolicyReinforce(), "estimation": WHOLE},
        "--estimation.credit gae",
    ),
    "off-policy REINFORCE with an actor-critic": (
        {"algorithm": OffPolicyReinforce(), "estimation": PLAIN, "policy": ActorCritic(hidden=(2,))},
        "trains no values",
    ),
    "off-policy REINFORCE by clipping": (
        {"algorithm": OffPolicyReinforce(PPOClip(minibatches=1)), "estimation": PLAIN},
        "PPOClip compares losses",
    ),
    "off-policy REINFORCE by a line search": (
        {"algorithm": OffPolicyReinforce(TrustRegion()), "estimation": PLAIN},
        "TrustRegion.* compares losses",
    ),
    "off-policy REINFORCE by a line search with a price": (
        {"algorithm": OffPolicyReinforce(TrustRegionPenalty()), "estimation": PLAIN},
        "TrustRegion.* compares losses",
    ),
    "an unknown environment of gymnax": (
        {"env": Gymnax("CartPole-v2")},
        "gymnax has no environment 'CartPole-v2'. Did you mean 'CartPole-v1'",
    ),
}


@pytest.mark.parametrize("case", list(CASES))
@pytest.mark.parametrize("seeds", [1, 2])
def test_what_does_not_fit_together_is_refused_before_anything_runs(
    case: str, seeds: int, tmp_path: Path
) -> None:
    changes, message = CASES[case]
    wrong, out = config(**changes), tmp_path / "run"
    with pytest.raises(UserError, match=message):
        train(wrong, out) if seeds == 1 else train_seeds(wrong, seeds, out)
    assert not out.exists()


@pytest.mark.parametrize("streams", [0, 2])
def test_the_same_parts_where_they_fit(streams: int) -> None:
    """A batch has room for as many minibatches as it has samples."""
    samples = 2 * 4 if streams else 4
    fits = config(**single(PPOClip(minibatches=samples)), streams=streams, steps=4)
    with closing(Learner(fits)) as learner:
        learner.lower(compiled_initial_state(fits))


def test_whole_returns_of_streams_are_refused_with_the_configuration() -> None:
    with pytest.raises(UserError, match=r"not known where streams are cut; set --streams 0"):
        config(estimation=WHOLE, **STREAMS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"streams": -1}, "streams is -1"),
        ({"steps": 0}, "steps is 0"),
        ({"episodes": 0, **STREAMS}, "episodes is 0; it must be 1 or more"),
    ],
)
def test_numbers_out_of_range(changes: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        config(**changes)


def test_tasks_that_no_machine_holds_are_refused() -> None:
    large = with_options(preset("tabular-mdp/trpo"), {"env.states": 3_000_000, "episodes": 2})
    with pytest.raises(UserError, match=r"parameters of the tasks would need at least .* Lower the"):
        check_memory(replace(large, estimation=PLAIN))


def test_one_stream_cannot_be_cross_fitted_unless_the_policy_predicts_values(tmp_path: Path) -> None:
    one = config(estimation=Estimation(Zero()), streams=1)
    with pytest.raises(UserError, match="needs 2 episodes or more"):
        train(one, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    critic = replace(one, policy=ActorCritic(), algorithm=SingleTask(GradientStep()))
    Learner(critic).lower(Learner(critic).init())
    with pytest.raises(UserError, match="needs 2 episodes or more"):
        config(algorithm=MAML(), estimation=Estimation(Zero()), evaluation=Evaluation(episodes=1))
    config(estimation=Estimation(Zero()), evaluation=Evaluation(episodes=1))  # one that does not adapt


@dataclass(frozen=True)
class Unmade(Gymnax):
    """Of a name that was never asked for, and so is not remembered."""

    name: str = "MountainCar-v0 without gymnax"


def test_without_gymnax_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gymnax", None)
    with pytest.raises(UserError, match=r"pip install 'surefoot\[gymnax\]'"):
        train(config(env=Unmade(), policy=CategoricalMLP()), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_importance_weights_with_rules_that_need_a_gradient_alone(tmp_path: Path) -> None:
    for rule in (OptaxStep(), GradientStep()):
        fits = config(algorithm=OffPolicyReinforce(rule, gradient_steps=1), estimation=PLAIN)
        assert train(fits, tmp_path / type(rule).__name__).run.iteration == 1
