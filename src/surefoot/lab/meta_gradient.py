"""Meta-gradients: the bias and variance of each estimator, where the meta-gradient is known exactly."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from surefoot.lab.base import AbstractExperiment, Ascending, Claim, Result, ascends, close
from surefoot.lab.figures import COLOURS, GREY, Line, Panel
from surefoot.lab.meta_estimators import (
    DICE,
    EMAML,
    FIRST_ORDER,
    INNER,
    LOADED,
    LVC,
    PROMP,
    PSEUDO,
    PSEUDO_LOSS,
    REPTILE,
    TMAML,
    ascent,
    emaml,
    estimates,
    meta,
    promp,
    reptile,
    sample,
)
from surefoot.lab.meta_problems import (
    Tasks,
    Vector,
    adapted_parameters,
    chain_rule_gradient,
    limit,
    meta_gradient,
    sampled_objective_gradient,
    table,
    two_chains,
)
from surefoot.lab.problems import Problem, chain_policy
from surefoot.lab.sampling import Quality, in_batches, quality
from surefoot.options import Bound, Positive, at_least
from surefoot.theory.meta import AbstractMetaObjective
from surefoot.theory.objectives import loss_and_gradient
from surefoot.types import Batch, Key

UNBIASED = (TMAML, DICE)
"""Estimators without bias in the limit of many episodes; E-MAML is another, and is judged on its own."""
PLAIN = (PSEUDO_LOSS, *LOADED, DICE, FIRST_ORDER)
"""Estimators that differ by their inner loss or their order alone."""
NAMES = (*PLAIN, EMAML, REPTILE, PROMP)
FEW = 2
"""Episodes in the data sets that are listed."""


@dataclass(frozen=True)
class Measured:
    """The quality of an estimator with one number of episodes, in units of the exact gradient's norm."""

    quality: Quality
    cosine: float
    """Cosine of the angle between the mean estimate and the exact gradient."""


Found = Mapping[int, Mapping[str, Measured]]
"""By number of episodes and estimator."""


_Listed = Bound(lambda horizon: 2 <= horizon <= 5, "from 2 to 5, to list all pairs of trajectories")


