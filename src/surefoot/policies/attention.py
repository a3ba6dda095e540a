"""The attention actor-critic: policy and value function over a causal transformer (Vaswani et al., 2017)."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from surefoot.encoders import Encoder, EncoderOptions
from surefoot.networks import MLP, MLPOptions
from surefoot.options import UserError, at_least, check
from surefoot.policies.base import AbstractPolicy, AbstractRecurrentActorCritic, PolicyOptions
from surefoot.policies.heads import HeadOptions
from surefoot.policies.transformer import Block, Pairs, standardise
from surefoot.theory.distributions import AbstractDistribution
from surefoot.theory.objectives import AuxiliaryLoss, Prediction
from surefoot.types import ActionSpace, Key, Observations, ObservationSpace


class Cache(eqx.Module):
    """The memory: keys and values of the latest steps of the episode. The step τ has the slot τ modulo the
    number of slots."""

    layers: tuple[Pairs, ...]
    time: Int[Array, "*axes"]
    """Steps since the episode began."""


class Context(NamedTuple):
    """The steps that a sequence can look back on: those in the cache, and its own."""

    times: Int[Array, "*axes time"]
    """Steps since its episode began, at each step of the sequence."""
    before: tuple[Bool[Array, "*axes time slot"], Bool[Array, "*axes time time"]]
    """Whether a step of the sequence sees a step of the cache, and one of the sequence, its own apart."""
    after: tuple[Bool[Array, "*axes time slot"], Bool[Array, "*axes time time"]]
    """The same for the observation after each step of the sequence."""


class AttentionActorCriticPolicy(AbstractRecurrentActorCritic):
    """π(a | x_t) and V(x_t), where x_t is the output of a causal transformer on s_0 … s_t. It acts from a
    cache of keys and values, in a time per step that is proportional to `length`.

    An episode that is longer than `length` is seen through a window of that many steps.
    """

    encoder: Encoder
    embedding: MLP
    blocks: tuple[Block, ...]
    actor: AbstractPolicy
    critic: MLP
    length: int = eqx.field(static=True)
    auxiliary: AuxiliaryLoss | None = eqx.field(static=True, default=None)

    def __call__(self, observations: Observations) -> AbstractDistribution:
        return self.actor(self._of_episodes(observations))

    def initial_memory(self) -> Cache:
        return self._empty((), self.length)

    def act(self, observations: Observations, memory: Cache) -> tuple[AbstractDistribution, Cache]:
        x = self.encoder(observations)[..., None, :]
        features, _, made = self._run(x, jnp.zeros(x.shape[:-1], bool), memory)
        slots = memory.time % self.length
        layers = jax.tree.map(lambda old, new: written(old, new, slots), memory.layers, made)
        return self.actor(features[..., 0, :]), Cache(layers, memory.time + 1)

    def unroll(
        self, observations: Observations, starts: Bool[Array, "*axes time"], memory: Cache
    ) -> AbstractDistribution:
        return self.actor(self._run(self.encoder(observations), starts, memory)[0])

    def values(self, observations: Observations) -> Float[Array, "*batch time"]:
        return self.critic(self._of_episodes(observations))[..., 0]

    def outputs(self, observations: Observations, actions: Array) -> Prediction:
        del actions
        return self._predicted(self._of_episodes(observations))

    def unroll_outputs(
        self, observations: Observations, actions: Array, starts: Bool[Array, "*axes time"], memory: Cache
    ) -> Prediction:
        del actions
        return self._predicted(self._run(self.encoder(observations), starts, memory)[0])

    def unroll_values(
        self,
        observations: Observations,
        next_observations: Observations,
        starts: Bool[Array, "*axes time"],
        memory: Cache,
    ) -> tuple[Float[Array, "*axes time"], Float[Array, "*axes time"]]:
        now, following = self.encoder(observations), self.encoder(next_observations)
        features, after, _ = self._run(now, starts, memory, following)
        return self.critic(features)[..., 0], self.critic(after)[..., 0]

    def _predicted(self, features: Float[Array, "*batch units"]) -> Prediction:
        return Prediction(self.actor(features), self.critic(features)[..., 0])

    def _of_episodes(self, observations: Observations) -> Float[Array, "*batch time units"]:
        """The features of every step, where each row is one whole episode."""
        x = self.encoder(observations)
        return self._run(x, jnp.zeros(x.shape[:-1], bool), self._empty(x.shape[:-2], 0))[0]

    def _empty(self, axes: tuple[int, ...], slots: int) -> Cache:
        weights, heads = self.embedding.weights[-1], self.blocks[0].heads
        nothing = jnp.zeros((*axes, heads, slots, weights.shape[1] // heads), weights.dtype)
        return Cache((Pairs(nothing, nothing),) * len(self.blocks), jnp.zeros(axes, jnp.int32))

    def _run(
        self,
        inputs: Float[Array, "*axes time inputs"],
        starts: Bool[Array, "*axes time"],
        cache: Cache,
        following: Float[Array, "*axes time inputs"] | None = None,
    ) -> tuple[Array, Array, tuple[Pairs, ...]]:
        """The features of every step, those of the observation after it, and the keys and values of every
        step in each layer."""
        x, context = self.embedding(inputs), self._context(starts, cache)
        y = x[..., :0, :] if following is None else self.embedding(following)
        made = []
        for block, cached in zip(self.blocks, cache.layers, strict=True):
            query, own = block.project(x, context.times)
            others = (cached, own)
            if following is not None:
                y = block(
                    y, *block.project(y, context.times + 1), tuple(zip(others, context.after, strict=True))
                )
            x = block(x, query, own, tuple(zip(others, context.before, strict=True)))
            made.append(own)
        return standardise(x), standardise(y), tuple(made)

    def _context(self, starts: Bool[Array, "*axes time"], cache: Cache) -> Context:
        steps = jnp.arange(starts.shape[-1])
        episodes = jnp.cumsum(starts.astype(jnp.int32), axis=-1)
        begun = jax.lax.cummax(jnp.where(starts, steps, 0), axis=starts.ndim - 1)
        last = cache.time[..., None] - 1
        times = steps + jnp.where(episodes == 0, last + 1, -begun)
        # The latest step with each slot; below zero where there is none.
        cached = last - (last - jnp.arange(cache.layers[0].keys.shape[-2])) % self.length
        same = episodes[..., :, None] == episodes[..., None, :]
        goes_on = (episodes == 0)[..., None] & (cached >= 0)[..., None, :]
        ages = times[..., None] - cached[..., None, :]
        back = steps[:, None] - steps

        def visible(after: int) -> tuple[Array, Array]:
            own = same & (back >= 1 - after) & (back + after < self.length)
            return goes_on & (ages + after < self.length), own

        return Context(times, visible(0), visible(1))


def written(
    old: Float[Array, "*axes heads slot size"],
    new: Float[Array, "*axes heads one size"],
    slots: Int[Array, "*axes"],
) -> Float[Array, "*axes heads slot size"]:
    """`old` with `new` in the given slots."""
    write = partial(jax.lax.dynamic_update_slice_in_dim, axis=-2)
    for _ in range(slots.ndim):
        write = jax.vmap(write)
    return write(old, new, slots)


@dataclass(frozen=True)
class AttentionActorCritic(HeadOptions, EncoderOptions, PolicyOptions):
    """Attention actor-critic for discrete or continuous actions and partial observations: a causal
    transformer over the episode so far, and linear maps from it to policy and value. Algorithms compute
    advantages from its own values, not from a baseline."""

    units: Annotated[int, at_least(2)] = 64
    """Width of the transformer: a multiple of twice the heads. The perceptron in each layer is four times as
    wide."""
    layers: Annotated[int, at_least(1)] = 2
    """Number of layers."""
    heads: Annotated[int, at_least(1)] = 4
    """Number of attention heads in each layer."""
    length: Annotated[int, at_least(1)] = 1024
    """Longest episode, or trial, in steps; where episodes have no limit, the steps that the policy looks back
    on. The memory is no larger than the environment's episodes need."""

    def __post_init__(self) -> None:
        HeadOptions.__post_init__(self)
        multiple = f"a multiple of twice the {self.heads} heads"
        check(self.units % (2 * self.heads) == 0, "units", self.units, multiple)

    def for_episodes(self, horizon: int) -> "AttentionActorCritic":
        if horizon > self.length:
            raise UserError(
                f"An episode, or a trial, has up to {horizon} steps, and the attention policy looks back on "
                f"{self.length} at most; use --policy.length {horizon}."
            )
        return replace(self, length=horizon or self.length)

    def build(
        self, key: Key, observation_space: ObservationSpace, action_space: ActionSpace
    ) -> AttentionActorCriticPolicy:
        encoder_key, embedding_key, actor_key, critic_key, blocks_key = jax.random.split(key, 5)
        encoder = Encoder.new(encoder_key, observation_space, self.encoder)
        linear = MLPOptions((), initialiser="lecun")
        return AttentionActorCriticPolicy(
            encoder=encoder,
            embedding=linear.network(embedding_key, encoder.size(observation_space), self.units),
            blocks=tuple(map(self._block, jax.random.split(blocks_key, self.layers))),
            actor=self.head(actor_key, self.units, action_space),
            critic=MLPOptions((), initialiser="orthogonal").network(critic_key, self.units, 1),
            length=self.length,
        )

    def _block(self, key: Key) -> Block:
        # Each layer adds twice to x, whose size would otherwise grow with their number.
        small = MLPOptions((), initialiser="lecun", output_scale=(2 * self.layers) ** -0.5)
        wide = replace(small, hidden=(4 * self.units,), activation="silu")
        keys = jax.random.split(key, 3)
        return Block(
            projection=MLPOptions((), initialiser="lecun").network(keys[0], self.units, 3 * self.units),
            output=small.network(keys[1], self.units, self.units),
            feedforward=wide.network(keys[2], self.units, self.units),
            heads=self.heads,
        )
