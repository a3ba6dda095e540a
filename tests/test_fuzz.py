"""Three hundred wrong inputs, drawn with fixed seeds: each ends in exit code 2 and one message, without a
traceback. None is trained."""

import dataclasses
import random
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from surefoot import cli
from surefoot.cli import training
from surefoot.experiment import PRESETS, Config, preset
from surefoot.experiment.folder import RunFolder
from surefoot.experiment.learner import compiled_initial_state
from surefoot.experiment.serialise import save_config

LONGEST = 4000
"""Characters of a message."""
Arguments = tuple[str, ...]


@pytest.fixture
def nothing_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is accepted is a failure, and not an hour of training."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("It was to be trained.")

    monkeypatch.setattr(training, "train", refuse)


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def faults(inputs: list[Arguments], capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What is wrong with the end of each input."""
    found = []
    for arguments in inputs:
        capsys.readouterr()
        try:
            code: Any = cli.run(list(arguments))
        except SystemExit as end:
            code = end.code
        except BaseException as error:
            code = f"{type(error).__name__}: {error}"
        out, err = capsys.readouterr()
        said = out + err
        messages = said.count("error: ") + said.count("For full helptext")  # ours, or the parser's
        if code != 2 or messages != 1 or "Traceback" in said or len(said) > LONGEST:
            found.append(
                f"surefoot {arguments}\n  ended with {code}; said {len(said)} characters: {said[:400]}"
            )
    return found


def check_all(inputs: list[Arguments], count: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(set(inputs)) == len(inputs) == count
    found = faults(inputs, capsys)
    assert not found, f"{len(found)} of {count}:\n" + "\n".join(found)


# --- configuration files


def leaves(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    if isinstance(document, dict):
        for key, value in document.items():
            yield from leaves(value, (*path, key))
    else:
        yield path, document


WRONG: dict[type, list[Any]] = {
    bool: ["maybe", 2, 0.5, [True], None],
    int: [1.5, "many", [1], {"a": 1}, True, 10**40, -(2**70), "١٢"],
    float: ["much", [[0.5]], {"a": 0.5}, True, "0,5", "1e", float("nan")],
    str: [3, 0.5, ["a"], {"a": "b"}, True, "no such thing"],
    list: ["abc", {"a": 1}, ["x"], [[1]]],
    type(None): [{}, [[None]], object],
}
"""Values that no option of the type takes."""


def changed(document: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    copy = yaml.safe_load(yaml.safe_dump(document))
    holder = copy
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = value
    return copy


def wrong_values(generator: random.Random, folder: Path, count: int) -> Iterator[str]:
    """Configurations of presets with one value of a wrong type or range."""
    while count:
        name = generator.choice(sorted(PRESETS))
        save_config(preset(name), folder / "preset.yaml")
        document = yaml.safe_load((folder / "preset.yaml").read_text())
        path, value = generator.choice(list(leaves(document)))
        wrong = [x for x in WRONG[type(value)] if x is not object]
        if path == ("preset",) or path[-1] == "auxiliary":
            wrong = [3, [1]]  # any other text is its name
        text = yaml.safe_dump(changed(document, path, generator.choice(wrong)), allow_unicode=True)
        yield text
        count -= 1


def damaged_texts(generator: random.Random, text: str) -> Iterator[bytes]:
    """A configuration that is not one any more."""
    lines = text.splitlines(keepends=True)
    raw = text.encode()
    yield from (b"", b"\x00", b"\xff\xfe" + raw, b"\x80" + raw, raw.replace(b"surefoot_config: 3", b""))
    yield from (
        raw.replace(b"surefoot_config: 3", b"surefoot_config: " + x) for x in (b"1", b"2", b"'3'", b"[3]")
    )
    yield from (b"- " * 5000, b"[" * 5000, b"{a: " * 3000, b"&a [*a, *a]", b"!!python/object:os.system {}")
    yield from (b"a: &x [1]\nb: *y", b"%YAML 9.9\n---\na", b"? ? ?", b"'unclosed", b"key: [1, 2", b"\ta: 1")
    yield raw + b"extra: 1\n"
    yield raw + lines[1].encode()  # a key that is there twice
    for _ in range(20):  # a key that is misspelled
        i = generator.randrange(1, len(lines))
        key, colon, rest = lines[i].partition(":")
        letter = generator.choice(string.ascii_lowercase)
        yield "".join([*lines[:i], f"{key}{letter}q{colon}{rest}", *lines[i + 1 :]]).encode()
    for _ in range(20):  # a line that is gone from a mapping that needs it, or an indentation that is wrong
        i = generator.randrange(1, len(lines))
        yield "".join([*lines[:i], " " * generator.choice([1, 3, 5]) + lines[i], *lines[i + 1 :]]).encode()


@pytest.mark.usefixtures("nothing_is_trained")
def test_configuration_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generator = random.Random(0)
    save_config(preset("cartpole/ppo"), tmp_path / "good.yaml")
    contents = [text.encode() for text in wrong_values(generator, tmp_path, 75)]
    contents += list(damaged_texts(generator, (tmp_path / "good.yaml").read_text()))
    inputs = []
    for i, content in enumerate(contents):
        file = tmp_path / f"wrong{i}.yaml"
        file.write_bytes(content)
        inputs.append(("train", "--config", str(file)))
    check_all(inputs, 137, capsys)


# --- options on the command line


def wrong_options(generator: random.Random) -> Iterator[Arguments]:
    numbers = (
        "abc",
        "",
        "--",
        "1,5",
        "0x",
        "1e",
        "½",
        "None",
        "[1]",
        "1 2",
        "nan",
        "inf",
        "-inf",
        "-1",
        "1e400",
    )
    names = ("--episodes", "--iterations", "--evaluation.tasks", "--steps", "--seed", "--checkpoint-every")
    for number in numbers:
        yield "train", "cartpole/ppo", f"{generator.choice(names)}={number}"
    for name in ("--rule.lr", "--rule.clip", "--estimation.discount", "--sampler.threads"):
        yield "train", "cartpole/ppo", f"{name}={generator.choice(('abc', '-2', 'nan', '9' * 400))}"
    known = [
        f"--{field.name.replace('_', '-')}"
        for field in dataclasses.fields(Config)
        if field.name != "algorithm"
    ]
    for name in generator.sample(known, 6):
        place = generator.randrange(3, len(name))
        yield "train", "navigation-2d", f"{name[:place]}x{name[place:]}", "1"
    yield "train", "cartpole/ppo", "--episodes"
    yield "train", "cartpole/ppo", "--episodes", "4", "5"
    yield "train", "cartpole/ppo", "stray"
    yield "train", "cartpole/ppo", "--seeds", "0"


@pytest.mark.usefixtures("nothing_is_trained")
def test_options(capsys: pytest.CaptureFixture[str]) -> None:
    check_all(list(wrong_options(random.Random(1))), 29, capsys)


# --- names


def wrong_names(generator: random.Random) -> Iterator[Arguments]:
    def noise(letters: str = string.printable.strip(), longest: int = 30) -> str:
        return "z" + "".join(generator.choices(letters, k=generator.randrange(1, longest)))

    for _ in range(6):
        yield (noise(string.ascii_letters),)
    for _ in range(8):
        yield "train", noise()
    swaps = ("--policy", "--rule", "--env", "--algorithm", "--estimation.baseline", "--sampler")
    for option in swaps * 2:
        yield "train", "cartpole/ppo", option, noise(string.ascii_letters + "-.:/")
    for option, name in zip(swaps, ("argparse:ArgumentParser", "abc:ABC") * 3, strict=True):
        yield "train", "cartpole/ppo", option, name
    for option in ("--inner", "--outer", "--rule.lr-end.x", "--env.size"):
        yield "train", "cartpole/ppo", option, "gradient-step"
    for name in (
        ":",
        "a:",
        ":b",
        "a:b:c",
        "os:path",
    ):
        yield "train", "cartpole/ppo", "--env", name
    for name in ("x" * 300 + ".py:A", "\x00:A", "missing.py:A", "/:A", "..:A", "a/b:C", "🦶:A"):
        yield "train", "cartpole/ppo", "--env", name
    for kind in ("env", "policy", "rule", "sampler"):
        yield "check", kind, noise(string.ascii_letters)
    yield from (("check",), ("check", "nothing", "a:b"), ("check", "env"), ("list", "nothing"), ("list", ""))
    yield from (("lab", "nothing"), ("lab", "identities", "--nothing"), ("lab", "--out"))


@pytest.mark.usefixtures("nothing_is_trained")
def test_names(capsys: pytest.CaptureFixture[str]) -> None:
    check_all(list(wrong_names(random.Random(2))), 60, capsys)


# --- run folders


def wrong_runs(generator: random.Random, folder: Path) -> Iterator[Path]:
    """Folders that are no runs, or whose files are damaged."""
    (folder / "empty").mkdir()
    (folder / "file").write_text("a run?")
    yield from (folder / "empty", folder / "file", folder / "none", folder / ("x" * 300), folder / "a\nb")
    config = dataclasses.replace(preset("bandit/maml-trpo"), iterations=2)
    state = compiled_initial_state(config)

    def run(name: str) -> RunFolder:
        made = RunFolder.create(folder / name)
        save_config(config, made.config)
        made.save(state)
        return made

    good = run("good")
    raw, text = good.checkpoint(0).read_bytes(), good.config.read_text()
    header, _, payload = raw.partition(b"\n")
    contents = [
        b"",
        b"\n",
        b"{}\n",
        b"null\n" + payload,
        header,
        header + b"\n",
        raw[:-1],
        raw + b"x",
        payload,
    ]
    contents += [header.replace(b'"format": 1', b'"format": 9') + b"\n" + payload, b"[" * 9999]
    contents += [
        header.replace(b'"iteration": 0', b'"iteration": ' + x) + b"\n" + payload
        for x in (b"3", b"-1", b'"0"')
    ]
    for _ in range(6):
        spoilt = bytearray(raw)
        spoilt[generator.randrange(len(raw))] ^= 1 << generator.randrange(8)
        contents.append(bytes(spoilt))
    for i, content in enumerate(contents):
        made = run(f"damaged{i}")
        made.checkpoint(0).write_bytes(content)
        yield made.path
    for i, changes in enumerate(
        (("", ""), ("seed: 0", "seed: 1"), ("hidden:", "hiden:"), ("bandit", "bandits"))
    ):
        made = run(f"config{i}")
        made.config.write_text(text.replace(*changes) if changes[0] else "")
        yield made.path
    made = run("without")
    made.checkpoint(0).unlink()
    yield made.path


def test_run_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generator = random.Random(3)
    inputs = []
    for path in wrong_runs(generator, tmp_path):
        inputs.append((generator.choice(["resume", "evaluate"]), str(path)))
    check_all(inputs, 30, capsys)


# --- modules and environments


RAISED = (
    *("ValueError('a wall')", "KeyError()", "SystemExit()", "SystemExit(0)", "SystemExit('bye')"),
    *("GeneratorExit()", "StopIteration()", "RecursionError('deep')", "OSError(28, 'full')", "MemoryError()"),
    *(
        "UnicodeDecodeError('utf-8', b'x', 0, 1, 'bad')",
        "ImportError('x' * 100_000)",
        "type('E', (Exception,), {})()",
    ),
)
SPACES = (
    "None",
    "3",
    "'Box'",
    "{}",
    "spaces.Discrete",
    "spaces.Text(4)",
    "spaces.Graph(spaces.Discrete(2), None)",
)

MODULE = """
import gymnasium, numpy as np
from gymnasium import spaces

class Good(gymnasium.Env):
    observation_space = spaces.Box(-1.0, 1.0, (2,))
    action_space = spaces.Discrete(2)
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}
    def step(self, action):
        return np.zeros(2, np.float32), 0.0, False, False, {}
