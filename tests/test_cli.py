import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar

import jax
import pytest

from support.finished_runs import write_run
from surefoot import cli
from surefoot.algorithms import SingleTask
from surefoot.cli.options import base_config, parse, swap_parts
from surefoot.cli.training import SWAPPING
from surefoot.experiment import PRESETS, load, parts, preset
from surefoot.experiment.folder import RunFolder
from surefoot.experiment.learner import compiled_initial_state
from surefoot.experiment.metrics import read_metrics
from surefoot.experiment.serialise import save_config
from surefoot.policies import CategoricalMLP

SMALL = ["--tasks", "3", "--episodes", "4", "--iterations", "2", "--evaluation.tasks", "3"]
LONG = "x" * 300
SMALL += ["--evaluation.episodes", "4", "--evaluation.steps", "2"]


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of one command line."""
    try:
        code = cli.run(list(arguments))
    except SystemExit as end:
        code = int(end.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "run"
    assert (
        cli.run(["train", "bandit", *SMALL, "--seed", "3", "--outer.max-kl", "0.02", "--out", str(folder)])
        == 0
    )
    return folder


def test_train_leaves_everything_and_reads_its_options(trained: Path) -> None:
    assert {
        "config.yaml",
        "metrics.jsonl",
        "tensorboard",
        "checkpoints",
        "adaptation.png",
        "evaluation.json",
    } <= {f.name for f in trained.iterdir()}
    config = load(trained).config
    assert (config.preset, config.seed, config.iterations) == ("bandit/maml-trpo", 3, 2)
    assert config.algorithm.outer.max_kl == 0.02  # pyright: ignore[reportAttributeAccessIssue]
    assert (trained / "adaptation.png").read_bytes().startswith(b"\x89PNG")


def test_evaluate_prints_one_json_object(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--tasks", "5", "--episodes", "4", "--steps", "3", "--seed", "1", "--json"]
    code, out, _ = run(capsys, "evaluate", str(trained), *options, "--inner.lr", "2.0", "1.0")
    assert code == 0
    found = json.loads(out)
    assert list(found) == ["preset", "iteration", "seed", "tasks", "episodes", "actions", "returns"]
    assert (found["tasks"], found["episodes"], found["seed"], found["iteration"]) == (5, 4, 1, 2)
    assert [row["step"] for row in found["returns"]] == [0, 1, 2, 3]
    assert all(row["ci95"][0] <= row["mean"] <= row["ci95"][1] for row in found["returns"])


@pytest.mark.parametrize("sampler", ["in-process", "processes"])
def test_with_json_nothing_else_is_on_standard_output(
    sampler: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whatever the environment prints; a folder whose name has a blank is quoted where it is named."""
    out = tmp_path / "my run"
    env = ["--env", "support.careless_envs:Prints", "--env.time-limit", "4", "--streams", "0"]
    sizes = ["--episodes", "4", "--iterations", "1", "--sampler", sampler, "--evaluation.episodes", "4"]
    sizes += ["--estimation.baseline.minibatches", "2"]
    train = ["train", "gym:CartPole-v1/trpo", *env, *sizes]
    assert cli.run([*train, "--out", str(out)]) == 0
    capfd.readouterr()
    assert cli.run(["evaluate", str(out), "--episodes", "4", "--json"]) == 0
    printed, noise = capfd.readouterr()
    assert json.loads(printed)["returns"][0]["mean"] == 3.0
    assert "chatter" in noise
    assert cli.run([*train, "--out", str(out)]) == 2
    assert f"surefoot resume '{out}'" in capfd.readouterr().err


