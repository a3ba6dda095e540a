"""Draws the figures of the theory that are no measurements: `python docs/_figures/draw.py`.

Each is computed with the library's own formulas and written to `docs/images`.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from surefoot.lab.figures import BLUE, GREEN, GREY, RED, VIOLET, YELLOW, Line, Panel, draw
from surefoot.theory.distributions import DiagonalGaussian
from surefoot.theory.objectives import Clipped
from surefoot.theory.trust_region import project_to_ball, step_length

IMAGES = Path(__file__).parent.parent / "images"
OLD = np.array([0.0, np.log(0.5)])
"""Mean and log standard deviation of the policy in the middle of the trust region."""
DELTA = 0.1
BEST = 1.0
"""The advantage of an action a is −(a − 1)², up to a constant."""


def gaussian(parameters: np.ndarray) -> DiagonalGaussian:
    """The policy of two parameters."""
    mean, log_std = jnp.asarray(parameters, jnp.float32)[:, None]
    return DiagonalGaussian(mean, log_std)


def loss(mean: np.ndarray, log_std: np.ndarray) -> np.ndarray:
    """The surrogate loss: E[(a − 1)²] = (μ − 1)² + σ²."""
    return (mean - BEST) ** 2 + np.exp(2 * log_std)


def trust_region() -> dict[str, np.ndarray]:
    """The points of the figure: ellipse, ball, exact region, both steps, and the lengths that are tried."""
    sigma = np.exp(OLD[1])
    fisher = np.array([1 / sigma**2, 2.0])
    gradient = np.array([2 * (OLD[0] - BEST), 2 * sigma**2])
    angle = np.linspace(0, 2 * np.pi, 200)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    axes = np.sqrt(2 * DELTA / fisher)
    radius = float(np.sqrt(axes.prod()))
    natural = gradient / fisher
    full = -float(step_length(DELTA, jnp.asarray(natural @ (fisher * natural)))) * natural
    tried = np.array([OLD + 0.8**k * full for k in range(4)])
    inside = [
        k for k, x in enumerate(tried) if gaussian(OLD).kl(gaussian(x)) <= DELTA and loss(*x) < loss(*OLD)
    ]
    plain = np.asarray(project_to_ball(jnp.asarray(-100 * gradient), radius))
    narrower = np.linspace(-1, 1, 4001)
    squared = 2 * sigma**2 * np.exp(2 * narrower) * (DELTA + 0.5 - narrower) - sigma**2
    half = np.sqrt(squared[squared >= 0])
    width = narrower[squared >= 0]
    exact = np.concatenate([np.stack([half, width], 1), np.stack([-half, width], 1)[::-1]])
    return {
        "ellipse": OLD + axes * circle,
        "ball": OLD + radius * circle,
        "exact": OLD + exact,
        "tried": tried,
        "accepted": tried[inside[0]],
        "plain": OLD + plain,
    }


def draw_trust_region() -> bytes:
    """Two parameters: the ball and its plain step, the ellipse and its natural step."""
    found = trust_region()
    x, y = np.linspace(-0.5, 0.6, 80), np.linspace(-1.25, -0.15, 80)
    contours = (x, y, loss(*np.meshgrid(x, y)))
    ball, ellipse, exact = (found[name].T for name in ("ball", "ellipse", "exact"))
    way, plain = np.stack([OLD, found["tried"][0]]).T, np.stack([OLD, found["plain"]]).T
    old = Line(OLD[:1], OLD[1:], "old policy", "black", "s")
    parameters = ("mean μ of the action", "log standard deviation, log σ")
    return draw(
        "Two trust regions of equal area, and the step that is best in each",
        [
            Panel(
                "Ball: the plain gradient",
                *parameters,
                [Line(*ball, "ball, ‖Δθ‖ ≤ r", RED), Line(*plain, "step of length r", RED, "o--"), old],
                {"aspect": "equal"},
                contours,
            ),
            Panel(
                "Ellipse: the natural gradient",
                *parameters,
                [
                    Line(*ellipse, "ellipse, ½ ΔθᵀFΔθ ≤ δ", BLUE),
                    Line(*exact, "exact, KL ≤ δ", GREEN, "--"),
                    Line(*way, "natural step", BLUE, "--"),
                    Line(*found["tried"].T, "lengths tried", YELLOW, "o"),
                    Line(*found["accepted"][:, None], "accepted", GREEN, "*", 10.0),
                    old,
                ],
                {"aspect": "equal"},
                contours,
            ),
        ],
    )


def draw_clip(epsilon: float = 0.2) -> bytes:
    """PPO's objective of one step against the ratio, for a good and for a bad action."""
    ratio = np.linspace(0.01, 2.0, 400)

    def panel(advantage: float, title: str) -> Panel:
        clipped = -np.asarray(
            Clipped(epsilon)(jnp.log(jnp.asarray(ratio)), jnp.zeros(len(ratio)), jnp.asarray(advantage))
        )
        bounds = [Line((x, x), (-2.2, 2.2), "", GREY, ":") for x in (1 - epsilon, 1 + epsilon)]
        lines = [
            Line(ratio, advantage * ratio, "ρ A, the surrogate", GREY, "--"),
            Line(ratio, clipped, "PPO, min(ρ A, clip(ρ) A)", BLUE),
            Line((1.0,), (advantage,), "old policy, ρ = 1", "black", "s"),
        ]
        return Panel(
            title, "ratio ρ", "to be maximised", [*bounds, *lines], {"ylim": (-2.2, 2.2), "xlim": (0, 2)}
        )

    return draw(
        f"PPO's clip, ε = {epsilon:g}: nothing is gained beyond the dotted lines",
        [panel(1.0, "A = 1: a good action"), panel(-1.0, "A = −1: a bad action")],
    )


