import inspect
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from support.wrappers import WrappedRule
from surefoot import rules
from surefoot.checks import check_rule
from surefoot.checks.problem import checks_of, collect
from surefoot.checks.rule import RuleChecks
from surefoot.theory.objectives import loss_and_gradient

EXPORTED = [
    x
    for x in vars(rules).values()
    if inspect.isclass(x) and issubclass(x, rules.AbstractRule) and not inspect.isabstract(x)
]
ZOO = []


def broken(check, phrase, severity="error"):
    def register(rule):
        ZOO.append(pytest.param(rule, check, phrase, severity, id=rule.__name__))
        return rule

    return register


@dataclass(frozen=True)
class Sound:
    """Gradient descent, a subclass of nothing."""

    lr: float = 0.1
    requires_surrogate = takes_several_steps = measures_by_kl = False

    def init(self, policy):
        return {"steps": jnp.zeros((), jnp.int32)}

    def step(self, objective, policy, batch, state):
        loss, gradient = loss_and_gradient(objective, policy, batch)
        policy = eqx.apply_updates(policy, jax.tree.map(lambda g: -self.lr * g, gradient))
        return policy, {"steps": state["steps"] + 1}, {"loss": loss}


@broken("options", "`step` is missing")
class NoStep(Sound):
    step = None


@broken("options", "cannot be hashed")
@dataclass
class NotFrozen:
    lr: float = 0.1
    init, step = Sound.init, Sound.step


@broken("states its capabilities", "`takes_several_steps` is missing")
@dataclass(frozen=True)
class SaysNothing:
    init, step = Sound.init, Sound.step


@broken("states its capabilities", "`requires_surrogate` is 0; it must be True or False")
class SaysItWithANumber(Sound):
    requires_surrogate = 0


@broken("needs no more than the gradient", "depends on more of the loss than its gradient")
class DividesByTheLoss(Sound):
    def step(self, objective, policy, batch, state):
        policy, state, metrics = Sound(0.0).step(objective, policy, batch, state)
        return Sound(0.1 / (1.0 + metrics["loss"] ** 2)).step(objective, policy, batch, state)


@broken("needs no more than the gradient", "depends on more of the loss than its gradient")
class TakesTwoSteps(Sound):
    def step(self, objective, policy, batch, state):
        for _ in range(2):
            policy, state, metrics = Sound.step(self, objective, policy, batch, state)
        return policy, state, metrics


@broken("needs no more than the gradient", "depends on more of the loss than its gradient")
class SearchesALine(Sound):
    """The longer of two steps, if it lowers the loss."""

    def step(self, objective, policy, batch, state):
        short, following, metrics = Sound.step(self, objective, policy, batch, state)
        long = Sound(1.0).step(objective, policy, batch, state)[0]
        lower = objective.loss(objective.predict(long, batch), batch) < metrics["loss"]
        chosen = jax.tree.map(lambda a, b: jnp.where(lower, a, b) if eqx.is_array(a) else a, long, short)
        return chosen, following, metrics


@broken("state is arrays", "`state` is a Python int, not a JAX array")
class PythonState(Sound):
    def init(self, policy):
        return 0

    def step(self, objective, policy, batch, state):
        policy, _, metrics = Sound.step(self, objective, policy, batch, {"steps": 0})
        return policy, state + 1, metrics


@broken("step keeps the form", "`step` returns a BentObjective, not a triple")
class ReturnsTheObjective(Sound):
    def step(self, objective, policy, batch, state):
        return objective


@broken("step keeps the form", "`state['steps']` changes from int32[] to float32[]")
class StateChangesDtype(Sound):
    def step(self, objective, policy, batch, state):
        policy, state, metrics = Sound.step(self, objective, policy, batch, state)
        return policy, {"steps": state["steps"].astype(jnp.float32)}, metrics


@broken("step keeps the form", "structure of `policy` changes")
class ReturnsTheGradient(Sound):
    def step(self, objective, policy, batch, state):
        loss, gradient = loss_and_gradient(objective, policy, batch)
        return jax.tree.leaves(gradient), state, {"loss": loss}


@broken("step reports metrics", "The metrics of `step`, ['cost'], have no 'loss'")
class NoLoss(Sound):
    def step(self, objective, policy, batch, state):
        policy, state, metrics = Sound.step(self, objective, policy, batch, state)
        return policy, state, {"cost": metrics["loss"]}


@broken("step reports metrics", "The metric 'attempts' is int32[]")
class IntegerMetric(Sound):
    def step(self, objective, policy, batch, state):
        policy, state, metrics = Sound.step(self, objective, policy, batch, state)
        return policy, state, metrics | {"attempts": state["steps"]}


@broken("step reports metrics", "before the step the loss was")
class LossAfterTheStep(Sound):
    def step(self, objective, policy, batch, state):
        policy, state, _ = Sound.step(self, objective, policy, batch, state)
        return policy, state, {"loss": objective.loss(objective.predict(policy, batch), batch)}


@broken("step is pure", "`step` changes what it is given")
class CountsInPlace(Sound):
    def step(self, objective, policy, batch, state):
        policy, following, metrics = Sound.step(self, objective, policy, batch, state)
        state["steps"] = following["steps"]
        return policy, state, metrics


@broken("step is pure", "`step` gives different results for the same arguments")
class NumPyNoise(Sound):
    def step(self, objective, policy, batch, state):
        return NumPyRate(np.random.uniform(0.1, 0.2)).step(objective, policy, batch, state)


class NumPyRate(Sound):
    pass


