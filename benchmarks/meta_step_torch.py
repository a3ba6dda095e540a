"""The meta-step as it is usually written in PyTorch: the tasks in a Python loop, one after another.

The inner gradient is taken with `create_graph=True`; products with the curvature are double backward passes
through the KL between the adapted policies and themselves; gradient and line search go through the adaptation
anew. Three ways differ in what they keep alive:

- `rebuilt`: each product builds the graph of all tasks, and drops it;
- `kept`: the graph of all tasks is built once and serves every product;
- `task by task`: each product builds and drops the graph of one task at a time.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from harness import cores
from meta_step_problem import Arrays, Problem, direction, load
from torch import Tensor  # pyright: ignore[reportMissingImports]
from torch.nn.functional import softplus  # pyright: ignore[reportMissingImports]

Set = dict[str, Tensor]
Prediction = tuple[Tensor, Tensor]
Task = tuple[Set, Set]


def log_prob(prediction: Prediction, actions: Tensor) -> Tensor:
    mean, log_std = prediction
    z = (actions - mean) * torch.exp(-log_std)
    return -0.5 * (z**2).sum(-1) - log_std.sum() - 0.5 * math.log(2 * math.pi) * len(log_std)


def kl(old: Prediction, new: Prediction) -> Tensor:
    """KL(old ‖ new), averaged over steps."""
    ratio = torch.exp(2 * (old[1] - new[1]))
    distance = ((old[0] - new[0]) * torch.exp(-new[1])) ** 2
    return (new[1] - old[1] + 0.5 * (ratio + distance - 1)).sum(-1).mean()


def flat(tensors: Any) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


class Side:
    """PyTorch's side of the comparison, in one of the three ways."""

    def __init__(self, problem: Problem, path: Path, way: str) -> None:
        torch.set_num_threads(cores())
        self._problem, self._keep = problem, way == "kept"
        parameters, support, query, self._min_log_std = load(path)
        self._parameters = [torch.from_numpy(x).requires_grad_() for x in parameters]
        self._tasks = list(zip(_of_tasks(support), _of_tasks(query), strict=True))
        self._groups = [[task] for task in self._tasks] if way == "task by task" else [self._tasks]

    def predict(self, parameters: list[Tensor], x: Tensor) -> Prediction:
        *network, raw_log_std = parameters
        depth = len(network) // 2
        for layer in range(depth):
            x = torch.addmm(network[depth + layer], x, network[layer])
            x = torch.tanh(x) if layer < depth - 1 else x
        return x, self._min_log_std + softplus(raw_log_std - self._min_log_std)

    def adapt(self, parameters: list[Tensor], support: Set, create_graph: bool) -> list[Tensor]:
        prediction = self.predict(parameters, support["observations"])
        loss = -(log_prob(prediction, support["actions"]) * support["advantages"]).mean()
        gradient = torch.autograd.grad(loss, parameters, create_graph=create_graph)
        return [p - self._problem.inner_lr * g for p, g in zip(parameters, gradient, strict=True)]

    def adapted_prediction(self, parameters: list[Tensor], task: Task, create_graph: bool) -> Prediction:
        support, query = task
        return self.predict(self.adapt(parameters, support, create_graph), query["observations"])

    def loss(self, prediction: Prediction, query: Set) -> Tensor:
        ratio = torch.exp(log_prob(prediction, query["actions"]) - query["log_probs"])
        return -(ratio * query["advantages"]).mean()

    def loss_and_gradient(self) -> tuple[Tensor, Tensor]:
        total, gradient = torch.zeros(()), torch.zeros(())
        for group in self._groups:
            losses = [
                self.loss(self.adapted_prediction(self._parameters, task, True), task[1]) for task in group
            ]
            loss = torch.stack(losses).sum() / len(self._tasks)
            gradient = gradient + flat(torch.autograd.grad(loss, self._parameters))
            total = total + loss.detach()
        return total, gradient

    def kl_slope(self, group: list[Task]) -> Tensor:
        """The gradient of the mean KL, zero in value, with the graph that its curvature is taken from."""
        kls = []
        for task in group:
            mean, log_std = self.adapted_prediction(self._parameters, task, True)
            kls.append(kl((mean.detach(), log_std.detach()), (mean, log_std)))
        mean_kl = torch.stack(kls).sum() / len(self._tasks)
        return flat(torch.autograd.grad(mean_kl, self._parameters, create_graph=True))

    def fisher(self) -> Callable[[Tensor], Tensor]:
        """v -> F v, the derivative of ⟨∇KL, v⟩."""
        kept = [self.kl_slope(group) for group in self._groups] if self._keep else None

        def product(vector: Tensor) -> Tensor:
            total = torch.zeros_like(vector)
            for index, group in enumerate(self._groups):
                slope = kept[index] if kept else self.kl_slope(group)
                total += flat(torch.autograd.grad(slope @ vector, self._parameters, retain_graph=self._keep))
            return total

        return product

    def conjugate_gradient(self, b: Tensor) -> tuple[Tensor, Tensor]:
        """x and the residual of (F + λI) x = b."""
        fisher, damping = self.fisher(), self._problem.damping
        x, r, p = torch.zeros_like(b), b.clone(), b.clone()
        rr = r @ r
        for _ in range(self._problem.cg_iterations):
            ap = fisher(p) + damping * p
            alpha = rr / (p @ ap)
            x, r = x + alpha * p, r - alpha * ap
            previous, rr = rr, r @ r
            p = r + rr / previous * p
        return x, r

    def step(self) -> None:
        loss, gradient = self.loss_and_gradient()
        direction, residual = self.conjugate_gradient(gradient)
        length = torch.sqrt(2 * self._problem.max_kl / (direction @ (gradient - residual)))
        self._result = {"loss": float(loss), **self.line_search(-length * direction, loss)}

    def line_search(self, step: Tensor, old_loss: Tensor) -> dict[str, Any]:
        olds = [self.constant_prediction(self._parameters, task) for task in self._tasks]
        for attempt in range(self._problem.max_backtracks + 1):
            candidate = self.moved(self._problem.backtrack_ratio**attempt * step)
            loss, divergence = self.evaluate(candidate, olds)
            if loss < old_loss and divergence <= self._problem.max_kl:
                break
        else:
            raise RuntimeError("the line search found no step")
        after = {"loss_after": float(loss), "kl": float(divergence), "line_search_attempts": attempt + 1}
        return {"parameters": flat(candidate).detach().numpy(), **after}

    def evaluate(self, candidate: list[Tensor], olds: list[Prediction]) -> tuple[Tensor, Tensor]:
        losses, kls = [], []
        for task, old in zip(self._tasks, olds, strict=True):
            new = self.constant_prediction(candidate, task)
            losses.append(self.loss(new, task[1]))
            kls.append(kl(old, new))
        return torch.stack(losses).mean(), torch.stack(kls).mean()

    def constant_prediction(self, parameters: list[Tensor], task: Task) -> Prediction:
        adapted = self.adapt(parameters, task[0], create_graph=False)
        with torch.no_grad():
            return self.predict(adapted, task[1]["observations"])

    def moved(self, step: Tensor) -> list[Tensor]:
        parts = step.split([p.numel() for p in self._parameters])
        pairs = zip(self._parameters, parts, strict=True)
        return [(p.detach() + part.view_as(p)).requires_grad_() for p, part in pairs]

    def result(self) -> dict[str, Any]:
        return self._result

    def gradient(self) -> np.ndarray:
        return self.loss_and_gradient()[1].numpy()

    def product(self) -> np.ndarray:
        """The Fisher-vector product at the initial parameters, without damping."""
        return self.fisher()(torch.from_numpy(direction(self._problem))).numpy()


class Products:
    """A chain of products [rows width]·[width width], by which the machine's rate is measured."""

    def __init__(self, rows: int, width: int, length: int) -> None:
        torch.set_num_threads(cores())
        self._x, self._w, self._length = torch.ones(rows, width), torch.eye(width), length
        self.run()

    def run(self) -> None:
        x = self._x
        for _ in range(self._length):
            x = x @ self._w


def _of_tasks(arrays: Arrays) -> list[Set]:
    """One record a task, its episodes laid end to end."""
    count = len(arrays["advantages"])
    return [
        {field: torch.from_numpy(x[i].reshape(-1, *x.shape[3:])) for field, x in arrays.items()}
        for i in range(count)
    ]
