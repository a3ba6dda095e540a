"""Importance weights: what becomes of them as the horizon and the distance of the policies grow."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from surefoot.lab import exact
from surefoot.lab.base import COLOURS, AbstractExperiment, Cell, Claim, Result, panels
from surefoot.lab.importance_estimators import MARGINAL, UNBIASED, Data, data_of
from surefoot.lab.problems import Problem, SoftmaxTable, action_probabilities, chain
from surefoot.lab.sampling import (
    Episodes,
    Quality,
    draw,
    in_batches,
    quality,
)
from surefoot.options import check
from surefoot.theory.importance import (
    clip_weights,
    effective_sample_size,
    self_normalise,
)
from surefoot.types import Key

TITLE = "Importance weights: variance and effective sample size"
TAMED = (", clipped", ", self-normalised")
WEIGHTS = (*(kind + tamed for kind in UNBIASED for tamed in ("", *TAMED)), MARGINAL)
"""Every kind of weights, the unbiased ones with and without what tames them."""
_STYLES = ("-o", ":^", "--s")


@dataclass(frozen=True)
class Weighted:
    """What kind of weights makes of one problem and one pair of policies."""

    quality: Quality
    """Of the estimates, relative to ‖∇J‖."""
    sample_size: float
    """The effective sample size, as a share of the episodes: the mean over steps and batches."""


@dataclass(frozen=True)
class Place:
    """A problem and a pair of policies."""

    horizon: int
    distance: float
    """How far the new policy's logits are from the old one's."""


Found = Mapping[Place, Mapping[str, Weighted]]


@dataclass(frozen=True)
class ImportanceWeights(AbstractExperiment):
    """Importance weights: variance and effective sample size as horizon and policy distance grow.

    A chain of three states; episodes are drawn at random, and the gradient of a policy that goes right more
    often is estimated. What the theory says: weights over the trajectory and per decision leave it unbiased,
    but their effective sample size falls exponentially with the horizon, as N / E[W²]. Per decision there is
    less variance, as a rule and not by a theorem (Liu et al., 2020). The weight of the step alone is biased,
    with an effective sample size that does not know of the horizon. Clipping and self-normalisation buy less
    variance for a bias.
    """

    horizons: tuple[int, ...] = (4, 8, 16)
    """Steps in an episode, ascending; each at the middle distance."""
    distances: tuple[float, ...] = (0.5, 1.0, 2.0)
    """How far the logits are apart, ascending; each at the first horizon."""
    limit: float = 2.0
    """Where weights are clipped."""
    episodes: int = 50
    """Episodes in a batch."""
    batches: int = 1000
    """Batches."""

    def __post_init__(self) -> None:
        check(_ascends(self.horizons, 1), "horizons", self.horizons, "two or more, ascending from 1 or more")
        check(
            _ascends(self.distances, 0), "distances", self.distances, "two or more, ascending from 0 or more"
        )
        check(self.limit > 0, "limit", self.limit, "above 0")
        check(self.episodes >= 2, "episodes", self.episodes, "2 or more")
        check(self.batches >= 100, "batches", self.batches, "100 or more")

    @property
    def by_horizon(self) -> tuple[Place, ...]:
        """Where the horizon grows."""
        return tuple(Place(horizon, self.distances[len(self.distances) // 2]) for horizon in self.horizons)

    @property
    def by_distance(self) -> tuple[Place, ...]:
        """Where the distance grows."""
        return tuple(Place(self.horizons[0], distance) for distance in self.distances)

    def measure(self, seed: int) -> Result:
        places = dict.fromkeys((*self.by_horizon, *self.by_distance))
        found = {place: self.judge(place, seed) for place in places}
        columns = (
            "horizon",
            "distance",
            "KL",
            "weights",
            "bias",
            "its standard error",
            "variance",
            "sample size",
        )
        return Result(TITLE, columns, _rows(found), self._draw(found), self._claims(found))

    def judge(self, place: Place, seed: int) -> dict[str, Weighted]:
        """Every kind of weights, on the same episodes."""
        problem, old, new = start(place)
        key = jax.random.fold_in(jax.random.key(seed), place.horizon)
        estimates, sizes = _estimates(self, problem, old, new, key)
        truth = ravel_pytree(exact.policy_gradient(problem, new))[0]
        scale = jnp.linalg.norm(truth)
        return {
            name: Weighted(
                quality(estimates[name] / scale, truth / scale, self.episodes),
                float(jnp.mean(sizes[name]) / self.episodes),
            )
            for name in WEIGHTS
        }

    def estimate(self, data: Data) -> tuple[dict[str, Array], dict[str, Array]]:
        """The gradient of one batch, and the mean effective sample size of its steps, by every kind."""
        weights = {MARGINAL: (MARGINAL, data.weights(MARGINAL))}
        for kind in UNBIASED:
            w = data.weights(kind)
            tamed = (clip_weights(w, self.limit), self_normalise(w))
            named = zip(("", *TAMED), (w, *tamed), strict=True)
            weights |= {kind + name: (kind, each) for name, each in named}
        gradients = {name: data.gradient(kind, w) for name, (kind, w) in weights.items()}
        gradients["per decision"] = data.causal_gradient()
        sizes = {name: jnp.mean(jax.vmap(effective_sample_size, 1)(w)) for name, (_, w) in weights.items()}
        return gradients, sizes

    def _claims(self, found: Found) -> tuple[Claim, ...]:
        short = self.horizons[1]
        near = [place for place in found if place.horizon <= short]
        least = min(found[p][kind].quality.p_value for p in near for kind in UNBIASED)
        ratios = [
            found[p]["per decision"].quality.variance / found[p]["trajectory"].quality.variance for p in found
        ]
        sizes = [found[p]["trajectory"].sample_size for p in self.by_horizon]
        apart = [found[p]["trajectory"].sample_size for p in self.by_distance]
        far, apart_most = found[self.by_horizon[-1]], found[self.by_distance[-1]]
        marginal = far[MARGINAL].quality
        tamed = {kind + name: far[kind] for kind in UNBIASED for name in TAMED}
        return (
            Claim(
                f"Weights over the trajectory and per decision are unbiased: to {short} steps, the mean is "
                "within the 99.99% confidence region of the exact gradient",
                all(found[p][kind].quality.unbiased for p in near for kind in UNBIASED),
                f"least p-value {least:.2g}",
            ),
            Claim(
                "Here, weights per decision have no more variance than those of the trajectory, at every "
                "horizon and distance",
                max(ratios) <= 1.0,
                f"{min(ratios):.3f} to {max(ratios):.3f} of it",
            ),
            Claim(
                "The effective sample size of the trajectory's weights falls with the horizon and with the "
                "distance",
                _falls(sizes) and _falls(apart),
                f"{_shares(sizes)} of the episodes, and {_shares(apart)}",
            ),
            Claim(
                "The marginal weight is biased where the policies differ most, by more than chance",
                not apart_most[MARGINAL].quality.unbiased,
                f"{apart_most[MARGINAL].quality.bias:.1%} of the gradient, "
                f"standard error {apart_most[MARGINAL].quality.standard_error:.1%}",
            ),
            Claim(
                "At the longest horizon it has less variance and a larger sample size than the others",
                all(marginal.variance < far[kind].quality.variance for kind in UNBIASED)
                and all(far[MARGINAL].sample_size > far[kind].sample_size for kind in UNBIASED),
                f"variance {marginal.variance:.1f} against "
                + " and ".join(f"{far[kind].quality.variance:.1f}" for kind in UNBIASED),
            ),
            Claim(
                "There, clipping and self-normalisation lower the variance of either, and bias it",
                all(
                    far[name].quality.variance < plain.quality.variance and not far[name].quality.unbiased
                    for name, plain in tamed.items()
                ),
                f"bias {min(far[name].quality.bias for name in tamed):.0%} to "
                f"{max(far[name].quality.bias for name in tamed):.0%} "
                "of the gradient",
            ),
        )

    def _draw(self, found: Found) -> Figure:
        figure, axes = panels(TITLE, 3)
        for places, along, panel in zip(
            (self.by_horizon, self.by_distance), ("horizon", "distance"), axes[:2], strict=True
        ):
            _lines(panel, found, places, along, lambda w: w.quality.variance)
            panel.set(title=f"Variance as the {along} grows", yscale="log", ylabel="tr Cov g / ‖∇J‖²")
        _lines(axes[2], found, self.by_horizon, "horizon", lambda w: w.sample_size)
        predicted = [1 / second_moment(*start(place)) for place in self.by_horizon]
        axes[2].plot(self.horizons, predicted, "-", color=COLOURS[-1], label="1 / E[W²], many episodes")
        axes[2].set(title="Effective sample size", yscale="log", ylabel="share of the episodes")
        figure.legend(
            *axes[2].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False
        )
        return figure


def start(place: Place) -> tuple[Problem, SoftmaxTable, SoftmaxTable]:
    """The problem, the policy that draws the episodes and the one whose gradient is estimated."""
    problem = chain(place.horizon)
    uniform = jnp.zeros((problem.states, problem.actions))
    rightwards = uniform + jnp.array([-0.5, 0.5]) * place.distance
    return problem, SoftmaxTable(uniform), SoftmaxTable(rightwards)


@eqx.filter_jit
def _estimates(
    experiment: ImportanceWeights, problem: Problem, old: SoftmaxTable, new: SoftmaxTable, key: Key
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Of every batch. Compiled once for all distances at a horizon."""

    def of_one(episodes: Episodes) -> tuple[dict[str, Array], dict[str, Array]]:
        return experiment.estimate(data_of(problem, old, new, episodes))

    return in_batches(of_one, draw(problem, old, key, (experiment.batches, experiment.episodes)), at_once=100)


