"""The short check of an environment in JAX of the user's own, before a run is compiled."""

from surefoot.checks.env import EnvChecks
from surefoot.checks.problem import collect
from surefoot.envs import AbstractFamily
from surefoot.experiment import parts
from surefoot.experiment.config import Config
from surefoot.options import UserError

_SHORT = (
    "attributes",
    "methods",
    "immutable",
    "tasks have a leading axis",
    "reset returns",
    "step returns",
    "state keeps its form",
    "reset is pure",
    "step is pure",
)
"""The checks of `surefoot check env` that compile no episodes."""


def check_own_env(config: Config) -> None:
    """Raises `UserError`, with all that is wrong, if the environment is in JAX, is none of the library's, and
    breaks its contract. It takes some seconds, and less where compiled programs are cached."""
    env: AbstractFamily = config.env
    while isinstance(inner := getattr(env, "env", None), AbstractFamily):
        env = inner
    if not env.is_traceable or type(env).__module__.startswith("surefoot."):
        return
    problems = [one for one in collect(EnvChecks(env), *_SHORT) if one.severity == "error"]
    if problems:
        name = parts.name_of(env)
        first, *others = problems
        more = "".join(f" And: {one.what}" for one in others)
        raise UserError(
            f"{name} cannot be trained. {first.what} {first.why} {first.remedy}{more} "
            f"Every check is made by: surefoot check env {name}"
        )