CENTRES = np.array([[1.0, 0.9], [1.2, -0.8], [-0.9, 0.5]])
"""The best parameters of three tasks."""
CURVATURES = np.array([[3.0, 1.0], [1.0, 3.0], [2.0, 2.0]])
RATE = 0.25
OUTER = 0.6


def task_loss(parameters: jax.Array, task: int) -> jax.Array:
    """½ Σ_j a_j (θ_j − c_j)²."""
    return 0.5 * jnp.sum(CURVATURES[task] * (parameters - CENTRES[task]) ** 2)


def adapted(parameters: jax.Array, task: int) -> jax.Array:
    """θ' = θ − α ∇L(θ)."""
    return parameters - RATE * jax.grad(task_loss)(parameters, task)


def maml() -> dict[str, np.ndarray]:
    """The inner steps of each task, and the outer step of both orders."""
    start = jnp.array([-0.6, -0.9])
    tasks = range(len(CENTRES))
    ends = jnp.stack([adapted(start, task) for task in tasks])
    slopes = [jax.grad(task_loss)(end, task) for task, end in zip(tasks, ends, strict=True)]
    whole = [jax.grad(lambda x, task=task: task_loss(adapted(x, task), task))(start) for task in tasks]
    first, second = (start - OUTER * jnp.mean(jnp.stack(x), axis=0) for x in (slopes, whole))
    moved = jnp.stack([adapted(second, task) for task in tasks])
    found = {"start": start, "ends": ends, "first": first, "second": second, "moved": moved}
    return {name: np.asarray(x) for name, x in found.items()}


def draw_maml() -> bytes:
    """The two steps of MAML in two parameters."""
    found, colours = maml(), (BLUE, RED, GREEN)
    inner, outer = [], []
    for i, colour in enumerate(colours):
        name = f"task {i + 1}"
        inner.append(
            Line(*np.stack([found["start"], found["ends"][i]]).T, f"inner step, {name}", colour, "o-")
        )
        outer.append(Line(*np.stack([found["second"], found["moved"][i]]).T, "", colour, "o-"))
        best = Line(CENTRES[i, :1], CENTRES[i, 1:], f"best of {name}", colour, "*", 10.0)
        inner.append(best)
        outer.append(best)
    start = Line(found["start"][:1], found["start"][1:], "θ before", "black", "s")
    step = Line(*np.stack([found["start"], found["second"]]).T, "outer step", VIOLET, "s--", 5.0)
    first = Line(*np.stack([found["start"], found["first"]]).T, "outer step, first order", GREY, "s:")
    axes = {"aspect": "equal", "xlim": (-1.3, 1.6), "ylim": (-1.3, 1.3)}
    return draw(
        "MAML: an inner step adapts to a task, the outer step moves its start",
        [
            Panel("Inner steps from θ", "first parameter", "second parameter", [*inner, start], axes),
            Panel(
                "Outer step, then inner steps again",
                "first parameter",
                "second parameter",
                [first, step, *outer, start],
                axes,
            ),
        ],
    )


if __name__ == "__main__":
    for name, make in (("trust_region", draw_trust_region), ("clip", draw_clip), ("maml", draw_maml)):
        (IMAGES / f"{name}.png").write_bytes(make())
