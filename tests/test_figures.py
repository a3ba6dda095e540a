"""The figures of the theory that are no measurements show what they say."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

SCRIPT = Path(__file__).parent.parent / "docs" / "_figures" / "draw.py"


@pytest.fixture(scope="module")
def figures() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_figures", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def area(boundary: np.ndarray) -> float:
    x, y = boundary.T
    return 0.5 * abs(np.sum(x * np.roll(y, 1) - y * np.roll(x, 1)))


def test_the_two_regions_have_one_area_and_their_steps_end_on_the_boundary(figures: ModuleType):
    found = figures.trust_region()
    np.testing.assert_allclose(area(found["ball"]), area(found["ellipse"]), rtol=1e-6)
    radius = np.linalg.norm(found["ball"][0] - figures.OLD)
    np.testing.assert_allclose(np.linalg.norm(found["plain"] - figures.OLD), radius, rtol=1e-5)
    mean, log_std = found["tried"][0] - figures.OLD
    np.testing.assert_allclose(0.5 * (mean**2 / 0.5**2 + 2 * log_std**2), figures.DELTA, rtol=1e-5)


def test_the_accepted_step_is_within_the_exact_region_and_the_full_one_is_not(figures: ModuleType):
    found = figures.trust_region()
    old = figures.gaussian(figures.OLD)
    exact = [float(old.kl(figures.gaussian(x))) for x in found["exact"][::300]]
    np.testing.assert_allclose(exact, figures.DELTA, rtol=1e-3)
    assert old.kl(figures.gaussian(found["accepted"])) <= figures.DELTA
    assert old.kl(figures.gaussian(found["tried"][0])) > figures.DELTA


def test_the_outer_step_of_maml_has_the_inner_step_s_derivative(figures: ModuleType):
    found = figures.maml()
    slopes = figures.CURVATURES * (found["ends"] - figures.CENTRES)
    np.testing.assert_allclose(
        found["first"], found["start"] - figures.OUTER * slopes.mean(axis=0), rtol=1e-5
    )
    whole = (1 - figures.RATE * figures.CURVATURES) * slopes
    np.testing.assert_allclose(
        found["second"], found["start"] - figures.OUTER * whole.mean(axis=0), rtol=1e-5
    )


def test_each_is_a_picture(figures: ModuleType):
    for make in (figures.draw_trust_region, figures.draw_clip, figures.draw_maml):
        assert make().startswith(b"\x89PNG")
