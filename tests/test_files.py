"""Files are written completely or not at all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import anndata as ad
import numpy as np
import pytest

from genot_helpers import check_output_dir, write_json, write_slice
from genot_helpers.files import atomic_path


def small_slice(n: int = 30) -> ad.AnnData:
    rng = np.random.default_rng(0)
    adata = ad.AnnData(rng.poisson(2.0, (n, 5)).astype("float32"))
    adata.obsm["spatial"] = rng.random((n, 2))
    adata.uns["genot"] = {"simulated": True, "seed": 0, "loss": np.arange(3.0)}
    return adata


def test_atomic_path_replaces_the_old_file_and_keeps_the_ending(tmp_path):
    target = tmp_path / "figure.png"
    target.write_text("old")
    with atomic_path(target) as unfinished:
        assert unfinished.parent == target.parent
        assert unfinished.suffix == ".png"
        unfinished.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("stop", [ValueError, KeyboardInterrupt, SystemExit])
def test_atomic_path_leaves_the_old_file_when_stopped(tmp_path, stop):
    target = tmp_path / "scores.json"
    target.write_text("old")
    with pytest.raises(stop), atomic_path(target) as unfinished:
        unfinished.write_text("half")
        raise stop
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_atomic_path_follows_a_link(tmp_path):
    real, link = tmp_path / "real.txt", tmp_path / "link.txt"
    real.write_text("old")
    link.symlink_to(real)
    with atomic_path(link) as unfinished:
        unfinished.write_text("new")
    assert link.is_symlink()
    assert real.read_text() == "new"


def test_atomic_path_refuses_a_folder(tmp_path):
    with pytest.raises(IsADirectoryError, match="is a folder"), atomic_path(tmp_path):
        pass


def test_leftovers_of_a_killed_process_are_removed_but_not_those_of_a_running_one(tmp_path):
    old, fresh = tmp_path / ".a.01234567.part.h5ad", tmp_path / ".a.89abcdef.part.h5ad"
    other = tmp_path / ".b.01234567.part.h5ad"
    for path in (old, fresh, other):
        path.write_text("half")
    for path in (old, other):
        os.utime(path, (time.time() - 7200,) * 2)
    with atomic_path(tmp_path / "a.h5ad") as unfinished:
        unfinished.write_text("whole")
    assert not old.exists()
    assert fresh.exists()
    assert other.exists()


def test_two_writers_do_not_meet(tmp_path):
    with atomic_path(tmp_path / "a.txt") as one, atomic_path(tmp_path / "a.txt") as two:
        assert one != two
        one.write_text("1")
        two.write_text("2")
    assert (tmp_path / "a.txt").read_text() == "1"  # the last to finish


def test_check_output_dir_creates_the_folder(tmp_path):
    folder = check_output_dir(tmp_path / "a" / "b")
    assert folder.is_dir()
    assert list(folder.iterdir()) == []


def test_check_output_dir_says_what_is_in_the_way(tmp_path):
    (tmp_path / "file").write_text("x")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OSError, match=r"Cannot write to the folder .*Choose another folder"):
            check_output_dir(folder)


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder nobody can write to")
def test_check_output_dir_when_nothing_can_be_written():
    with pytest.raises(OSError, match="Cannot write to the folder /proc"):
        check_output_dir("/proc/results")


def test_write_slice_round_trip(tmp_path):
    adata = small_slice()
    path = write_slice(adata, tmp_path / "new" / "slice.h5ad")
    back = ad.read_h5ad(path)
    np.testing.assert_array_equal(back.X, adata.X)
    assert back.uns["genot"]["simulated"]
    backed = ad.read_h5ad(path, backed="r")
    assert backed[:10].to_memory().shape == (10, 5)
    backed.file.close()


def test_write_slice_wants_the_right_ending(tmp_path):
    with pytest.raises(ValueError, match=r"should end in \.h5ad"):
        write_slice(small_slice(), tmp_path / "slice.csv")


def test_write_slice_that_cannot_be_written_leaves_the_old_file(tmp_path):
    path = write_slice(small_slice(), tmp_path / "slice.h5ad")
    before = path.read_bytes()
    broken = small_slice()
    broken.uns["genot"]["object"] = object()  # has no place in h5ad
    with pytest.raises(Exception, match="object"):
        write_slice(broken, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


FULL_DISK = """
import resource, sys
import anndata as ad, numpy as np
from genot_helpers.files import write_json, write_slice
folder = sys.argv[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
big = ad.AnnData(np.random.default_rng(0).random((1000, 200), dtype="float32"))
long = {"x": "y" * 200_000}
for write, data, name in ((write_slice, big, "a.h5ad"), (write_json, long, "b.json")):
    try:
        write(data, f"{folder}/{name}")
    except OSError as error:
        print("OSError", error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are a thing of POSIX")
def test_disk_full_while_writing_leaves_the_old_files(tmp_path):
    """A limit on file size stands in for a full disk: writes fail at the same place."""
    write_slice(small_slice(), tmp_path / "a.h5ad")
    write_json({"x": 1}, tmp_path / "b.json")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    root = str(Path(__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": root},
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("OSError") == 2, done.stdout + done.stderr
    assert done.stdout.count("The file that was there before is unchanged") == 2
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_write_json_takes_numpy_and_turns_nan_into_null(tmp_path):
    data = {
        "ari": np.float32(0.5),
        "n": np.int64(3),
        "nan": float("nan"),
        "inf": np.float64("inf"),
        "array": np.array([1.0, np.nan]),
        "nested": {"yes": np.bool_(True), 7: (1, 2)},
        "path": Path("a"),
        "name": "é",
    }
    path = write_json(data, tmp_path / "metrics.json")
    assert json.loads(path.read_text(encoding="utf-8")) == {
        "ari": 0.5,
        "n": 3,
        "nan": None,
        "inf": None,
        "array": [1.0, None],
        "nested": {"yes": True, "7": [1, 2]},
        "path": "a",
        "name": "é",
    }


def test_write_json_refuses_what_json_does_not_know_before_touching_the_file(tmp_path):
    path = write_json({"a": 1}, tmp_path / "a.json")
    with pytest.raises(TypeError):
        write_json({"a": object()}, path)
    assert json.loads(path.read_text()) == {"a": 1}