def second_moment(problem: Problem, old: SoftmaxTable, new: SoftmaxTable) -> float:
    """E_old[W²] = E_old[Π_t ρ_t²], exactly: the chain run forward with the measure π²/π_old."""
    pi, pi_old = (action_probabilities(problem, policy) for policy in (new, old))
    measure = problem.start
    for _ in range(problem.horizon or 0):
        measure = jnp.einsum("s,sa,sap->p", measure, pi**2 / pi_old, problem.mdp.transitions)
    return float(measure.sum())


def mean_kl(problem: Problem, old: SoftmaxTable, new: SoftmaxTable) -> float:
    """KL(old ‖ new), averaged over the steps of the old policy, exactly."""
    occupied = exact.solve(problem, action_probabilities(problem, old)).state_distribution
    return float(occupied @ old(problem.observations).kl(new(problem.observations)))


def _rows(found: Found) -> tuple[tuple[Cell, ...], ...]:
    kl = {place: mean_kl(*start(place)) for place in found}
    return tuple(
        (
            place.horizon,
            place.distance,
            kl[place],
            name,
            w.quality.bias,
            w.quality.standard_error,
            w.quality.variance,
            w.sample_size,
        )
        for place, kinds in found.items()
        for name, w in kinds.items()
    )


def _lines(
    axes: Axes, found: Found, places: Sequence[Place], along: str, of: Callable[[Weighted], float]
) -> None:
    x = [getattr(place, along) for place in places]
    for i, name in enumerate(WEIGHTS):
        y = [of(found[place][name]) for place in places]
        colour, style = COLOURS[i // len(_STYLES)], _STYLES[i % len(_STYLES)]
        axes.plot(x, y, style, color=colour, markersize=4, linewidth=1, label=name)
    axes.set(xlabel=along, xticks=x, xticklabels=[f"{value:g}" for value in x])
    axes.minorticks_off()


def _ascends(values: Sequence[int | float], least: int | float) -> bool:
    return len(values) >= 2 and values[0] >= least and all(a < b for a, b in pairwise(values))


def _falls(values: Sequence[float]) -> bool:
    return all(after < before for before, after in pairwise(values))


def _shares(values: Sequence[float]) -> str:
    return " > ".join(f"{value:.1%}" for value in values)
