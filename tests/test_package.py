import subprocess
import sys

import pytest

import surefoot
from surefoot import experiment


@pytest.mark.parametrize("name", surefoot._FROM_EXPERIMENT)
def test_the_package_offers_what_runs_experiments(name: str) -> None:
    assert getattr(surefoot, name) is getattr(experiment, name)
    assert name in dir(surefoot)


def test_what_it_does_not_have() -> None:
    with pytest.raises(AttributeError, match="no attribute 'trane'"):
        _ = surefoot.trane


def test_a_room_alone_loads_no_more_than_it_needs() -> None:
    program = (
        "import surefoot.rules, sys\n"
        "print([m for m in ('tyro', 'tensorboardX', 'matplotlib', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
