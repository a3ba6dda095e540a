import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import surefoot
from surefoot import algorithms, envs, experiment, rules


@pytest.mark.parametrize(
    ("name", "module"),
    [
        *((name, experiment) for name in surefoot._EXPERIMENT),
        *(
            (name, algorithms)
            for name in ("MAML", "ProMP", "EMAML", "ANIL", "CAVIA", "MetaSGD", "SingleTask")
        ),
        *((name, rules) for name in ("GradientStep", "TrustRegion", "PPOClip")),
    ],
)
def test_the_package_offers_learners_algorithms_and_rules(name: str, module: ModuleType) -> None:
    assert getattr(surefoot, name) is getattr(module, name)
    assert name in dir(surefoot)


def test_it_offers_its_packages() -> None:
    assert surefoot.envs is envs
    assert "envs" in dir(surefoot)


def test_every_package_is_there_by_its_name() -> None:
    assert surefoot.__doc__
    named = re.findall("`([a-z]+)`", surefoot.__doc__)
    code = f"import surefoot\nprint(all(hasattr(surefoot, name) for name in {named}), {len(named)})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True 12\n"


def test_what_it_does_not_have() -> None:
    with pytest.raises(AttributeError, match="no attribute 'trane'"):
        _ = surefoot.trane


def test_a_package_by_itself_loads_no_more_than_it_needs() -> None:
    program = (
        "import surefoot.rules, sys\n"
        "print([m for m in ('tyro', 'tensorboardX', 'matplotlib', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_every_slow_test_that_is_named_is_there() -> None:
    tests = Path(__file__).parent
    for line in (tests / "slow.txt").read_text().splitlines():
        file, _, name = line.partition("::")
        assert not name or f"def {name.partition('[')[0]}(" in (tests / file).read_text(), line
