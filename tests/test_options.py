from collections.abc import Callable
from dataclasses import dataclass
from math import inf, nan
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surefoot.options import (
    Fraction,
    Options,
    Positive,
    UserError,
    at_least,
    check,
    import_extra,
    length_at_least,
    shown,
)


@dataclass(frozen=True)
class Example(Options):
    rate: Annotated[float | tuple[float, ...], Positive] = 0.1
    limit: Annotated[float | None, Positive] = None
    layers: Annotated[tuple[int, ...], at_least(1)] = (2, 3)
    pair: Annotated[tuple[float, ...], Positive, length_at_least(2, "two or more")] = (1.0, 2.0)
    share: Annotated[float, Fraction] = 0.5
    free: int = -1


def test_a_wrong_option_is_named_as_the_command_line_names_it():
    with pytest.raises(UserError, match=r"^max-kl is -1; it must be positive\.$"):
        check(False, "max_kl", -1, "positive")


def test_a_right_option_passes():
    assert check(True, "max_kl", 1, "positive") is None


@pytest.mark.parametrize(
    ("option", "value", "wanted"),
    [
        ("rate", 0.0, "a positive number"),
        ("rate", nan, "a positive number"),
        ("rate", inf, "a positive number"),
        ("rate", (0.1, -1.0), "a positive number"),
        ("limit", 0.0, "a positive number, or none"),
        ("layers", (4, 0), "1 or more"),
        ("pair", (1.0,), "two or more"),
        ("pair", (1.0, 0.0), "a positive number"),
        ("share", 1.5, "between 0 and 1"),
        ("share", np.array([0.1, 0.2]), "a number"),
    ],
)
def test_a_value_outside_its_bound_is_refused(option: str, value: object, wanted: str):
    with pytest.raises(UserError) as refused:
        Example(**{option: value})
    assert str(refused.value) == f"{option} is {value!r}; it must be {wanted}."


def test_a_count_beyond_32_bits_is_refused():
    with pytest.raises(UserError, match=r"^layers is \(2, 2147483648\); it must be at most 2147483647\.$"):
        Example(layers=(2, 2**31))


def test_values_in_messages_are_short_whatever_they_are():
    assert shown([1] * 1000) == str([1] * 1000)[:200] + " …"
    assert shown(Fraction).startswith("Bound(holds=")
    assert shown(10**5000) == "a int whose `repr` raised ValueError"


def test_values_within_their_bounds_pass():
    assert Example(rate=(0.1, 0.2), limit=1.0, layers=(), share=1.0, free=-7).free == -7


@pytest.mark.parametrize("number", [np.float32, np.float64, np.asarray, jnp.asarray])
def test_a_number_of_numpy_or_jax_is_one_of_python_s(number):
    """Options are hashed, as constants of compiled programs."""
    made = Example(rate=number(0.5), pair=[number(1.0), 2.0], free=np.int64(3))
    assert made == Example(rate=0.5, pair=(1.0, 2.0), free=3)
    assert hash(made)
    assert {type(made.rate), type(made.pair[0]), type(made.free)} == {float, int}


def test_a_complex_number_is_refused():
    with pytest.raises(UserError, match=r"rate is .*; it must be"):
        Example(rate=np.complex64(1))
    with pytest.raises(UserError, match=r"rate is .*; it must be"):
        Example(rate=object())


def test_an_option_that_is_traced_is_not_checked():
    doubled = jax.vmap(lambda rate: 2 * Example(rate=rate).rate)(jnp.array([0.1, -0.2]))
    assert doubled.tolist() == pytest.approx([0.2, -0.4])


def test_an_extra_that_is_not_installed() -> None:
    assert import_extra("math", "Roots need math", "roots").sqrt(4) == 2
    with pytest.raises(UserError) as refused:
        import_extra("no_such_module", "It needs that", "it")
    assert str(refused.value) == (
        "It needs that, and importing it failed: No module named 'no_such_module'. "
        "Install it: pip install 'surefoot[it]'."
    )


@dataclass(frozen=True)
class Makes(Options):
    make: Callable[[], int]


def test_a_function_is_one_that_can_be_called():
    assert Makes(int).make() == 0
    with pytest.raises(UserError, match="make is 3; it must be a function"):
        Makes(3)  # pyright: ignore[reportArgumentType]
