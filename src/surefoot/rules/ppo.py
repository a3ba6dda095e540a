"""Proximal policy optimisation (PPO): many small steps on one batch, kept near the policy that drew it.

Schulman et al. (2017): by clipping the likelihood ratio, or by paying for the KL.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PyTree

from surefoot.options import NonNegative, OpenFraction, Options, Positive, UserError, at_least
from surefoot.rules.base import AbstractRule, Metrics, valid_of_steps
from surefoot.rules.gradient import EPS_ROOT, clipped_gradient
from surefoot.theory.minibatches import shuffled
from surefoot.theory.objectives import AbstractObjective, Penalised, adaptive_kl_coefficient
from surefoot.types import Key


@dataclass(frozen=True, kw_only=True)
class EpochOptions(Options):
    """Epochs of Adam on minibatches of one batch. Adam's state is kept from one batch to the next."""

    lr: Annotated[float, NonNegative] = 3e-4
    """Adam learning rate."""
    lr_end: Annotated[float | None, NonNegative] = None
    """Final learning rate, reached linearly after `decay_steps` batches; none for a fixed rate."""
    decay_steps: Annotated[int, at_least(1)] = 100
    """Number of batches over which the learning rate changes from `lr` to `lr_end`."""
    max_gradient_norm: Annotated[float | None, Positive] = 0.5
    """Maximal Euclidean norm of the gradient; longer ones are scaled down to it. None for no limit."""
    epochs: Annotated[int, at_least(1)] = 10
    """Number of passes over each batch."""
    minibatches: Annotated[int, at_least(1)] = 4
    """Number of minibatches in an epoch, drawn anew each time; of an inner rule, the same in every
    adaptation. A batch is divided along its leading axis: tasks, steps or episodes."""
    stop_kl: Annotated[float | None, Positive] = None
    """KL(old ‖ new) of a minibatch, in nats, above which no further steps are taken on the batch; none to
    take all of them."""
    takes_several_steps = True


class EpochState(eqx.Module):
    """The state that lasts from one batch to the next."""

    optimiser: PyTree
    key: Key
    """Draws the next batch's minibatches."""
    batches: Int[Array, ""]
    """Batches learned from."""
    beta: Float[Array, ""]
    """KL coefficient β; not used by the clipped form."""


@dataclass(frozen=True)
class PPOClip(EpochOptions, AbstractRule):
    """PPO's clipped objective, by epochs of Adam on minibatches."""

    clip: Annotated[float, OpenFraction] = 0.2
    """Clipping range ε of the likelihood ratio: it is clipped to 1 ± ε."""

    def init(self, policy: PyTree) -> EpochState:
        return _start(self, policy, 0.0)

    def step(
        self, objective: AbstractObjective, policy: PyTree, batch: PyTree, state: EpochState
    ) -> tuple[PyTree, EpochState, Metrics]:
        clipped = objective.clipped(self.clip)
        return _epochs(self, objective, lambda new, part, _: clipped.loss(new, part), policy, batch, state)


@dataclass(frozen=True)
class PPOPenalty(EpochOptions, AbstractRule):
    """PPO's penalised objective, L + β KL(old ‖ new), by epochs of Adam on minibatches."""

    beta: Annotated[float, Positive] = 1.0
    """Initial KL coefficient β."""
    target_kl: Annotated[float | None, Positive] = 0.01
    """Target KL of the adaptive coefficient, in nats: after each batch β is doubled if the KL was above 1.5 ×
    this, and halved if it was below this / 1.5. None for a fixed β."""

    def init(self, policy: PyTree) -> EpochState:
        return _start(self, policy, self.beta)

    def step(
        self, objective: AbstractObjective, policy: PyTree, batch: PyTree, state: EpochState
    ) -> tuple[PyTree, EpochState, Metrics]:
        penalised = Penalised(objective, state.beta)
        policy, following, metrics = _epochs(
            self, objective, lambda new, part, old: penalised.loss(new, (part, old)), policy, batch, state
        )
        if self.target_kl is not None:
            beta = adaptive_kl_coefficient(state.beta, metrics["kl"], self.target_kl)
            following = eqx.tree_at(lambda s: s.beta, following, beta)
        return policy, following, {**metrics, "beta": state.beta}


Loss = Callable[[PyTree, PyTree, PyTree], Array]
"""(prediction, batch, what the old policy predicted on it) -> what an epoch's steps minimise."""


class _Now(eqx.Module):
    """A batch being learned from."""

    parameters: PyTree
    optimiser: PyTree
    running: Bool[Array, ""]
    steps: Int[Array, ""]


