import pytest

from surefoot.options import UserError, check


def test_a_wrong_option_is_named_as_the_command_line_names_it():
    with pytest.raises(UserError, match=r"^max-kl is -1; it must be positive\.$"):
        check(False, "max_kl", -1, "positive")


def test_a_right_option_passes():
    assert check(True, "max_kl", 1, "positive") is None