@broken("step is pure", "`step` gives other results under jit than without")
class LooksWhetherItIsTraced(Sound):
    def step(self, objective, policy, batch, state):
        rate = 0.3 if isinstance(batch.advantages, jax.core.Tracer) else 0.1
        return Sound(rate).step(objective, policy, batch, state)


@broken("step is pure", "uses Python `if`, `while`, `and`, `or`, `not` or `assert` on a traced value at")
class PythonIf(Sound):
    def step(self, objective, policy, batch, state):
        stepped = Sound.step(self, objective, policy, batch, state)
        return stepped if stepped[2]["loss"] < 100.0 else (policy, state, stepped[2])


@broken("lowers the loss", "5 steps on one small batch take the loss from")
class Climbs(Sound):
    def step(self, objective, policy, batch, state):
        return Sound(-0.1).step(objective, policy, batch, state)


@jax.custom_batching.custom_vmap
def _kept(x):
    return x


@_kept.def_vmap
def _(axis_size, in_batched, x):
    return 0.0 * x, True


@broken("tasks can be vmapped", "Vmapped over tasks, the step of task 0 is not the one it takes alone")
class WrongRuleForVmap(Sound):
    def step(self, objective, policy, batch, state):
        batch = eqx.tree_at(lambda b: b.advantages, batch, replace_fn=_kept)
        return Sound.step(self, objective, policy, batch, state)


@broken("improves adapted objectives", "`step` raised AttributeError: 'MetaBatch' object has no attribute")
class KnowsTheBatch(Sound):
    def step(self, objective, policy, batch, state):
        scale = jnp.std(batch.advantages)
        return Sound(self.lr).step(objective, policy, batch, {"steps": state["steps"] + 0 * scale.size})


@broken("improves adapted objectives", "the new policy or its metrics are not finite")
class DividesByZero(Sound):
    def step(self, objective, policy, batch, state):
        policy, state, metrics = Sound.step(self, objective, policy, batch, state)
        tasks = jax.tree.leaves(batch)[0].shape[0]
        return policy, state, metrics | {"spread": 1.0 / jnp.asarray(tasks - 4.0)}


@broken("can be differentiated", "No gradient can be taken through `step`", "warning")
class WhileLoop(Sound):
    def step(self, objective, policy, batch, state):
        loss, gradient = loss_and_gradient(objective, policy, batch)
        scale = jax.lax.while_loop(lambda x: x > 0.2, lambda x: 0.5 * x, 1.0 + 0.0 * loss)
        step = jax.tree.map(lambda g: -scale * g, gradient)
        return eqx.apply_updates(policy, step), state, {"loss": loss}


@broken("can be differentiated", "not finite where the loss's own gradient is zero", "warning")
class TakesARoot(Sound):
    """Steps of one length, without an ε inside the root."""

    def step(self, objective, policy, batch, state):
        loss, gradient = loss_and_gradient(objective, policy, batch)
        norm = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(gradient)))
        step = jax.tree.map(lambda g: -0.1 * g / (norm + 1e-3), gradient)
        return eqx.apply_updates(policy, step), state, {"loss": loss}


@broken("says that its loss is nan", "`loss` of the metrics is finite where the loss is not")
class HidesNaN(Sound):
    def step(self, objective, policy, batch, state):
        policy, state, metrics = Sound.step(self, objective, policy, batch, state)
        return policy, state, {"loss": jnp.nan_to_num(metrics["loss"])}


@broken("says that its loss is nan", "`step` raised EquinoxRuntimeError: the loss is NaN at")
class RaisesAtNaN(Sound):
    def step(self, objective, policy, batch, state):
        policy, state, metrics = Sound.step(self, objective, policy, batch, state)
        loss = metrics["loss"]
        return policy, state, {"loss": eqx.error_if(loss, jnp.isnan(loss), "the loss is NaN")}


@broken("keeps no state", "The attribute `steps` changed while methods were called")
class CountsInItself(Sound):
    def step(self, objective, policy, batch, state):
        object.__setattr__(self, "steps", getattr(self, "steps", 0) + 1)
        return Sound.step(self, objective, policy, batch, state)


@pytest.mark.parametrize("rule", EXPORTED)
def test_the_library_keeps_its_own_contract(rule):
    assert check_rule(rule()) == []
    assert check_rule(WrappedRule(rule())) == []


def test_a_subclass_of_nothing_is_sound():
    assert check_rule(Sound()) == []


@pytest.mark.parametrize(("rule", "check", "phrase", "severity"), ZOO)
def test_each_fault_is_found(rule, check, phrase, severity):
    problems = collect(RuleChecks(rule()), check)
    assert (check, severity) in {(p.check, p.severity) for p in problems if phrase in p.what}


def test_the_way_around_a_missing_gradient_is_an_option_of_the_command_line():
    (problem,) = collect(RuleChecks(WhileLoop()), "can be differentiated")
    assert problem.remedy.endswith("or the rule with --order first.")


def test_every_check_has_an_example():
    assert set(checks_of(RuleChecks)) == {case.values[1] for case in ZOO}


def test_all_faults_are_found_at_once():
    class Many(PythonIf):
        def init(self, policy):
            object.__setattr__(self, "steps", 0)
            return {"steps": 0}

    found = check_rule(Many())
    assert {"state is arrays", "step is pure", "keeps no state"} <= {p.check for p in found}
    assert not [p.what for p in found if "could not be carried out" in p.what]


def test_a_class_is_not_an_instance():
    assert "Sound is a class, not a rule" in check_rule(Sound)[0].what
