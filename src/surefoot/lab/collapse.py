"""The need for a trust region: steps that are too long, bad data, and no way back."""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import Annotated, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PyTree
from scipy.special import stdtrit

from surefoot.lab.base import AbstractExperiment, Ascending, Claim, Result
from surefoot.lab.cliff import Cliff
from surefoot.lab.figures import COLOURS, Line, Panel
from surefoot.networks import MLPOptions
from surefoot.options import Bound, Positive, at_least
from surefoot.policies.categorical import CategoricalMLPPolicy
from surefoot.rules import (
    AbstractRule,
    GradientStep,
    NaturalGradient,
    PPOClip,
    ProjectedGradient,
    TrustRegion,
)
from surefoot.rules.base import Metrics
from surefoot.rules.natural_gradient import NaturalOptions
from surefoot.theory.conjugate_gradient import inner_product
from surefoot.theory.fisher import fisher_vector_product
from surefoot.theory.objectives import AbstractObjective, PolicyObjective, loss_and_gradient, surrogate
from surefoot.theory.trust_region import line_search, step_length
from surefoot.types import Batch, Key

_OBJECTIVE = PolicyObjective(surrogate)
_DAMPING = 1e-3
_EPISODES_OF_SCALE = 200
"""Episodes from which the rates that belong to a nominal step are computed, before training."""
_LANES, _WIND = 6, 0.1
"""Number of lanes, and the probability of being carried towards the edge."""
_HIDDEN = 16
"""Number of units in the network's hidden layer."""
_ADAM_LR = 0.01
"""Learning rate of PPO's Adam at δ = 0.01."""


@dataclass(frozen=True)
class LongStep(NaturalOptions, AbstractRule):
    """TRPO's step with a first attempt of another length than the bound's: it shows what the search does."""

    nominal: float = 0.01
    """Predicted KL of the first attempt, in nats."""
    max_kl: float = 0.03
    """Bound on the KL of the accepted step, in nats."""

    def init(self, policy: PyTree) -> None:
        del policy

    def step(
        self, objective: AbstractObjective, policy: PyTree, batch: PyTree, state: None
    ) -> tuple[PyTree, None, Metrics]:
        loss, gradient = loss_and_gradient(objective, policy, batch)
        natural = self.direction(objective, policy, gradient, batch)
        step = optax.tree.scale(-step_length(self.nominal, natural.curvature), natural.direction)
        search = line_search(
            objective, policy, step, batch, loss, max_kl=self.max_kl, ratio=0.7, max_backtracks=15
        )
        return search.policy, state, {"loss": loss}


class Scales(eqx.Module):
    """The rates with which the first step of a fixed rate has a predicted KL of one nat."""

    plain: Float[Array, ""]
    """√(2 / gᵀFg)."""
    distance: Float[Array, ""]
    """‖g‖ √(2 / gᵀFg), the length of the plain gradient's step."""
    natural: Float[Array, ""]
    """√(2 / xᵀFx)."""


FREE = ("plain gradient", "natural gradient", "TRPO without line search")
"""Methods that check no step."""
METHODS: tuple[str, ...] = (*FREE, "TRPO, bound δ", "TRPO, fixed bound", "PPO", "fixed ball")
_Known = Bound(lambda names: set() < set(names) <= set(METHODS), f"some of {', '.join(METHODS)}", whole=True)


@dataclass(frozen=True)
class Measured:
    """Returns and divergences of one method, for each nominal step and seed."""

    values: Float[np.ndarray, "sizes seeds iterations"]
    """The exact return before training and after each iteration."""
    divergences: Float[np.ndarray, "sizes seeds steps 2"]
    """Mean and maximal KL of each iteration."""

    @property
    def after_one(self) -> np.ndarray:
        """Mean return after the first step, for each size."""
        return self.values[:, :, 1].mean(axis=1)

    @property
    def end(self) -> np.ndarray:
        """Mean return after the last iteration, for each size."""
        return self.values[:, :, -1].mean(axis=1)

    @property
    def good(self) -> int:
        """The number of sizes whose return is 90% of the best size's or more, after the last iteration."""
        return int(np.sum(self.end >= 0.9 * self.end.max()))

    @property
    def kept(self) -> float:
        """The return at the longest step over that at the best step, after the last iteration."""
        return float(self.end[-1] / self.end.max())


