"""The one door for files: what it lets through, and what it says of the rest."""

import io
import os
import stat
import zipfile
from pathlib import Path

import numpy as np
import pytest

from cna_mlx.errors import InputError
from cna_mlx.util.files import typed_path, without_home, write_atomically
from cna_mlx.util.reading import (
    DEEPEST,
    BeyondLimits,
    parse_json,
    read_arrays,
    read_file,
    read_stream,
)


def test_a_file_of_the_largest_size_is_read_and_one_byte_more_is_not(
    tmp_path: Path,
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100)
    assert read_file(path, 100) == b"x" * 100
    with pytest.raises(OSError, match="larger than"):
        read_file(path, 99)
    assert read_stream(io.StringIO("abc"), 3) == "abc"
    with pytest.raises(OSError, match="larger than"):
        read_stream(io.StringIO("abc"), 2)


def test_only_regular_files_are_read_and_none_is_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="a device or a pipe"):
        read_file(tmp_path / "pipe")
    with pytest.raises(OSError, match="a device or a pipe"):
        read_file("/dev/zero")
    with pytest.raises(IsADirectoryError):
        read_file(tmp_path)
    with pytest.raises(OSError, match="NUL"):
        read_file("a\0b")
    with pytest.raises(FileNotFoundError):
        read_file(tmp_path / "nothing")


@pytest.mark.parametrize("begin", ["[", '{"a":'])
def test_json_has_a_depth(begin: str) -> None:
    end = {"[": "]", "{": "}"}[begin[0]]
    for depth in (DEEPEST, DEEPEST + 1, 100_000):
        text = begin * depth + "1" + end * depth
        if depth == DEEPEST:
            assert parse_json(text)
        else:
            with pytest.raises(BeyondLimits, match="inside each other"):
                parse_json(text)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
def test_a_file_of_ours_has_finite_numbers(number: str) -> None:
    text = f'{{"a": [1, {number}]}}'
    assert not np.isfinite(parse_json(text)["a"][1])
    with pytest.raises(ValueError, match="number"):
        parse_json(text, finite=True)


def test_arrays_are_bounded_and_hold_no_pickles(tmp_path: Path) -> None:
    path = tmp_path / "arrays.npz"
    np.savez(path, a=np.zeros(1000, np.float32))
    assert read_arrays(path)["a"].tolist() == [0.0] * 1000
    with pytest.raises(ValueError, match="damaged"):
        read_arrays(path, 4000)  # the values alone, without the header
    np.savez(path, a=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="damaged"):
        read_arrays(path)
    path.write_bytes(b"PK\3\4")
    with pytest.raises(ValueError, match="damaged"):
        read_arrays(path)


def test_a_type_that_is_no_type(tmp_path: Path) -> None:
    """NumPy reads it as Python."""
    path, file = tmp_path / "arrays.npz", io.BytesIO()
    np.save(file, np.zeros(3, np.float32))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", file.getvalue().replace(b"'<f4'", b"',  '"))
    with pytest.raises(ValueError, match="damaged, or cut off"):
        read_arrays(path)


def test_a_link_stays_and_what_it_leads_to_is_written(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there/file")
    write_atomically(tmp_path / "link", "one")
    write_atomically(tmp_path / "link", "two")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there" / "file").read_text() == "two"
    assert [one.name for one in (tmp_path / "there").iterdir()] == ["file"]


def test_a_device_is_written_to_and_stays(tmp_path: Path) -> None:
    (tmp_path / "null").symlink_to("/dev/null")
    write_atomically(tmp_path / "null", "text")
    write_atomically(Path("/dev/null"), "text")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="cannot be written"):  # nobody reads it
        write_atomically(tmp_path / "pipe", "text")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_atomically(tmp_path / "pipe", "text")
    assert os.read(reader, 9) == b"text"
    os.close(reader)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_a_nul_in_a_name_is_told() -> None:
    with pytest.raises(InputError, match=r"--out a\\x00b.*NUL"):
        typed_path("a\0b", "--out")


def test_the_home_directory_is_not_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert without_home(tmp_path / "models" / "mine") == "~/models/mine"
    assert without_home(str(tmp_path)) == "~"
    for other in (f"{tmp_path}er/mine", "org/name", "./mine", "/data/mine"):
        assert without_home(other) == other
    assert typed_path(without_home(tmp_path / "mine")) == tmp_path / "mine"