def _start(options: EpochOptions, policy: PyTree, beta: float) -> EpochState:
    optimiser = _optimiser(options).init(eqx.filter(policy, eqx.is_inexact_array))
    return EpochState(optimiser, jax.random.key(0), jnp.zeros((), jnp.int32), jnp.asarray(beta, float))


def _epochs(
    options: EpochOptions,
    objective: AbstractObjective,
    loss: Loss,
    policy: PyTree,
    batch: PyTree,
    state: EpochState,
) -> tuple[PyTree, EpochState, Metrics]:
    parameters, static = eqx.partition(policy, eqx.is_inexact_array)
    old = objective.predict(policy, batch)
    key, now = jax.random.split(state.key)
    parts = _parts(options, batch, now)
    rate = _rate(options, state.batches)

    def descend(now: _Now, part: Int[Array, " size"]) -> _Now:
        chosen = jax.tree.map(lambda x: x[part], (batch, old))
        policy = eqx.combine(now.parameters, static)
        gradient, kl = objective.average(lambda data: _gradient(objective, loss, policy, *data), chosen)
        with jax.numpy_dtype_promotion("standard"):  # Optax raises floats to integer powers
            direction, optimiser = _optimiser(options).update(gradient, now.optimiser)
        following = optax.tree.add_scale(now.parameters, -rate, direction)
        moved = _Now(following, optimiser, now.running, now.steps + 1)
        if options.stop_kl is None:
            return moved
        near = kl <= options.stop_kl
        stopped = eqx.tree_at(lambda n: n.running, now, near)
        return jax.tree.map(lambda a, b: jnp.where(near, a, b), moved, stopped)

    def turn(now: _Now, part: Int[Array, " size"]) -> tuple[_Now, None]:
        if options.stop_kl is None:
            return descend(now, part), None
        return jax.lax.cond(now.running, descend, lambda now, _: now, now, part), None

    start = _Now(parameters, state.optimiser, jnp.ones((), bool), jnp.zeros((), jnp.int32))
    end, _ = jax.lax.scan(turn, start, parts)
    policy = eqx.combine(end.parameters, static)
    new = objective.predict(policy, batch)
    before = objective.loss(old, batch)
    metrics = {
        "loss": before,
        "loss_after": objective.loss(new, batch),
        "kl": objective.divergence(old, new, batch),
        "minibatch_steps": end.steps.astype(before.dtype),
        "learning_rate": rate,
    }
    return policy, EpochState(end.optimiser, key, state.batches + 1, state.beta), metrics


def _gradient(
    objective: AbstractObjective, loss: Loss, policy: PyTree, batch: PyTree, old: PyTree
) -> tuple[PyTree, Array]:
    """The gradient of the loss, and the KL from the old policy, both at `policy`."""

    def at(policy: PyTree) -> tuple[Array, Array]:
        prediction = objective.predict(policy, batch)
        return loss(prediction, batch, old), objective.divergence(old, prediction, batch)

    return eqx.filter_grad(at, has_aux=True)(policy)


def _parts(options: EpochOptions, batch: PyTree, key: Key) -> Int[Array, "parts size"]:
    """The indices of every minibatch of every epoch. One task's steps come with padding, if whole episodes
    were collected."""
    total = jax.tree.leaves(batch)[0].shape[0]
    if options.minibatches > total:
        raise UserError(
            f"A batch of {total} (tasks, steps or episodes) cannot be divided into {options.minibatches} "
            "minibatches; lower --rule.minibatches (of a meta-algorithm --outer.minibatches or "
            "--inner.minibatches), or sample more."
        )
    draw = jax.vmap(lambda k: shuffled(k, total, options.minibatches, valid_of_steps(batch)))
    parts = draw(jax.random.split(key, options.epochs))
    return parts.reshape(-1, parts.shape[-1])


def _rate(options: EpochOptions, batches: Int[Array, ""]) -> Float[Array, ""]:
    start = jnp.asarray(options.lr, float)
    if options.lr_end is None:
        return start
    passed = jnp.minimum(batches.astype(start.dtype) / options.decay_steps, 1.0)
    return start + (options.lr_end - options.lr) * passed


def _optimiser(options: EpochOptions) -> optax.GradientTransformation:
    """The direction alone: the rate is not the optimiser's to know."""
    adam = optax.scale_by_adam(eps=1e-5, eps_root=EPS_ROOT)
    if options.max_gradient_norm is not None:
        adam = optax.chain(clipped_gradient(options.max_gradient_norm), adam)
    return optax.flatten(adam)