@dataclass(frozen=True)
class MetaGradient(AbstractExperiment):
    """Meta-gradients: bias and variance of each method's estimate against the number of episodes.

    Two tasks share the dynamics of a chain of three states, and their rewards are at opposite ends. The
    return after one or two exact inner steps is known with all its derivatives. The theory: of the inner
    losses, DiCE alone has the exact meta-gradient in the limit of many episodes; loaded DiCE approaches it as
    λ grows from 0, the low-variance curvature (LVC) of ProMP, to 1, for more variance; TMAML's control
    variate adds no bias and can reduce that variance. With few episodes each of them has a bias, as the inner
    step itself is random; E-MAML is unbiased for the return after that random step.
    """

    horizon: Annotated[int, _Listed] = 4
    """Steps in an episode."""
    lr: Annotated[float, Positive] = 6.0
    """Rate of the inner steps."""
    episodes: Annotated[tuple[int, ...], at_least(2), Ascending] = (5, 20, 80)
    """Episodes of each task and phase, ascending."""
    inner_steps: Annotated[int, at_least(1)] = 2
    """Largest number of inner steps. One step is measured with every number of episodes, and this number with
    the second of them."""
    batches: Annotated[int, at_least(100)] = 2000
    """Number of meta-batches."""

    def measure(self, seed: int) -> Result:
        tasks, vector = self.start()
        key, counts = jax.random.key(seed), range(1, self.inner_steps + 1)
        limits = {steps: limits_of(tasks, vector, steps) for steps in counts}
        truths = {steps: meta_gradient(tasks, vector, steps) for steps in counts}
        found = {n: self.compare(tasks, vector, jax.random.fold_in(key, n), n) for n in self.episodes}
        measured_at = [(1, n, kinds) for n, kinds in found.items()]
        if self.inner_steps > 1:
            several = self.compare(
                tasks, vector, jax.random.fold_in(key, 0), self.episodes[1], self.inner_steps
            )
            measured_at.append((self.inner_steps, self.episodes[1], several))
        rows = [
            (
                steps,
                n,
                name,
                *(x.quality.bias, x.quality.standard_error, x.quality.variance, x.cosine),
                bias_of(limits[steps][name], truths[steps]) if name in limits[steps] else "",
            )
            for steps, n, kinds in measured_at
            for name, x in kinds.items()
        ]
        columns = (
            "inner steps, episodes, estimator, bias / ‖∇M‖, its standard error, variance / ‖∇M‖², cosine, "
            "bias in the limit"
        )
        title = "Meta-gradients: bias and variance of each estimator"
        claims = [
            *self._exact_claims(tasks, vector, truths, limits),
            *self._sampled_claims(found, measured_at),
            *self._few_claims(tasks, vector, jax.random.fold_in(key, 1)),
            *self._first_step_claims(tasks, vector, jax.random.fold_in(key, 2)),
        ]
        return Result(title, columns.split(", "), rows, self._panels(found, limits[1], truths[1]), claims)

    def start(self) -> tuple[Tasks, Vector]:
        """The tasks, and the parameters at which the meta-gradient is estimated."""
        return two_chains(self.horizon, self.lr), chain_policy().table.reshape(-1)

    def compare(
        self, tasks: Tasks, vector: Vector, key: Key, episodes: int, steps: int = 1
    ) -> dict[str, Measured]:
        """Every estimator, on the same data."""
        moved = moved_parameters(tasks, vector, steps)
        keys = jax.random.split(key, self.batches)
        sampled = in_batches(lambda k: estimates(tasks, vector, moved, k, episodes, steps), keys, at_once=100)
        return {
            name: measured(
                sampled[name], meta_gradient(tasks, moved if name == PROMP else vector, steps), episodes
            )
            for name in NAMES
        }

    def _exact_claims(
        self,
        tasks: Tasks,
        vector: Vector,
        truths: Mapping[int, Vector],
        limits: Mapping[int, Mapping[str, Vector]],
    ) -> list[Claim]:
        chain_rule = max(bias_of(chain_rule_gradient(tasks, vector, k), truths[k]) for k in truths)
        dice = max(bias_of(limits[k][name], truths[k]) for k in truths for name in UNBIASED)
        along = {k: [bias_of(limits[k][name], truths[k]) for name in LOADED] for k in truths}
        return [
            close(
                "The gradient of the exact return after one step, or several, is that of the chain rule with "
                "exact Hessians, relative to 1e-10",
                chain_rule,
                1e-10,
            ),
            close(
                "With all trajectories as data, DiCE has the exact meta-gradient of one step, or several, "
                "with the control variate and without, relative to 1e-10",
                dice,
                1e-10,
            ),
            Claim(
                "Then the bias of loaded DiCE falls as λ grows, for every number of steps",
                all(ascends(x[::-1]) for x in along.values()),
                "; ".join(" > ".join(f"{x:.1%}" for x in values) for values in along.values()),
            ),
            close(
                "Of a softmax table the log-likelihood's expected second derivative is zero: with one step "
                "it is first order, relative to 1e-10",
                bias_of(limits[1][PSEUDO_LOSS], limits[1][FIRST_ORDER]),
                1e-10,
            ),
        ]

    def _sampled_claims(
        self, found: Found, measured_at: Sequence[tuple[int, int, Mapping[str, Measured]]]
    ) -> list[Claim]:
        most = found[self.episodes[-1]]
        falling = [[found[n][name].quality.bias for n in self.episodes] for name in UNBIASED]
        biased = (PSEUDO_LOSS, LVC, FIRST_ORDER)
        along = [found[self.episodes[0]][name].quality.variance for name in LOADED]
        ratios = [kinds[TMAML].quality.variance / kinds[DICE].quality.variance for _, _, kinds in measured_at]
        return [
            Claim(
                "The bias of DiCE falls with the number of episodes, with the control variate and without",
                all(ascends(x[::-1]) for x in falling),
                "; ".join(" > ".join(f"{x:.1%}" for x in values) for values in falling),
            ),
            Claim(
                "At the most episodes the means of the log-likelihood, LVC and first order are outside the "
                "99.99% confidence region of the exact meta-gradient",
                not any(most[name].quality.unbiased for name in biased),
                ", ".join(f"{most[name].quality.bias:.1%}" for name in biased),
            ),
            Claim(
                "With the fewest episodes the variance of loaded DiCE grows with λ",
                ascends(along),
                " < ".join(f"{x:.1f}" for x in along),
            ),
            Claim(
                "With the fewest episodes TMAML's control variate reduces the variance of DiCE",
                ratios[0] < 1.0,
                f"to {ratios[0]:.0%}; with more episodes, and then with more steps, to "
                + ", ".join(f"{x:.0%}" for x in ratios[1:]),
            ),
            Claim(
                "E-MAML has the largest variance, at every number of episodes",
                all(max(kinds, key=lambda x: kinds[x].quality.variance) == EMAML for kinds in found.values()),
                ", ".join(
                    f"{kinds[EMAML].quality.variance / kinds[PSEUDO_LOSS].quality.variance:.1f} times MAML's"
                    for kinds in found.values()
                ),
            ),
        ]

    def _few_claims(self, tasks: Tasks, vector: Vector, key: Key) -> list[Claim]:
        """Claims on what E-MAML estimates without bias: the return after the step of a few episodes."""
        truth = sampled_objective_gradient(tasks, vector, FEW)
        objectives = {
            "MAML": meta(tasks, PSEUDO),
            EMAML: emaml(tasks),
            "with surrogate": emaml(tasks, INNER[LVC]),
        }

        def of_one(key: Key) -> dict[str, Array]:
            data = sample(tasks, vector, key, FEW, 1)
            return {name: ascent(tasks, x, vector, vector, data) for name, x in objectives.items()}

        drawn = in_batches(of_one, jax.random.split(key, 10 * self.batches), at_once=500)
        # Less the unbiased estimator, on the same data, what differs is seen through far less noise.
        drawn["with surrogate"] = truth + drawn["with surrogate"] - drawn[EMAML]
        found = {name: measured(x, truth, FEW).quality for name, x in drawn.items()}
        return [
            Claim(
                f"E-MAML with the log-likelihood is unbiased for the return after a step on {FEW} episodes: "
                "its mean is within the 99.99% confidence region of the exact gradient (data sets listed)",
                found[EMAML].unbiased,
                f"p-value {found[EMAML].p_value:.2g}",
            ),
            Claim(
                "For that return MAML is biased, and so is E-MAML with the surrogate as its inner loss, "
                "which counts the effect of the sampling twice",
                not (found["MAML"].unbiased or found["with surrogate"].unbiased),
                f"{found['MAML'].bias:.1%} and {found['with surrogate'].bias:.1%}",
            ),
        ]

    def _first_step_claims(self, tasks: Tasks, vector: Vector, key: Key) -> list[Claim]:
        """Claims on two methods' objectives on one meta-batch with one inner step."""
        data = eqx.filter_jit(sample)(tasks, vector, key, self.episodes[0], 1)

        def of(objective: AbstractMetaObjective) -> Vector:
            return eqx.filter_jit(ascent)(tasks, objective, vector, vector, data)

        @jax.vmap
        def pooled(problem: Problem, batch: Batch) -> Vector:
            _, gradient = loss_and_gradient(PSEUDO, table(vector, problem), batch)
            return -tasks.horizon * gradient.table.reshape(-1)

        support = pooled(tasks.problems, data[0].support[0])
        return [
            close(
                "ProMP at its first step is LVC, relative to 1e-10",
                bias_of(of(promp(tasks, 1)), of(meta(tasks, INNER[LVC]))),
                1e-10,
            ),
            close(
                "Reptile with one inner step is the mean over tasks of the gradient before adaptation, "
                "relative to 1e-10",
                bias_of(of(reptile(tasks)) / tasks.lr, jnp.mean(support, axis=0)),
                1e-10,
            ),
        ]

    def _panels(self, found: Found, limits: Mapping[str, Vector], truth: Vector) -> list[Panel]:
        colours: dict[str, str] = dict(zip((PSEUDO_LOSS, LVC, TMAML, DICE, EMAML), COLOURS, strict=False))
        n = list(found)

        def curve(name: str, value: str) -> list[float]:
            return [getattr(kinds[name].quality, value) for kinds in found.values()]

        place = list(range(len(n)))
        biases = [
            Line(place, curve(name, "bias"), name, colour, "-o")
            for name, colour in colours.items()
            if name != EMAML  # which has too much variance to see it
        ]
        biases += [
            Line((0, place[-1]), (x, x), "", colours[name], ":")
            for name in (PSEUDO_LOSS, LVC)
            for x in [bias_of(limits[name], truth)]
        ]
        variances = [
            Line(place, curve(name, "variance"), name * (name == EMAML), colour, "-o")
            for name, colour in colours.items()
        ]
        few = found[n[0]]
        along = [
            Line(
                [few[name].quality.variance],
                [bias_of(limits[name], truth)],
                "",
                colours.get(name, GREY),
                "o",
                notes=[f"λ = {LOADED[name]:g}"],
            )
            for name in LOADED
        ]
        axes = {"yscale": "log", "xticks": place, "xticklabels": n}
        return [
            Panel("Bias; dotted: with all trajectories", "episodes", "‖E g − ∇M‖ / ‖∇M‖", biases, axes),
            Panel("Variance per episode", "episodes", "N tr Cov g / ‖∇M‖²", variances, axes),
            Panel(
                f"Loaded DiCE, {n[0]} episodes", "variance per episode", "bias with all trajectories", along
            ),
        ]


