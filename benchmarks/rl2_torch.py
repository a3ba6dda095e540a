"""RL² as it is usually written in PyTorch: a GRU cell that acts, and PPO on whole sequences by `nn.GRU`.

Trials are played in one of two ways: `all at once`, with the bandits as rows of tensors, or `one at a time`,
as by samplers that step one environment after another.
"""

from typing import Any

import torch  # pyright: ignore[reportMissingImports]
from harness import cores
from rl2_problem import Problem
from torch import Tensor, nn  # pyright: ignore[reportMissingImports]
from torch.distributions import Categorical  # pyright: ignore[reportMissingImports]


class Policy(nn.Module):
    """Gated recurrent units with a linear policy and a linear value."""

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.memory = nn.GRU(problem.arms + 3, problem.units)
        self.actor = nn.Linear(problem.units, problem.arms)
        self.critic = nn.Linear(problem.units, 1)
        nn.init.orthogonal_(self.actor.weight, 0.01)

    def forward(self, inputs: Tensor, memory: Tensor | None = None) -> tuple[Categorical, Tensor, Tensor]:
        """Policy, values and memory after the steps `[time trial inputs]`."""
        features, memory = self.memory(inputs, memory)
        return Categorical(logits=self.actor(features)), self.critic(features)[..., 0], memory


class Side:
    """PyTorch's side of the comparison."""

    def __init__(self, problem: Problem, way: str) -> None:
        torch.set_num_threads(cores())
        torch.manual_seed(0)
        self._problem, self._rows = problem, problem.trials if way == "all at once" else 1
        self._policy = Policy(problem)
        self._optimiser = torch.optim.Adam(self._policy.parameters(), lr=problem.lr, eps=1e-5)
        self._returns = torch.zeros(0)

    def iterate(self, iterations: int) -> float:
        """Trains on; returns the last batch's mean total reward of a trial."""
        total = torch.zeros(())
        for _ in range(iterations):
            parts = [self._play(self._rows) for _ in range(self._problem.trials // self._rows)]
            batch = {name: torch.cat([part[name] for part in parts], dim=1) for name in parts[0]}
            total = batch["rewards"].sum(0).mean()
            self._learn(batch)
        return float(total)

    @torch.no_grad()
    def _play(self, rows: int) -> dict[str, Tensor]:
        """One trial on each of so many new bandits, axes `[time trial ...]`."""
        problem = self._problem
        probabilities = torch.rand(rows, problem.arms)
        observed, memory = torch.zeros(rows, problem.arms + 3), None
        observed[:, -1] = 1.0  # what the bandit itself shows
        seen: dict[str, list[Tensor]] = {
            name: [] for name in ("inputs", "actions", "log_probs", "values", "rewards")
        }
        for _ in range(problem.pulls):
            policy, values, memory = self._policy(observed[None], memory)
            actions = policy.sample()
            rewards = torch.bernoulli(probabilities.gather(1, actions[0][:, None]))[:, 0]
            step = (observed, actions[0], policy.log_prob(actions)[0], values[0], rewards)
            for name, value in zip(seen, step, strict=True):
                seen[name].append(value)
            observed = torch.cat(
                [
                    nn.functional.one_hot(actions[0], problem.arms),
                    rewards[:, None],
                    torch.zeros(rows, 1),
                    torch.ones(rows, 1),
                ],
                dim=1,
            )
        return {name: torch.stack(values) for name, values in seen.items()}

    def _learn(self, batch: dict[str, Tensor]) -> None:
        """Epochs of Adam on minibatches of trials."""
        problem = self._problem
        returns = batch["rewards"].flip(0).cumsum(0)
        self._returns = torch.cat([self._returns, returns.flatten()])[-10 * problem.steps :]
        rewards = batch["rewards"] / (self._returns.std() + 1e-8)
        following = torch.cat([batch["values"][1:], torch.zeros(1, problem.trials)])
        errors = rewards + problem.discount * following - batch["values"]
        advantages, running = torch.zeros_like(errors), torch.zeros(problem.trials)
        for t in reversed(range(problem.pulls)):
            running = errors[t] + problem.discount * problem.gae_lambda * running
            advantages[t] = running
        targets = advantages + batch["values"]
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        for _ in range(problem.epochs):
            for part in torch.randperm(problem.trials).chunk(problem.minibatches):
                chosen: dict[str, Any] = {name: x[:, part] for name, x in batch.items()}
                policy, values, _ = self._policy(chosen["inputs"])
                ratio = (policy.log_prob(chosen["actions"]) - chosen["log_probs"]).exp()
                gains = torch.minimum(
                    ratio * advantages[:, part], ratio.clamp(0.8, 1.2) * advantages[:, part]
                )
                loss = -gains.mean() + 0.25 * ((values - targets[:, part]) ** 2).mean()
                loss = loss - problem.entropy_bonus * policy.entropy().mean()
                self._optimiser.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(self._policy.parameters(), 0.5)
                self._optimiser.step()
