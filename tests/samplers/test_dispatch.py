"""JAX's asynchronous dispatch on CPUs, which only samplers on the host and the command line turn off."""

import os
import subprocess
import sys
from pathlib import Path

PROBE = """
import sys
import jax, jax.numpy as jnp

@jax.jit
def slow(a):
    for _ in range(4):
        a = a @ a / 700.0
    return a

def print_dispatch():
    a = jnp.ones((700, 700))
    slow(a).block_until_ready()  # compiled
    print("synchronous:", all(slow(a).is_ready() for _ in range(5)))
"""

IMPORTS = """
import pkgutil
before = dict(jax.config.values)
import surefoot
for module in pkgutil.walk_packages(surefoot.__path__, "surefoot."):
    if not module.name.endswith("__main__"):
        __import__(module.name)
print("changed:", [name for name, value in before.items() if jax.config.values[name] != value])
print_dispatch()
"""

SAMPLER = """
from surefoot.envs import Gymnasium
from surefoot.samplers import BatchedSampler
BatchedSampler(Gymnasium("CartPole-v1"), 1, 1)
print_dispatch()
"""

COMMAND = """
from unittest.mock import patch
from surefoot.cli import main
from surefoot.samplers.host_runner import HostRunner

def each(*arguments):
    print_dispatch()
    raise KeyboardInterrupt

with patch.object(HostRunner, "each", each):
    options = "gym:CartPole-v1/ppo --sampler in-process --iterations 1 --out"
    sys.argv = ["surefoot", "train", *options.split(), sys.argv[1]]
    main()
"""


def printed(program: str, *arguments: str) -> str:
    """The output of a program in a new interpreter."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_CPU")}
    command = [sys.executable, "-c", PROBE + program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    return done.stdout or done.stderr


def test_importing_changes_no_setting_of_jax():
    assert printed(IMPORTS) == "changed: []\nsynchronous: False\n"


def test_a_sampler_on_the_host_that_is_made_before_jax_computes_is_synchronous():
    assert printed(SAMPLER) == "synchronous: True\n"


def test_a_sampler_on_the_host_is_synchronous_from_the_command_line(tmp_path: Path):
    assert printed(COMMAND, str(tmp_path / "run")) == "synchronous: True\n"