@dataclass(frozen=True)
class Collapse(AbstractExperiment):
    """Collapse: without a trust region a long step ruins the policy, its data, and all later steps.

    A network is trained on lanes beside a cliff, from sampled episodes, by steps of growing nominal size. The
    size is δ, the predicted KL in nats: of every step of TRPO, and of the first step of the gradients with a
    fixed rate. Adam's rate in PPO is 0.01 at δ = 0.01, and grows with √δ. A policy that always goes towards
    the edge earns nothing, all its episodes are alike, no advantage differs from zero, and it never changes
    again.
    """

    deltas: Annotated[tuple[float, ...], Positive, Ascending] = (1e-3, 1e-2, 3e-2, 1e-1, 1.0, 10.0)
    """Nominal steps δ, ascending."""
    seeds: Annotated[int, at_least(2)] = 10
    """Number of seeds of each method and step."""
    episodes: Annotated[int, at_least(2)] = 20
    """Number of episodes in each batch."""
    iterations: Annotated[int, at_least(1)] = 10
    """Number of iterations after the first step."""
    methods: Annotated[tuple[str, ...], _Known] = METHODS
    """Methods that are measured."""
    horizon: Annotated[int, at_least(1)] = 20
    """Steps of an episode."""
    max_kl: Annotated[float, Positive] = 0.03
    """Bound of `TRPO, fixed bound`, in nats. `fixed ball` has the radius of a first step of this KL."""

    def measure(self, seed: int) -> Result:
        found = {name: self.train(name, seed) for name in self.methods}
        rows = [
            (
                name,
                delta,
                float(x.after_one[i]),
                float(x.end[i]),
                float(x.values[i, :, -1].min()),
                *map(float, x.divergences[i].mean(axis=(0, 1))),
            )
            for name, x in found.items()
            for i, delta in enumerate(self.deltas)
        ]
        last = f"J after {self.iterations} more"
        columns = ("method", "δ", "J after 1", last, "worst seed", "mean KL", "max KL")
        title = "Collapse: return against the size of the step, on lanes beside a cliff"
        return Result(title, columns, rows, self._panels(found), self._claims(found))

    def train(self, name: str, seed: int) -> Measured:
        """All nominal steps and seeds of one method, in one program."""
        cliff = Cliff.of(_LANES, self.horizon, _WIND)

        def one(delta: Array, key: Key) -> tuple[Array, Array]:
            return self._run(cliff, name, delta, key)

        keys = jax.random.split(jax.random.key(seed), self.seeds)
        every = jax.jit(jax.vmap(jax.vmap(one, (None, 0)), (0, None)))
        return Measured(*map(np.asarray, every(jnp.asarray(self.deltas), keys)))

    def _run(self, cliff: Cliff, name: str, delta: Array, key: Key) -> tuple[Array, Array]:
        start_key, scale_key, run_key = jax.random.split(key, 3)
        network = MLPOptions((_HIDDEN,), "tanh", "orthogonal", 0.01).network(start_key, 1, 3)
        policy = CategoricalMLPPolicy(network)
        scales = _scales(policy, cliff.batch(policy, scale_key, _EPISODES_OF_SCALE))
        rule = self._rule(name, delta, scales)

        def turn(carry: tuple[CategoricalMLPPolicy, PyTree], key: Key) -> tuple[PyTree, tuple[Array, Array]]:
            old, state = carry
            new, state, _ = rule.step(_OBJECTIVE, old, cliff.batch(old, key, self.episodes), state)
            return (new, state), (cliff.value(new), cliff.divergences(old, new))

        keys = jax.random.split(run_key, self.iterations + 1)
        _, (values, divergences) = jax.lax.scan(turn, (policy, rule.init(policy)), keys)
        return jnp.concatenate([cliff.value(policy)[None], values]), divergences

    def _rule(self, name: str, delta: Array, scales: Scales) -> AbstractRule:
        rate = jnp.sqrt(delta)
        match name:
            case "plain gradient":
                return _traced(GradientStep(), lr=scales.plain * rate)
            case "natural gradient":
                return _traced(NaturalGradient(damping=_DAMPING), lr=scales.natural * rate)
            case "TRPO without line search":
                return _traced(NaturalGradient(damping=_DAMPING), max_kl=delta)
            case "TRPO, bound δ":
                return _traced(TrustRegion(damping=_DAMPING), max_kl=delta)
            case "TRPO, fixed bound":
                return _traced(LongStep(max_kl=self.max_kl, damping=_DAMPING), nominal=delta)
            case "fixed ball":
                radius = scales.distance * self.max_kl**0.5
                return _traced(ProjectedGradient(gradient_steps=1), lr=scales.plain * rate, radius=radius)
            case _:
                return _traced(PPOClip(), lr=_ADAM_LR * rate / 0.1)

    def _claims(self, found: dict[str, Measured]) -> list[Claim]:
        claims = []
        if free := [name for name in FREE if name in found]:
            name = min(free, key=lambda name: found[name].kept)
            x, values = found[name], found[name].values[-1]
            stuck = (values[:, -1] < 0.1) & (values.max(axis=1) > 1.0)
            still = x.divergences[-1, stuck, -1, 0]
            claims += [
                Claim(
                    f"{self.iterations} iterations after the first step of δ = {self.deltas[-1]:g}, at least "
                    "one method without a region returns less than a third of its best",
                    bool(x.kept < 1 / 3),
                    f"{name}: {x.end[-1]:.2f} of {x.end.max():.2f}",
                ),
                Claim(
                    "Some of these runs had learned something, return nothing at the end, and change no more",
                    bool(stuck.any() and np.all(still < 1e-6)),
                    f"{stuck.sum()} of {self.seeds} runs; last KL at most {still.max(initial=0):.1e}",
                ),
            ]
        if (x := found.get("TRPO, fixed bound")) is not None:
            statement = (
                f"TRPO with the bound {self.max_kl:g} and first attempts as long keeps 90% of its best"
            )
            measured = f"{x.end[-1]:.2f} of {x.end.max():.2f}"
            claims.append(Claim(statement, x.kept >= 0.9, measured))
            others = {name: found[name].good for name in (*FREE, "TRPO, bound δ") if name in found}
            claims.append(
                Claim(
                    "It returns 90% of its best at more nominal steps than those whose steps grow with δ",
                    all(x.good > good for good in others.values()),
                    f"{x.good} of {len(self.deltas)}; " + ", ".join(f"{k} {v}" for k, v in others.items()),
                )
            )
        return claims

    def _panels(self, found: dict[str, Measured]) -> list[Panel]:
        colours = dict(zip(METHODS, (*COLOURS, "black"), strict=True))
        first, last = [], []
        for name, x in found.items():
            for lines, values in ((first, x.values[:, :, 1]), (last, x.values[:, :, -1])):
                lines.extend(_with_interval(self.deltas, values, name, colours[name]))
        kl = [
            Line(self.deltas, x.divergences.mean(axis=(1, 2))[:, 1], name, colours[name], "o-")
            for name, x in found.items()
        ]
        size = "nominal step δ"
        limits = {"xscale": "log", "ylim": (0, None)}
        return [
            Panel("After one step", size, "expected return J", first, limits),
            Panel(f"After {self.iterations} more iterations", size, "expected return J", last, limits),
            Panel(
                "Largest KL of a lane",
                size,
                "max KL(old ‖ new) [nats]",
                kl,
                {"xscale": "log", "yscale": "log"},
            ),
        ]


