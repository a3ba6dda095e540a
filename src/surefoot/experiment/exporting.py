"""A trained policy in files that act and adapt without this library.

FOLDER/policy.stablehlo           observations and a key to actions and their distribution
FOLDER/weights.npz                the same of a perceptron, as plain arrays for NumPy
FOLDER/memory.npz                 a recurrent policy's memory at the beginning of an episode
FOLDER/adapt.stablehlo            parameters and a task's episodes to parameters after one step of adaptation
FOLDER/adapted_policy.stablehlo   parameters, observations and a key to what policy.stablehlo gives
FOLDER/parameters.npz             the parameters before the first step of adaptation
FOLDER/export.json                what the files are, with the forms of all inputs and outputs

The files of adaptation are there if the algorithm trains a policy that adapts by gradient.
"""

import json
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

from surefoot.algorithms import LearnerState
from surefoot.experiment.config import Config
from surefoot.experiment.files import make_folder, must_not_exist, npz, write_atomically
from surefoot.experiment.plain_weights import plain_weights
from surefoot.experiment.stablehlo import (
    PlainAdaptation,
    Platform,
    described,
    episode_inputs,
    first_memory,
    outputs,
    policy_inputs,
    serialised,
)
from surefoot.options import UserError, check

Files = dict[str, bytes]


def export_policy(
    config: Config,
    learner: LearnerState,
    folder: Path,
    *,
    platforms: Sequence[Platform] = ("cpu", "cuda"),
    episodes: int | None = None,
) -> dict[str, Any]:
    """Writes the policy of a learner to a new folder, and returns what `export.json` says.

    `platforms` are those that the StableHLO runs on, `episodes` the number of episodes of a step of
    adaptation, by default that of training. Raises `UserError` if there is anything at `folder`.
    """
    if not platforms:
        raise UserError("No platform is named; name one or more of cpu, cuda, rocm and tpu.")
    must_not_exist(folder, "folder")
    check(episodes is None or episodes >= 1, "episodes", episodes, "1 or more")
    acting = config.estimator.acting(learner.policy, learner.scales)
    files, said = _policy_files(acting, config, platforms)
    adapter = config.algorithm.adapter(config.estimator, learner) if config.algorithm.adapts else None
    if adapter is not None and not adapter.adapts_within_trials:
        adaptation = PlainAdaptation(adapter, adapter.begin(learner.policy))
        more, how = _adaptation_files(adaptation, config, platforms, episodes or config.episodes)
        files, said = files | more, said | how
    elif episodes is not None:
        raise UserError("This policy does not adapt by gradient, so no number of episodes can be set.")
    versions = {name: version(name) for name in ("surefoot", "jax")}
    said = {"preset": config.preset, **versions, "platforms": list(platforms), **said}
    make_folder(folder)
    for name, content in (files | {"export.json": json.dumps(said, indent=2).encode() + b"\n"}).items():
        write_atomically(folder / name, content)
    return said


def _policy_files(acting: Any, config: Config, platforms: Sequence[str]) -> tuple[Files, dict[str, Any]]:
    inputs = policy_inputs(acting, config.env.observation_space)
    program, forms = serialised(partial(outputs, acting), inputs, platforms)
    files, said = {"policy.stablehlo": program}, {"policy.stablehlo": forms}
    if acting.is_recurrent:
        memory = first_memory(acting)
        files["memory.npz"], said["memory.npz"] = npz(memory), described(memory)
    try:
        weights = plain_weights(acting, config.env.observation_space)
    except UserError as error:
        return files, said | {"weights.npz": str(error)}
    return files | {"weights.npz": npz(weights)}, said | {"weights.npz": described(weights)}


def _adaptation_files(
    adaptation: PlainAdaptation, config: Config, platforms: Sequence[str], episodes: int
) -> tuple[Files, dict[str, Any]]:
    env, start = config.episodic_env, adaptation.start
    config.estimation.validate(episodes)
    data = episode_inputs(env, episodes)
    parameters = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), start)
    adapted = adaptation.policy(start)
    inputs = (parameters, *policy_inputs(adapted, env.observation_space))
    adapt, its_forms = serialised(adaptation.adapt, (parameters, data), platforms)
    act, forms = serialised(adaptation.act, inputs, platforms)
    files = {"adapt.stablehlo": adapt, "adapted_policy.stablehlo": act, "parameters.npz": npz(start)}
    return files, {
        "adapt.stablehlo": its_forms,
        "adapted_policy.stablehlo": forms,
        "parameters.npz": described(start),
    }
