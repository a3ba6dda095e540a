"""Kills a run with workers again and again, at random moments, and resumes it each time.

A small run of MAML-TRPO is trained once without disturbance. The same run is then started and killed
(SIGKILL), by default 20 times; each time it goes on where its last checkpoint is. At the end its metrics, its
last checkpoint and its evaluation must be those of the undisturbed run. After each kill no process of it may
be left, and at the end no temporary file and no shared memory.

    python benchmarks/kills.py                      # worker processes
    python benchmarks/kills.py --sampler ray --kills 5

Exits with 1 if anything differs or is left. Linux only.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

COMMAND = [sys.executable, "-m", "surefoot"]
OPTIONS = "--episodes 2 --tasks 4 --env.horizon 6 --policy.hidden 8 --checkpoint-every 3 --sampler.workers 2"
OPTIONS += " --evaluation.tasks 2 --evaluation.episodes 2"
GRACE = 20.0
"""Seconds in which everything must have ended after the kill: workers may close their environments."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sampler", choices=["processes", "ray"], default="processes")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--iterations", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    args = parser.parse_args()
    options = ["--sampler", args.sampler, *OPTIONS.split(), "--iterations", str(args.iterations)]
    with tempfile.TemporaryDirectory() as folder:
        environment = {"JAX_COMPILATION_CACHE_DIR": str(Path(folder) / "cache"), **os.environ}
        calm, killed = Path(folder) / "calm", Path(folder) / "killed"
        began = time.monotonic()
        subprocess.run(
            [*COMMAND, "train", "navigation-2d", *options, "--out", str(calm)], env=environment, check=True
        )
        whole = time.monotonic() - began
        shared, problems, under_way = shared_memory(), [], 0
        moments = random.Random(args.seed)
        for kill in range(args.kills):
            # From its start to some way into training, so that the kills spread over the whole run.
            moment = moments.uniform(0.02, 0.25) * whole
            problems += killed_after(moment, begin(killed, options), environment)
            under_way += (latest(killed) or 0) < args.iterations
            print(f"kill {kill + 1}, after {moment:.1f} s: at checkpoint {latest(killed)}", flush=True)
        last = begin(killed, options)
        subprocess.run(last, env=environment, check="resume" not in last)
        if "resume" in last and latest(killed) != args.iterations:
            problems.append(f"it ended at {latest(killed)}")
        problems += [f"{name} differs" for name, of in RESULTS.items() if of(calm) != of(killed)]
        problems += [f"{path} is left" for path in killed.rglob(".*.tmp")]
        problems += [f"/dev/shm/{name} is left" for name in shared_memory() - shared]
    for problem in problems:
        print(problem)
    print(f"{args.kills} kills, {under_way} of them before the end; {len(problems)} problems")
    return int(bool(problems))


def begin(run: Path, options: list[str]) -> list[str]:
    """The command that goes on with the run, or starts it if it has left nothing to go on from."""
    if latest(run) is not None:
        return [*COMMAND, "resume", str(run)]
    if run.exists():
        subprocess.run(["rm", "-r", str(run)], check=True)
    return [*COMMAND, "train", "navigation-2d", *options, "--out", str(run)]


def killed_after(seconds: float, command: list[str], environment: dict[str, str]) -> list[str]:
    """Starts a command and kills it; what is left of it."""
    quiet = subprocess.DEVNULL
    program = subprocess.Popen(command, env=environment, stdout=quiet, stderr=quiet)
    with suppress(subprocess.TimeoutExpired):
        program.wait(seconds)
    below = descendants(program.pid)
    program.send_signal(signal.SIGKILL)
    program.wait()
    deadline = time.monotonic() + GRACE
    while (left := [pid for pid in below if alive(pid)]) and time.monotonic() < deadline:
        time.sleep(0.1)
    return [f"process {pid} is left: {' '.join(command_of(pid))[:200]}" for pid in left]


def descendants(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found, todo = [], [pid]
    while todo:
        todo += children.get(todo[0], [])
        found.append(todo.pop(0))
    return found[1:]


def alive(pid: int) -> bool:
    """Whether it runs; one that nobody has reaped does not."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def command_of(pid: int) -> list[str]:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    return []


def shared_memory() -> set[str]:
    return {path.name for path in Path("/dev/shm").iterdir()}


def latest(run: Path) -> int | None:
    """The iteration of the last checkpoint."""
    names = [int(path.stem) for path in (run / "checkpoints").glob("*.ckpt")]
    return max(names, default=None) if (run / "config.yaml").exists() else None


def metrics(run: Path) -> list[dict[str, float]]:
    """Every line without its times."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in ("seconds", "steps_per_second")} for row in rows]


def checkpoint(run: Path) -> str:
    """The digest of the last state."""
    file = run / "checkpoints" / f"{latest(run):06d}.ckpt"
    return json.loads(file.read_bytes().partition(b"\n")[0])["sha256"]


RESULTS = {
    "metrics.jsonl": metrics,
    "the last checkpoint": checkpoint,
    "evaluation.json": lambda run: (run / "evaluation.json").read_bytes(),
}


if __name__ == "__main__":
    sys.exit(main())