def moved_parameters(tasks: Tasks, vector: Vector, steps: int) -> Vector:
    """The parameters after four steps of length 0.1 along the exact meta-gradient: where a method of five
    steps takes its last."""
    for _ in range(4):
        gradient = meta_gradient(tasks, vector, steps)
        vector = vector + 0.1 * gradient / jnp.linalg.norm(gradient)
    return vector


def limits_of(tasks: Tasks, vector: Vector, steps: int) -> dict[str, Vector]:
    """The estimators' values with all trajectories as data. E-MAML has none: its term is the effect of a
    finite set of data."""
    found = {name: limit(tasks, vector, inner, steps) for name, inner in INNER.items()}
    found[FIRST_ORDER] = limit(tasks, vector, PSEUDO, steps, first_order=True)
    found[REPTILE] = reptile_limit(tasks, vector, steps)
    return found


def reptile_limit(tasks: Tasks, vector: Vector, steps: int) -> Vector:
    """mean (θ_K − θ) T/(α K), the mean gradient on the way."""
    end = tasks.mean(lambda task: adapted_parameters(task, vector, steps))
    return (end - vector) * tasks.horizon / (tasks.lr * steps)


def measured(sampled: Array, truth: Vector, episodes: int) -> Measured:
    """The quality of estimates in units of the norm of the truth."""
    scale, mean = jnp.linalg.norm(truth), jnp.mean(sampled, axis=0)
    cosine = mean @ truth / (jnp.linalg.norm(mean) * scale)
    return Measured(quality(sampled / scale, truth / scale, episodes), float(cosine))


def bias_of(value: Vector, truth: Vector) -> float:
    """‖value − truth‖ / ‖truth‖."""
    return float(jnp.linalg.norm(value - truth) / jnp.linalg.norm(truth))