"""


def wrong_environments(folder: Path) -> Iterator[str]:
    """Names of environments whose module, constructor or spaces are wrong."""
    for i, error in enumerate(RAISED):
        (folder / f"fails{i}.py").write_text(f"raise {error}\n")
        yield f"fails{i}.py:A"
    for i, text in enumerate(("def", "\x00", "x = 1", "A = 3", "class A: pass", "def A(): pass", "A = None")):
        (folder / f"odd{i}.py").write_text(text)
        yield f"odd{i}.py:A"
    lines = [MODULE]
    for i, error in enumerate(RAISED):
        lines.append(f"class Raises{i}(Good):\n    def __init__(self):\n        raise {error}\n")
    for i, space in enumerate(SPACES):
        lines.append(f"class Acts{i}(Good):\n    action_space = {space}\n")
        lines.append(f"class Sees{i}(Good):\n    observation_space = {space}\n")
    (folder / "wrong_envs.py").write_text("\n".join(lines))
    yield from (f"wrong_envs.py:Raises{i}" for i in range(len(RAISED)))
    yield from (f"wrong_envs.py:{kind}{i}" for kind in ("Acts", "Sees") for i in range(len(SPACES)))


def test_environments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [*wrong_environments(tmp_path), "gym:", "gym:Nope-v0", "json:loads", "os:getcwd"]
    inputs: list[Arguments] = [
        ("train", "cartpole/ppo", "--env", name, "--iterations", "1", "--env.time-limit", "5")
        if not name.startswith(("fails", "odd"))
        else ("train", f"{name}/ppo")
        for name in names
    ]
    check_all(inputs, 51, capsys)