def test_the_run_is_the_positional_argument_wherever_it_stands(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    """The value of an option is never taken for the run, even if there is a run of that name."""
    config = replace(load(trained).config, preset="another", algorithm=SingleTask())
    folder = RunFolder.create(tmp_path / "5")
    save_config(config, folder.config)
    folder.save(compiled_initial_state(config))
    monkeypatch.chdir(tmp_path)
    code, out, errors = run(capsys, "evaluate", "--tasks", "5", str(trained), "--episodes", "2", "--json")
    assert code == 0, errors
    found = json.loads(out)
    assert (found["preset"], found["tasks"], found["iteration"]) == ("bandit/maml-trpo", 5, 2)
    assert len(found["returns"]) == 3, "the steps of adaptation are that run's own"
    code, out, errors = run(capsys, "evaluate", "--tasks", "5", "missing")
    assert (code, out) == (2, "")
    assert "There is no run at missing" in errors
    assert run(capsys, "evaluate", "--tasks", "5")[0] == 2


def test_evaluate_prints_a_table(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "evaluate", str(trained / "checkpoints" / "000000.ckpt"))
    assert code == 0
    assert "iteration 0" in out
    assert "95% interval" in out


def test_resume_goes_further(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(trained, tmp_path / "a")
    code, _, _ = run(capsys, "resume", str(tmp_path / "a"), "--iterations", "3")
    assert code == 0
    assert load(tmp_path / "a").iteration == 3
    assert len(read_metrics(tmp_path / "a" / "metrics.jsonl")) == 3


def test_a_saved_config_is_accepted_and_whole_parts_can_be_swapped(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = load(trained).config
    file = ["--config", str(trained / "config.yaml")]
    assert base_config(file) == (saved, [])
    swaps = ["--algorithm", "single-task", "--rule", "ppo-clip", "--rule.minibatches", "2"]
    swaps += ["--estimation.baseline", "zero"]
    swaps += ["--policy", "surefoot.policies:CategoricalMLP", "--policy.hidden", "8"]
    code, _, errors = run(capsys, "train", *file, *swaps, "--out", str(tmp_path / "a"))
    assert code == 0, errors
    config = load(tmp_path / "a").config
    assert parts.name_of(config.algorithm.rule) == "ppo-clip"  # pyright: ignore[reportAttributeAccessIssue]
    assert parts.name_of(config.estimation.baseline) == "zero"
    assert config.policy == CategoricalMLP(hidden=(8,))
    assert (config.seed, config.episodes, config.evaluation) == (3, 4, saved.evaluation)


@pytest.mark.parametrize("typed", ["as read", "backwards"])
def test_parts_are_put_into_the_algorithm_that_was_asked_for(typed: str) -> None:
    """In whatever order they are typed."""
    pairs = [("--rule", "ppo-clip"), ("--algorithm", "single-task"), ("--policy", "actor-critic")]
    pairs += [("--policy.auxiliary", "predict-reward"), ("--estimation.baseline", "zero")]
    words = [word for pair in (pairs if typed == "as read" else pairs[::-1]) for word in pair]
    config, rest = swap_parts(preset("navigation-2d/reinforce"), words)
    assert rest == []
    found = config.algorithm.rule, config.policy, config.policy.auxiliary, config.estimation.baseline
    wanted = ["ppo-clip", "actor-critic", "predict-reward", "zero"]
    assert [parts.name_of(part) for part in found] == wanted


def test_a_run_s_folder_in_a_preset_s_place_is_told_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "my run", "bandit/trpo", 0, [1.0], [[1.0]])
    assert cli.run(["train", str(tmp_path / "my run")]) == 2
    told = capsys.readouterr().err.replace("\n", " ")
    assert "To go on with it: surefoot resume '" in told
    assert "/my run'/config.yaml" in told


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "no command 'trian'. Did you mean 'train'?"),
        (["train", "navigation-2d/maml-trop"], "Did you mean 'navigation-2d/maml-trpo'?"),
        (["train", "nothing-like-it"], "`surefoot list presets` shows them all"),
        (["train", ""], "There is no preset ''"),
        (["train", "bandit", "--outer.max-kl", "-1"], "max-kl is -1.0; it must be a positive number"),
        (["train", "bandit", "--tasks", "0"], "tasks is 0; it must be 1 or more"),
        (["train", "bandit", "--iterations", "0"], "iterations is 0; it must be 1 or more"),
        (["train", "bandit", "--seed", "-1"], "seed is -1"),
        (["train", "bandit", "--episodes", "1"], "needs 2 episodes or more"),
        (["train", "bandit", "--inner.lr", "nan"], "lr is nan"),
        (
            ["train", "bandit", "--outer", "optax-step", "--outer.lr", "-1"],
            "lr is -1.0; it must be 0 or more",
        ),
        (["train", "bandit", "--outer.max-lk", "1"], "--outer.max-kl"),
        (["train", "bandit", "--seed", "x"], "--seed"),
        (
            ["train", "bandit", "--outer", "trust-regoin"],
            "no 'trust-regoin' among the rules. Did you mean 'trust-region'?",
        ),
        (["train", "bandit", "--outer"], "--outer needs a value"),
        (["train", "bandit", "--rule", "trust-region"], "maml has no --rule"),
        (["train", "bandit", "--policy", "gaussian-mlp"], "use --policy categorical-mlp"),
        (["train", "bandit", "--env", "nowhere:Env"], "nowhere"),
        (["train", "bandit", "--config", "x.yaml"], "not both"),
        (["train", "--config", "x.yaml"], "cannot be read"),
        (["train", "bandit", "--on", "ray"], "--on is for the runs of --seeds or --sweep"),
        (["train", "bandit", "--seeds", "2", "--trace"], "A timeline is that of one run"),
        (["resume", "no-run"], "There is no run at no-run"),
        (["evaluate"], "Name a run folder"),
        (["evaluate", "no-run", "--json"], "There is no run at no-run"),
        (["evaluate", "--tasks", "5", "no-run"], "There is no run at no-run"),
        (["evaluate", "--json", "--inner", "gradient-step", "no-run"], "There is no run at no-run"),
        (["evaluate", "--tasks", "5"], "Required options"),
        *[([*words, LONG], "File name too long") for words in (["resume"], ["evaluate"], ["video"])],
        (["train", "bandit", "--out", LONG], "File name too long. Choose another --out"),
        (["report"], "Which runs? Name one folder or more"),
        (["list", "rule"], "Did you mean 'rules'?"),
        (
            ["check", "policy"],
            "surefoot check env | policy | baseline | rule | algorithm | sampler MODULE:NAME",
        ),
        (["check", "env", "nowhere:Env"], "nowhere"),
    ],
)
def test_bad_input_is_one_clear_message_and_exit_code_2(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, errors = run(capsys, *arguments)
    assert code == 2
    assert message in " ".join(errors.split())
    assert out == ""
    assert "Traceback" not in errors
    assert list(tmp_path.iterdir()) == [], "nothing is left behind by a command that was refused"


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        ("ValueError('too steep')", "ValueError: too steep at"),
        ("SystemExit(0)", "SystemExit: 0 at"),
        ("Stop('now')", "Stop: now at"),
    ],
)
def test_whatever_a_users_own_rule_raises_is_one_message(
    raised: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / f"raises_{raised.partition('(')[0].lower()}.py"
    file.write_text(
        "from surefoot.rules import GradientStep\n"
        "class Stop(BaseException): pass\n"
        "class Raises(GradientStep):\n"
        f"    def step(self, *arguments): raise {raised}\n"
    )
    out = str(tmp_path / "run")
    code, _, err = run(capsys, "train", "bandit/maml-trpo", "--inner", f"{file}:Raises", "--out", out)
    assert code == 2
    assert f"{told} {file}:4. That is in your own code" in err
    assert "Traceback" not in err


def test_an_existing_folder_is_left_alone(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {f: f.read_bytes() for f in trained.rglob("*") if f.is_file()}
    code, _, errors = run(capsys, "train", "bandit", *SMALL, "--out", str(trained))
    assert code == 2
    assert "exists already" in errors
    assert {f: f.read_bytes() for f in trained.rglob("*") if f.is_file()} == before


@pytest.mark.parametrize("width", [80, 60])
def test_list_names_every_part_and_preset_within_the_terminal(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    code, out, _ = run(capsys, "list")
    assert code == 0
    lines = [line for line in out.splitlines() if line]
    assert all(len(line) <= width and line.isprintable() and line == line.rstrip() for line in lines)
    assert all(f"\n{kind}: " in f"\n{out}" for kind in ("presets", *parts.KINDS))
    listed = {line.split()[0] for line in lines}
    assert {name for kind in parts.KINDS for name in parts.parts(kind)} < listed
    assert {"atari:GAME", *(name.split("/")[0] for name in PRESETS)} < listed
    algorithms = [name.split("/")[1] for name in PRESETS if name.startswith("bandit/")]
    assert f"bandit {', '.join(algorithms)} " in " ".join(out.split())
    assert out.index("\n  gymnasium ") < out.index("\nenvs for tests") < out.index("\n  constant-reward ")


def test_list_shows_one_kind_only(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "list", "rules")
    assert set(parts.parts("rules")) == {
        line.split()[0] for line in out.splitlines()[1:] if line[2:3].strip()
    }


def test_a_part_may_set_its_own_name() -> None:
    class ProMP:
        part_name: ClassVar[str] = "promp"

    class ProMPWithAdam(ProMP):
        pass

    assert [parts.part_name(cls) for cls in (ProMP, ProMPWithAdam)] == ["promp", "pro-mp-with-adam"]


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], []])
def test_what_needs_no_command_waits_for_none(arguments: list[str]) -> None:
    program = (
        "import sys\n"
        "from surefoot.cli import run\n"
        f"code = run({arguments})\n"
        "sys.exit(code or 'surefoot.experiment' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert (version("surefoot") if "--version" in arguments else "surefoot train [PRESET]") in done.stdout


@pytest.mark.parametrize("arguments", [["--help"], ["list"], ["train", "bandit", "--help"]])
def test_who_reads_only_the_beginning_sees_no_traceback(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "surefoot", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        errors = process.stderr.read()
    assert (process.returncode, errors) == (1, "")


def test_a_user_without_a_home_goes_without_a_cache(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("JAX_COMPILATION_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    before = jax.config.values["jax_compilation_cache_dir"]
    assert run(capsys, "list", "rules")[0] == 0
    assert jax.config.values["jax_compilation_cache_dir"] == before


def test_check_says_what_is_wrong_with_an_environment(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    code, out, _ = run(capsys, "check", "env", "surefoot.envs:Navigation2D")
    assert (code, out) == (0, "surefoot.envs:Navigation2D: 0 problems found\n")
    (tmp_path / "mine.py").write_text("class Mine:\n    horizon = 0\n")
    monkeypatch.chdir(tmp_path)
    code, out, _ = run(capsys, "check", "env", "mine.py:Mine")
    assert code == 2
    assert "horizon" in out


@pytest.mark.parametrize(
    ("kind", "name", "code"),
    [
        ("env", "gym:MountainCar-v0", 0),
        ("env", "support.careless_envs:EndsOfMany", 2),
        ("env", "support.careless_envs:wrapped", 0),
        ("rule", "surefoot.rules:GradientStep", 0),
        ("rule", "surefoot.policies:CategoricalMLP", 2),
        ("policy", "surefoot.policies:CategoricalMLP", 0),
        ("sampler", "support.careless_envs:Sound", 2),
    ],
)
def test_check_knows_every_kind(kind: str, name: str, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    found, out, _ = run(capsys, "check", kind, name)
    assert found == code, out
    assert out.splitlines()[-1].startswith(f"{name}: ")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gymnax:Cotch-bsuite", "gymnax has no environment 'Cotch-bsuite'. Did you mean 'Catch-bsuite'"),
        ("atari:Pomg-v5", "There is no game 'Pomg-v5'. Did you mean"),
    ],
)
def test_check_says_that_there_is_no_such_environment(
    name: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, errors = run(capsys, "check", "env", name)
    assert (code, out) == (2, "")
    assert message in " ".join(errors.split())


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--help"],
        ["train", "--help"],
        ["train", "bandit", "--help"],
        ["check", "--help"],
        ["check", "env", "-h"],
    ],
)
def test_help(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, *arguments)
    assert code == 0
    assert "surefoot" in out


@dataclass(frozen=True)
class Wrapped:
    number: int = 0
    """A text that its source wraps
    after a few words,
    and that the help shows on lines as long as the terminal is wide, whatever
    the source does."""


def test_help_breaks_lines_where_the_terminal_ends(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        parse(Wrapped, ["--help"], "program")
    lines = [line.strip(" │") for line in capsys.readouterr().out.splitlines()]
    first = next(i for i, line in enumerate(lines) if "A text" in line)
    assert lines[first].endswith("after a few words, and that the")
    assert lines[first + 1].endswith("as the terminal is wide, whatever")
    assert lines[first + 2] == "the source does. (default: 0)"


def test_help_names_parts_that_there_are() -> None:
    kinds = {"policy": "policies", "policy.auxiliary": "auxiliaries", "estimation.baseline": "baselines"}
    kinds |= {"rule": "rules", "algorithm": "algorithms", "sampler": "samplers"}
    named = dict(re.findall(rf"--({'|'.join(kinds)}) (\S+)", SWAPPING))
    assert named.keys() == kinds.keys()
    for option, name in named.items():
        parts.make(kinds[option], name)