def _traced(rule: Any, **options: Any) -> Any:
    """The rule with options that JAX traces, so that one program has all of their values: arrays, where its
    initialiser is annotated with numbers."""
    rule = copy(rule)
    for name, value in options.items():
        object.__setattr__(rule, name, value)
    return rule


def _with_interval(deltas: Sequence[float], values: np.ndarray, label: str, colour: str) -> list[Line]:
    """The mean over seeds, and its 95% interval as a thin bar."""
    mean = values.mean(axis=1)
    half = stdtrit(values.shape[1] - 1, 0.975) * values.std(axis=1, ddof=1) / np.sqrt(values.shape[1])
    bars = [Line((d, d), (m - h, m + h), "", colour) for d, m, h in zip(deltas, mean, half, strict=True)]
    return [Line(deltas, mean, label, colour, "o-"), *bars]


def _scales(policy: CategoricalMLPPolicy, batch: Batch) -> Scales:
    _, gradient = loss_and_gradient(_OBJECTIVE, policy, batch)
    along = inner_product(gradient, fisher_vector_product(_OBJECTIVE, policy, batch, gradient))
    natural = NaturalOptions(damping=_DAMPING).direction(_OBJECTIVE, policy, gradient, batch)
    plain = step_length(1.0, along)
    return Scales(plain, plain * optax.tree.norm(gradient), step_length(1.0, natural.curvature))
