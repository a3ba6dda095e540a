import importlib
import sys

import pytest

from surefoot.checks import load_class, load_object
from surefoot.envs import Bandit
from surefoot.options import UserError

SOURCE = """
from abc import ABC, abstractmethod
from dataclasses import dataclass

from surefoot.options import UserError


@dataclass(frozen=True)
class Maze:
    size: int = 3


@dataclass(frozen=True)
class Sized:
    size: int
    depth: int


class Contract(ABC):
    @abstractmethod
    def step(self): ...
    @abstractmethod
    def reset(self): ...


class Fails:
    def __init__(self):
        raise ValueError("no walls")


class Refuses:
    def __init__(self):
        raise UserError("size is 0; it must be 1 or more.")


maze = Maze(7)
"""


@pytest.fixture
def name(tmp_path, monkeypatch, request):
    """A module of the current directory, under a name of its own."""
    monkeypatch.chdir(tmp_path)
    name = "module_of_" + request.node.name.split("[")[0]
    (tmp_path / f"{name}.py").write_text(SOURCE)
    yield name
    sys.modules.pop(name, None)


def message(spec):
    with pytest.raises(UserError) as raised:
        load_object(spec)
    return str(raised.value)


def test_a_class_is_built(name):
    assert load_object(f"{name}:Maze").size == 3


def test_a_file_is_as_good_as_a_module(name, tmp_path):
    cls = load_class(f"{name}.py:Maze")
    assert load_object(f"{tmp_path}/{name}.py:Maze") == cls()
    assert load_object(f"{name}:Maze") == cls()
    assert cls.__module__ == name


def test_an_instance_is_returned_as_it_is(name):
    assert load_object(f"{name}:maze").size == 7


def test_installed_modules_are_found():
    assert load_object("surefoot.envs:Bandit") == Bandit()


@pytest.mark.parametrize("spec", ["Maze", ":Maze", "mazes:", ""])
def test_without_a_colon(spec):
    assert "write MODULE:CLASS" in message(spec)


def test_no_such_module():
    assert message("no_such_module:Maze").startswith("There is no module 'no_such_module'.")
    assert "for there is no 'no_such'" in message("no_such.module:Maze")
    assert "'surefoot.mazes'" in message("surefoot.mazes:Maze")


def test_no_such_file(tmp_path):
    assert message(f"{tmp_path}/mazes.py:Maze") == f"There is no file {tmp_path}/mazes.py."


@pytest.mark.parametrize("suffix", ["", ".py"])
def test_an_import_inside_fails(name, tmp_path, suffix):
    (tmp_path / f"{name}.py").write_text("import sys\nimport no_such_module\n")
    told = message(f"{name}{suffix}:Maze")
    assert told.startswith(
        f"Importing {name}{suffix} failed: ModuleNotFoundError: No module named 'no_such_module'"
    )
    assert told.endswith(f" at {name}.py:2.")


def test_the_line_that_failed_is_the_users_own(name, tmp_path):
    """Not the library's, which it called."""
    line = "from surefoot.options import check\ncheck(False, 'size', 0, 'more')\n"
    (tmp_path / f"{name}.py").write_text(line)
    assert message(f"{name}:Maze").endswith(f"it must be more at {name}.py:2.")


@pytest.mark.parametrize(("line", "told"), [("1 / 0", "ZeroDivisionError"), ("exit(3)", "SystemExit: 3")])
def test_a_module_fails(name, tmp_path, line, told):
    (tmp_path / f"{name}.py").write_text(line)
    assert told in message(f"{name}:Maze")
    assert told in message(f"{name}.py:Maze")


def test_a_syntax_error(name, tmp_path):
    (tmp_path / f"{name}.py").write_text("class Maze\n")
    assert "SyntaxError: expected ':'" in message(f"{name}:Maze")


def test_a_close_name_is_suggested(name):
    assert message(f"{name}:Mace") == f"{name} has no 'Mace'. Did you mean 'Maze'?"


def test_arguments_without_a_default(name):
    assert "missing 2 required positional arguments: 'size' and 'depth'. Give every" in message(
        f"{name}:Sized"
    )


def test_abstract_methods_are_listed(name):
    told = message(f"{name}:Contract")
    assert all(word in told for word in ("abstract methods", "reset", "step", "implement every abstract"))


def test_a_constructor_that_fails(name):
    assert f"without arguments: ValueError: no walls at {name}.py:28." in message(f"{name}:Fails")
    assert message(f"{name}:Refuses") == "size is 0; it must be 1 or more."


def test_a_file_that_was_imported_by_another_path(tmp_path, monkeypatch):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "linked_maze.py").write_text(SOURCE)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    monkeypatch.syspath_prepend(str(tmp_path / "link"))
    imported = importlib.import_module("linked_maze")
    assert load_class(f"{tmp_path}/link/linked_maze.py:Maze") is imported.Maze
    del sys.modules["linked_maze"]


def test_a_name_with_a_dot_cannot_be_imported_by_workers(tmp_path):
    (tmp_path / "maze.v2.py").write_text(SOURCE)
    assert "cannot be imported by workers, since its name has a dot" in message(f"{tmp_path}/maze.v2.py:Maze")


@pytest.mark.parametrize("taken", ["json", "wave"])  # One is imported, the other seldom is.
def test_a_file_with_the_name_of_another_module(tmp_path, taken):
    """Its folder is not searched afterwards: workers would import it in place of the other."""
    (tmp_path / f"{taken}.py").write_text(SOURCE)
    assert f"has the name of another module, {taken!r}" in message(f"{tmp_path}/{taken}.py:Maze")
    assert str(tmp_path) not in sys.path


def test_load_class_wants_a_class(name):
    assert load_class(f"{name}:Sized").__name__ == "Sized"
    with pytest.raises(UserError, match="is a Maze, not a class"):
        load_class(f"{name}:maze")
