"""The package as others install it: a wheel in a fresh environment, used in an empty folder."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
import yaml

import genot_helpers
from genot_runner.notebooks import CHECKOUT

BIN = "Scripts" if os.name == "nt" else "bin"


def copy_of_the_source(folder):
    """Copy what is built, so that building leaves nothing in the checkout."""
    for name in ("genot_helpers", "genot_runner", "notebooks", "workflow"):
        ignored = shutil.ignore_patterns("__pycache__", ".*")
        shutil.copytree(CHECKOUT / name, folder / name, ignore=ignored)
    scores = sorted(CHECKOUT.glob("benchmarks/results/real_*.json"))
    carried = ["data/registry.tsv", *(path.relative_to(CHECKOUT) for path in scores)]
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", *carried):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(CHECKOUT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build the wheel from a copy of what is built: an older build/ would be mixed into it."""
    folder = tmp_path_factory.mktemp("wheel")
    source = copy_of_the_source(folder / "source")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    build += ["--wheel-dir", str(folder), str(source)]
    run = subprocess.run(build, capture_output=True, text=True)
    if "No module named" in run.stderr or "BackendUnavailable" in run.stderr:
        pytest.skip("needs setuptools to build a wheel")
    assert run.returncode == 0, run.stderr
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Install the wheel into a new environment, which sees the dependencies of this one.

    Returns the environment's folder of programs and the variables to start them with.
    """
    folder = tmp_path_factory.mktemp("environment") / "env"
    venv.create(folder, with_pip=True, symlinks=os.name != "nt")
    python = folder / BIN / "python"
    asked = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = subprocess.run([python, "-c", asked], capture_output=True, text=True, check=True)
    # A path file at the end of the list: what this environment has, but for the package itself.
    own = {sysconfig.get_path("purelib"), *(one for one in sys.path if "site-packages" in one)}
    lines = "".join(f"{one}\n" for one in own)
    Path(site.stdout.strip(), "zz_dependencies.pth").write_text(lines, encoding="utf-8")
    install = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--force-reinstall", wheel]
    subprocess.run(install, check=True, capture_output=True)
    jupyter = [Path(sys.prefix, "share", "jupyter"), os.environ.get("JUPYTER_PATH", "")]
    removed = ("PYTHONPATH", "GENOT_DATA_DIR")
    environment = {name: one for name, one in os.environ.items() if name not in removed}
    environment["JUPYTER_PATH"] = os.pathsep.join(str(one) for one in jupyter if str(one))
    return folder / BIN, environment


def genot(installed, folder, *words):
    programs, environment = installed
    command = [str(programs / "genot"), *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_the_wheel_carries_what_readers_need(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = (name for name in names if name.endswith("dist-info/METADATA"))
        about = archive.read(metadata).decode()
    for notebook in (CHECKOUT / "notebooks").glob("*.ipynb"):
        assert f"genot_runner/shipped/notebooks/{notebook.name}" in names
    for one in ("Snakefile", "summary.ipynb", "profiles/local/config.yaml"):
        assert f"genot_runner/shipped/workflow/{one}" in names
    assert "genot_helpers/data/registry.tsv" in names
    for scores in (CHECKOUT / "benchmarks" / "results").glob("real_*.json"):
        assert f"genot_helpers/scores/{scores.name}" in names
    assert {"genot_helpers/py.typed", "genot_helpers/report.html"} <= set(names)
    for module in (CHECKOUT / "genot_helpers").rglob("*.py"):
        assert module.relative_to(CHECKOUT).as_posix() in names
    assert not {name.split("/")[0] for name in names} - {
        *("genot_helpers", "genot_runner", metadata.split("/")[0])
    }
    for part in (
        f"Version: {genot_helpers.__version__}",
        "Author: GenOT",
        "Classifier: ",
        "License",
    ):
        assert part in about


def test_a_notebook_runs_where_only_the_wheel_is(installed, tmp_path):
    version = genot(installed, tmp_path, "--version")
    assert version.stdout.strip() == f"genot-helpers {genot_helpers.__version__}"
    listed = genot(installed, tmp_path, "list")
    assert [line.split()[0] for line in listed.stdout.splitlines()] == [
        one.stem for one in sorted((CHECKOUT / "notebooks").glob("*.ipynb"))
    ]
    run = genot(installed, tmp_path, "run", "00", "quick=True")
    assert run.returncode == 0, run.stderr[-2000:]
    folder = tmp_path / "results" / "00_start_here"
    assert {"metrics.json", "slice.h5ad", "run.json", "00_start_here.html"} <= {
        one.name for one in folder.iterdir()
    }
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert record["status"] == "finished"
    assert record["git_commit"] is None
    assert {one.name for one in tmp_path.iterdir()} == {"results"}  # and nothing else anywhere
    assert f"{tmp_path}" in run.stdout


def test_packages_come_from_the_wheel_and_downloads_go_to_the_reader(installed, tmp_path):
    programs, environment = installed
    code = (
        "import genot_helpers as gh, genot_runner\n"
        "from genot_helpers.datasets.downloads import download_dir, read_registry\n"
        "print(gh.__file__); print(genot_runner.__file__)\n"
        "print(download_dir(registry=read_registry()))\n"
        "print(len(gh.list_slices()))"
    )
    command = [str(programs / "python"), "-c", code]
    said = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    environment_folder = str(programs.parent)
    assert said[0].startswith(environment_folder)
    assert said[1].startswith(environment_folder)
    assert not said[2].startswith(environment_folder)
    assert int(said[3]) > 20


def test_a_copy_to_work_on(installed, tmp_path):
    copied = genot(installed, tmp_path, "copy", "01")
    assert copied.returncode == 0, copied.stderr
    copy = tmp_path / "01_dlpfc_spatial_domains.ipynb"
    text = copy.read_text(encoding="utf-8")
    assert r"output_dir = \"results/01_dlpfc_spatial_domains\"" in text
    copy.write_text("edited", encoding="utf-8")
    again = genot(installed, tmp_path, "copy", "1")
    assert again.returncode == 1
    assert "is there already" in again.stderr
    assert copy.read_text(encoding="utf-8") == "edited"
    assert genot(installed, tmp_path, "copy", "all", "--to", "course").returncode == 0
    assert len(list((tmp_path / "course").iterdir())) == len(
        list((CHECKOUT / "notebooks").glob("*.ipynb"))
    )


def test_what_is_wrong_is_said_before_a_kernel_starts(installed, tmp_path):
    for words, part in (
        (["01", "--seed", "1"], "seed=1"),
        (["01", "data_source=dmeo"], "Did you mean 'demo'?"),
        (["01", "section=15167"], "Did you mean '15167"),
        (["06", "t=half"], "a number from 0 to 1"),
        (["01", "seed=-1"], "from 0 to"),
    ):
        refused = genot(installed, tmp_path, "run", *words)
        assert refused.returncode in (1, 2)
        assert part in refused.stderr
    assert not list(tmp_path.iterdir())


def test_a_sweep_where_only_the_wheel_is(installed, tmp_path):
    pytest.importorskip("snakemake")
    (tmp_path / "table.csv").write_text("notebook,quick\n0,True\n")
    swept = genot(installed, tmp_path, "sweep", "table.csv", "--cores", "1")
    assert swept.returncode == 0, swept.stderr[-2000:]
    folder = tmp_path / "results" / "sweeps" / "table"
    assert (folder / "summary" / "summary.html").exists()
    assert "1 finished" in swept.stdout


def test_the_metadata_invents_nothing():
    facts = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert "version" in facts["dynamic"]
    changes = (CHECKOUT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## {re.escape(genot_helpers.__version__)}\b", changes, re.MULTILINE)
    cited = (CHECKOUT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"version: {genot_helpers.__version__}\n" in cited


CONDA_NAMES = {
    "matplotlib": "matplotlib-base",
    "pot": "pot",
    "torch": "pytorch-cpu",
    "torch_geometric": "pytorch_geometric",
    "igraph": "python-igraph",
}


def conda_environment():
    text = (CHECKOUT / "environment.yml").read_text(encoding="utf-8")
    return yaml.safe_load(text)["dependencies"]


def test_conda_has_every_dependency_with_the_same_bound():
    facts = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))
    split = re.compile(r"^([\w.-]+)\s*(?:\[.*\])?\s*(?:>=([\w.]+))?")
    lines = [one for one in conda_environment() if isinstance(one, str)]
    conda = dict(split.match(line).groups() for line in lines)
    for line in facts["project"]["dependencies"]:
        name, bound = split.match(line).groups()
        assert conda.get(CONDA_NAMES.get(name.lower(), name.lower()), "is missing") == bound, name


def test_the_pip_part_of_the_conda_environment_is_what_pip_takes(tmp_path):
    """What conda does with it: a file of requirements, installed from the checkout's folder."""
    (pip,) = (one["pip"] for one in conda_environment() if isinstance(one, dict))
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("\n".join(pip), encoding="utf-8")
    source = copy_of_the_source(tmp_path / "source")
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-deps"]
    command += ["--no-build-isolation", "--quiet", "--report", "-", "-r", str(requirements)]
    run = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    (found,) = json.loads(run.stdout)["install"]
    assert found["metadata"]["name"] == "genot-helpers"
    assert found["download_info"]["dir_info"]["editable"] is True
