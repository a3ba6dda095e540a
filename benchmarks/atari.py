"""Sampling of an Atari game, beside ale-py's vector environment alone, which surefoot's simulator steps.

    python benchmarks/atari.py [--game pong] [--streams 8] [--steps 128] [--json FILE]

*stepped and recorded* takes the same random actions as the vector environment and keeps everything in a
rollout. *with the policy* is what a training samples: every action by the network of Mnih et al. (2015). It
needs `pip install 'surefoot[atari]'`.
"""

import argparse
from contextlib import ExitStack
from functools import partial

import jax
import numpy as np
from ale_py.vector_env import AtariVectorEnv
from harness import (
    Worker,
    cores,
    harness_options,
    interleaved,
    machine,
    median,
    median_ratio,
    print_table,
    write_json,
)

from surefoot.envs import Atari
from surefoot.policies import ActorCritic
from surefoot.samplers import InProcess
from surefoot.samplers.record import Record


def _keys(streams: int) -> np.ndarray:
    return np.asarray(jax.random.key_data(jax.random.split(jax.random.key(0), streams)))


def _actions(streams: int, steps: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 6, (steps, streams)).astype(np.int32)


class Bare:
    """ale-py's vector environment with random actions; nothing is kept."""

    def __init__(self, game: str, streams: int, steps: int) -> None:
        self._env = AtariVectorEnv(
            game, streams, num_threads=cores(), repeat_action_probability=0.25, reward_clipping=False
        )
        self._env.reset(seed=0)
        self._actions = _actions(streams, steps)

    def play(self) -> None:
        for actions in self._actions:
            self._env.step(actions)


class Recorded:
    """The same by surefoot's simulator, into a rollout."""

    def __init__(self, game: str, streams: int, steps: int) -> None:
        self._game = Atari(game)
        self._simulator = self._game.simulator(cores())
        self._seen = self._simulator.begin(_keys(streams), None)
        self._actions, self._rows = _actions(streams, steps), np.arange(streams)

    def play(self) -> None:
        record = Record(self._game, len(self._rows), len(self._actions))
        nothing, never = np.zeros(len(self._rows), np.float32), np.zeros(len(self._rows), bool)
        times = np.zeros(len(self._rows), np.int32)
        for step, actions in enumerate(self._actions):
            outcome = self._simulator.step(self._rows, actions)
            record.add(step, self._rows, self._seen, actions, nothing, outcome, never, times)
            self._seen = outcome.observations
        record.rollout((len(self._rows),))


class Sampled:
    """Streams of surefoot, with the policy of its presets."""

    def __init__(self, game: str, streams: int, steps: int) -> None:
        jax.config.update("jax_cpu_enable_async_dispatch", False)
        env = Atari(game)
        options, key = ActorCritic(hidden=(512,), activation="relu"), jax.random.key(0)
        self._policy = options.build(key, env.observation_space, env.action_space)
        self._sampler = InProcess().of_streams(env, streams, steps)
        self._task = env.sample_tasks(key, 1)[0]
        self._state, self._key = self._sampler.start(self._policy, self._task, key), key

    def play(self) -> None:
        self._state, rollout = self._sampler.collect(self._policy, self._task, self._state, self._key)
        jax.block_until_ready(rollout)


SIDES = {
    "ale-py alone": "atari:Bare",
    "stepped and recorded": "atari:Recorded",
    "with the policy": "atari:Sampled",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--game", default="pong", help="the name of its ROM")
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--steps", type=int, default=128)
    harness_options(parser)
    options = parser.parse_args()
    size = options.game, options.streams, options.steps
    with ExitStack() as stack:
        sides = {name: stack.enter_context(Worker(place, *size)) for name, place in SIDES.items()}
        for side in sides.values():
            side.call("play")
        plays = {name: partial(side.call, "play") for name, side in sides.items()}
        replies = interleaved(plays, options.repeats or 7)
    (base, *_) = SIDES
    rates = {name: options.streams * options.steps / median(x) for name, x in replies.items()}
    ratios = {name: median_ratio(x, replies[base]) for name, x in replies.items()}
    rows = [[name, f"{rates[name]:,.0f}", f"{ratios[name]:.2f}"] for name in SIDES]
    title = f"{options.game}, {options.streams} games side by side"
    print_table(title, ["", "steps a second", "× the time alone"], rows)
    write_json(options.json, {"machine": machine(), "steps_per_second": rates, "of_time_alone": ratios})


if __name__ == "__main__":
    main()
