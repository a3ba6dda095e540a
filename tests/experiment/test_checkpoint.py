import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surefoot.experiment.checkpoint import load, save
from surefoot.options import UserError


def state() -> dict:
    return {"w": jnp.arange(6.0).reshape(2, 3), "n": jnp.array(3), "key": jax.random.key(7), "none": None}


def test_round_trip_is_exact_and_includes_random_keys(tmp_path: Path) -> None:
    save(tmp_path / "a.ckpt", state(), 12)
    found, iteration = load(tmp_path / "a.ckpt", jax.eval_shape(state))
    assert iteration == 12
    np.testing.assert_array_equal(found["w"], state()["w"])
    assert jax.random.uniform(found["key"]) == jax.random.uniform(state()["key"])
    assert [path.name for path in tmp_path.iterdir()] == ["a.ckpt"]


@pytest.mark.parametrize("place", [0.3, 0.6, 0.95])
def test_one_changed_byte_is_noticed(place: float, tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    save(path, state(), 12)
    content = bytearray(path.read_bytes())
    start = content.index(b"\n") + 1
    content[start + int(place * (len(content) - start))] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="damaged: its checksum is wrong"):
        load(path, state())


def test_a_file_cut_short_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    save(path, state(), 12)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match="damaged"):
        load(path, state())


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"{}\n", b"[1]\nabc", b'{"file": "other"}\n'])
def test_foreign_files(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    path.write_bytes(content)
    with pytest.raises(UserError, match="not a surefoot checkpoint"):
        load(path, state())


def test_another_format(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    save(path, state(), 12)
    line, _, payload = path.read_bytes().partition(b"\n")
    path.write_bytes(json.dumps({**json.loads(line), "format": 99}).encode() + b"\n" + payload)
    with pytest.raises(UserError, match="checkpoint format 99"):
        load(path, state())


@pytest.mark.parametrize(
    ("lacking", "message"),
    [
        ("file", "not a surefoot checkpoint"),
        ("format", "not a surefoot checkpoint"),
        ("sha256", "damaged"),
        ("iteration", "damaged"),
    ],
)
def test_a_header_that_lacks_something(lacking: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    save(path, state(), 12)
    line, _, payload = path.read_bytes().partition(b"\n")
    header = {name: value for name, value in json.loads(line).items() if name != lacking}
    path.write_bytes(json.dumps(header).encode() + b"\n" + payload)
    with pytest.raises(UserError, match=message):
        load(path, state())


@pytest.mark.parametrize(
    ("like", "message"),
    [
        ({**state(), "w": jnp.zeros((3, 2))}, r"w'\] is float32\[2, 3\] in it and float32\[3, 2\]"),
        ({**state(), "n": jnp.array(3.0)}, "another configuration"),
        ({**state(), "more": jnp.zeros(1)}, r"it lacks \['more'\]"),
        ({"w": state()["w"]}, "which the run has not"),
    ],
)
def test_another_configuration(like: dict, message: str, tmp_path: Path) -> None:
    save(tmp_path / "a.ckpt", state(), 12)
    with pytest.raises(UserError, match=message):
        load(tmp_path / "a.ckpt", like)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be opened"):
        load(tmp_path / "a.ckpt", state())


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.ckpt"
    save(path, state(), 1)
    before = path.read_bytes()

    def fail(descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("surefoot.experiment.files.os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        save(path, state(), 2)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1
