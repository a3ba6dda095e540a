"""Importance weights: their variance and effective sample size as horizon and policy distance grow."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from surefoot.lab.base import AbstractExperiment, Ascending, Claim, Result, ascends
from surefoot.lab.exact import policy_gradient, solve
from surefoot.lab.figures import COLOURS, GREY, Line, Panel
from surefoot.lab.importance_estimators import MARGINAL, UNBIASED, Data, data_of
from surefoot.lab.problems import Episodes, Problem, SoftmaxTable, chain
from surefoot.lab.sampling import Quality, draw, in_batches, least_p_value, quality
from surefoot.options import NonNegative, Positive, at_least
from surefoot.theory.importance import Weighting, clip_weights, effective_sample_size, self_normalise
from surefoot.types import Key

REDUCED = (", clipped", ", self-normalised")
"""Changes to the weights that reduce the variance."""
WEIGHTS = (*(kind + change for kind in UNBIASED for change in ("", *REDUCED)), MARGINAL)
"""Every kind of weights, the unbiased ones with and without a change."""


@dataclass(frozen=True)
class Weighted:
    """The quality of a kind of weights on one problem and one pair of policies."""

    quality: Quality
    """The estimates, relative to ‖∇J‖."""
    sample_size: float
    """The effective sample size as a fraction of the episodes: the mean over steps and batches."""


class Setting(NamedTuple):
    """A horizon, and the distance of the new policy's logits from the old one's."""

    horizon: int
    distance: float


Found = Mapping[Setting, Mapping[str, Weighted]]


@dataclass(frozen=True)
class ImportanceWeights(AbstractExperiment):
    """Importance weights: variance and effective sample size as horizon and policy distance grow.

    A uniform policy samples episodes of a chain of three states, and the gradient of a policy that goes right
    more often is estimated. The theory: weights of the trajectory and per decision leave it unbiased, but
    their effective sample size, N / E[W²], falls exponentially with the horizon. Weights per decision usually
    have less variance, but not always (Liu et al., 2020). The weight of the step alone is biased, and its
    effective sample size does not depend on the horizon. Clipping and self-normalisation reduce the variance
    and add a bias.
    """

    horizons: Annotated[tuple[int, ...], at_least(1), Ascending] = (4, 8, 16)
    """Steps in an episode, ascending; each at the middle distance."""
    distances: Annotated[tuple[float, ...], NonNegative, Ascending] = (0.5, 1.0, 2.0)
    """Distances of the logits, ascending; each at the first horizon."""
    limit: Annotated[float, Positive] = 2.0
    """Largest weight after clipping."""
    episodes: Annotated[int, at_least(2)] = 50
    """Episodes in a batch."""
    batches: Annotated[int, at_least(100)] = 1000
    """Number of batches."""

    @property
    def by_horizon(self) -> list[Setting]:
        """The settings with a growing horizon."""
        return [Setting(horizon, self.distances[len(self.distances) // 2]) for horizon in self.horizons]

    @property
    def by_distance(self) -> list[Setting]:
        """The settings with a growing distance."""
        return [Setting(self.horizons[0], distance) for distance in self.distances]

    def measure(self, seed: int) -> Result:
        settings = dict.fromkeys((*self.by_horizon, *self.by_distance))
        found = {setting: self.compare(setting, seed) for setting in settings}
        rows = [
            (*setting, kl, name, x.quality.bias, x.quality.standard_error, x.quality.variance, x.sample_size)
            for setting, kinds in found.items()
            for kl in [mean_kl(*start(setting))]
            for name, x in kinds.items()
        ]
        columns = (
            "horizon, distance, KL, weights, bias / ‖∇J‖, its standard error, variance / ‖∇J‖², "
            "sample size / N"
        )
        title = "Importance weights: variance and effective sample size"
        return Result(title, columns.split(", "), rows, self._panels(found), self._claims(found))

    def compare(self, setting: Setting, seed: int) -> dict[str, Weighted]:
        """Every kind of weights, on the same episodes."""
        problem, old, new = start(setting)
        key = jax.random.fold_in(jax.random.key(seed), setting.horizon)
        estimates, sizes = _estimates(self, problem, old, new, key)
        truth = policy_gradient(problem, new)
        scale = jnp.linalg.norm(truth)
        return {
            name: Weighted(
                quality(estimates[name] / scale, truth / scale, self.episodes),
                float(jnp.mean(sizes[name]) / self.episodes),
            )
            for name in WEIGHTS
        }

    def estimate(self, data: Data) -> tuple[dict[str, Array], dict[str, Array]]:
        """The gradient from one batch, and the mean effective sample size of its steps, for every kind."""
        weights: dict[str, tuple[Weighting, Array]] = {MARGINAL: (MARGINAL, data.weights(MARGINAL))}
        for kind in UNBIASED:
            w = data.weights(kind)
            changed = (w, clip_weights(w, self.limit), self_normalise(w))
            weights |= {kind + name: (kind, x) for name, x in zip(("", *REDUCED), changed, strict=True)}
        gradients = {name: data.gradient(kind, w) for name, (kind, w) in weights.items()}
        sizes = {name: jnp.mean(jax.vmap(effective_sample_size, 1)(w)) for name, (_, w) in weights.items()}
        return gradients, sizes

    def _claims(self, found: Found) -> list[Claim]:
        short = self.horizons[1]
        exact = [found[x][kind].quality for x in found if x.horizon <= short for kind in UNBIASED]
        pairs = [[kinds[kind].quality.variance for kind in UNBIASED] for kinds in found.values()]
        ratios = [per_decision / trajectory for trajectory, per_decision in pairs]
        sizes = [found[x]["trajectory"].sample_size for x in self.by_horizon]
        sizes_apart = [found[x]["trajectory"].sample_size for x in self.by_distance]
        apart, far = found[self.by_distance[-1]][MARGINAL].quality, found[self.by_horizon[-1]]
        marginal, variances = far[MARGINAL].quality, [far[kind].quality.variance for kind in UNBIASED]
        larger = all(far[MARGINAL].sample_size > far[kind].sample_size for kind in UNBIASED)
        reduced = [(far[kind + name].quality, far[kind].quality) for kind in UNBIASED for name in REDUCED]
        biases = [x.bias for x, _ in reduced]
        return [
            Claim(
                f"Weights of the trajectory and per decision are unbiased: to {short} steps, the mean is "
                "within the 99.99% confidence region of the exact gradient",
                all(x.unbiased for x in exact),
                least_p_value(exact),
            ),
            Claim(
                "Here, at every setting, weights per decision have no more variance than the trajectory's",
                max(ratios) <= 1.0,
                f"{min(ratios):.3f} to {max(ratios):.3f} of it",
            ),
            Claim(
                "The effective sample size of the trajectory's weights falls with horizon and distance",
                ascends(sizes[::-1]) and ascends(sizes_apart[::-1]),
                f"{' > '.join(f'{x:.1%}' for x in sizes)} of the episodes, and "
                f"{' > '.join(f'{x:.1%}' for x in sizes_apart)}",
            ),
            Claim(
                "The marginal weight is biased where the policies differ most, by more than chance",
                not apart.unbiased,
                f"{apart.bias:.1%} of the gradient, standard error {apart.standard_error:.1%}",
            ),
            Claim(
                "At the longest horizon it has less variance and a larger sample size than the others",
                larger and marginal.variance < min(variances),
                f"variance {marginal.variance:.1f} against {' and '.join(f'{x:.1f}' for x in variances)}",
            ),
            Claim(
                "At the longest horizon clipping and self-normalisation reduce the variance and add a bias",
                all(x.variance < plain.variance and not x.unbiased for x, plain in reduced),
                f"bias {min(biases):.0%} to {max(biases):.0%} of the gradient",
            ),
        ]

    def _panels(self, found: Found) -> list[Panel]:
        styles = [(colour, style) for colour in COLOURS for style in ("-o", ":^", "--s")]

        def panel(title: str, ylabel: str, along: str, value: Callable[[Weighted], float], *more: Line):
            settings = self.by_horizon if along == "horizon" else self.by_distance
            x = [getattr(setting, along) for setting in settings]
            label = along == "distance"  # One legend, in the middle, is enough for three panels.
            lines = [
                Line(x, [value(found[setting][name]) for setting in settings], name * label, *style)
                for name, style in zip(WEIGHTS, styles, strict=False)
            ]
            axis = "distance of the policies (logits)" if along == "distance" else "horizon [steps]"
            return Panel(title, axis, ylabel, [*lines, *more], {"yscale": "log", "xticks": x})

        predicted = [1 / second_moment(*start(setting)) for setting in self.by_horizon]
        limit = Line(self.horizons, predicted, "1 / E[W²], many episodes", GREY)
        relative = "tr Cov g / ‖∇J‖²"
        return [
            panel("Variance as the horizon grows", relative, "horizon", lambda x: x.quality.variance),
            panel("Variance as the distance grows", relative, "distance", lambda x: x.quality.variance),
            panel("Effective sample size", "fraction of episodes", "horizon", lambda x: x.sample_size, limit),
        ]


def start(setting: Setting) -> tuple[Problem, SoftmaxTable, SoftmaxTable]:
    """The problem, the policy that samples the episodes and the one whose gradient is estimated."""
    problem = chain(setting.horizon)
    uniform = jnp.zeros((problem.states, problem.actions))
    right = uniform + jnp.array([-0.5, 0.5]) * setting.distance
    return problem, SoftmaxTable(uniform), SoftmaxTable(right)


@eqx.filter_jit
def _estimates(
    experiment: ImportanceWeights, problem: Problem, old: SoftmaxTable, new: SoftmaxTable, key: Key
) -> tuple[dict[str, Array], dict[str, Array]]:
    """`experiment.estimate` of every batch. It is compiled once for all distances at a horizon."""

    def of_one(episodes: Episodes) -> tuple[dict[str, Array], dict[str, Array]]:
        return experiment.estimate(data_of(problem, old, new, episodes))

    return in_batches(of_one, draw(problem, old, key, (experiment.batches, experiment.episodes)), at_once=100)


def second_moment(problem: Problem, old: SoftmaxTable, new: SoftmaxTable) -> float:
    """E_old[W²] = E_old[Π_t ρ_t²], exactly: the state distribution run forward with π²/π_old for π."""
    pi, pi_old = (policy.probabilities for policy in (new, old))
    measure = problem.start
    for _ in range(problem.horizon or 0):
        measure = jnp.einsum("s,sa,sap->p", measure, pi**2 / pi_old, problem.mdp.transitions)
    return float(measure.sum())


def mean_kl(problem: Problem, old: SoftmaxTable, new: SoftmaxTable) -> float:
    """KL(old ‖ new), averaged over the steps of the old policy, exactly."""
    distribution = solve(problem, old.probabilities).state_distribution
    return float(distribution @ old.distributions.kl(new.distributions))
