"""MAML's policy (docs/theory/meta.md) exported: another process adapts it without surefoot, by JAX alone."""

import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np


def main(iterations: int = 20) -> None:
    import surefoot  # the second process does without

    with tempfile.TemporaryDirectory() as folder:
        learner = surefoot.Learner("navigation-2d/maml-trpo", options={"policy.hidden": (32,), "tasks": 10})
        learner.train(iterations, progress=False).export(f"{folder}/out")
        print(subprocess.check_output([sys.executable, __file__, f"{folder}/out"], text=True), end="")


def adapt_to(goal: np.ndarray, folder: Path) -> None:
    programs = ((folder / f"{name}.stablehlo").read_bytes() for name in ("adapted_policy", "adapt"))
    policy, adapt = (jax.jit(jax.export.deserialize(bytearray(program)).call) for program in programs)
    parameters, no = dict(np.load(folder / "parameters.npz")), np.zeros((20, 100), bool)
    ends = {"terminated": no, "truncated": no, "valid": ~no}  # of 20 episodes of 100 steps
    for phase in range(4):
        at, actions = [np.zeros((20, 2), np.float32)], []
        for time in range(100):
            actions.append(policy(parameters, at[-1], np.array([phase, time], np.uint32))["action"])
            at.append(at[-1] + np.clip(actions[-1], -0.1, 0.1))
        before, after = np.stack(at[:-1], axis=1), np.stack(at[1:], axis=1)
        rewards = -np.linalg.norm(after - goal, axis=-1)
        print(f"after {phase} steps: return {rewards.sum(1).mean():.1f};", f"{'surefoot' in sys.modules = }")
        seen = {"observations": before, "actions": np.stack(actions, axis=1), "rewards": rewards}
        parameters = adapt(parameters, {**ends, **seen, "final_observations": after[:, -1:]})


if __name__ == "__main__":
    adapt_to(np.array([0.3, -0.2], np.float32), Path(sys.argv[1])) if sys.argv[1:] else main()
