"""ProMP (Rothfuss et al., 2019): several clipped outer steps on a meta-batch, beside MAML-TRPO's single one.

Its inner loss has likelihood ratios, since after the first outer step the data are another policy's, and a KL
on each support set keeps the policies near those that drew it: see docs/theory/promp.md.
"""

import matplotlib.pyplot as plt

import surefoot
from surefoot.policies import GaussianMLP


def main(iterations: int = 40) -> None:
    figure, axes = plt.subplots()
    # A small network takes a larger rate than the preset's.
    for colour, method, options in (("C0", "maml-trpo", {}), ("C1", "promp", {"outer.lr": 3e-3})):
        policy = GaussianMLP(hidden=(32,), activation="relu", action_scale=0.1)
        learner = surefoot.Learner(f"navigation-2d/{method}", policy=policy, options={"tasks": 10, **options})
        learner.train(iterations, callback=print, progress=False)
        for when, style in (("before", ":"), ("after", "-")):
            returns = [row[f"return_{when}"] for row in learner.history]
            steps = [row["steps"] for row in learner.history]
            axes.plot(steps, returns, style, color=colour, label=f"{method}, {when} adaptation")
        print(f"{method}: return after adaptation {returns[-1]:.1f}, in the last of {iterations} iterations")

    axes.set(title="One outer step or several", xlabel="steps of the environment", ylabel="mean return")
    axes.legend(frameon=False)
    figure.savefig("12_promp.png")


if __name__ == "__main__":
    main()
