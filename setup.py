"""What pyproject.toml cannot say: the packages carry notebooks, workflow, registry and scores.

Their one copy stays where readers of the repository look for it.
"""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
WORKFLOW = ["Snakefile", "*.ipynb", "*.yaml", "README.md", "profiles/*/*.yaml"]
# Package → folder of the repository, and the files of it that are installed.
CARRIED = {
    "genot_runner.shipped.notebooks": ("notebooks", ["*.ipynb"]),
    "genot_runner.shipped.workflow": ("workflow", WORKFLOW),
    "genot_helpers.data": ("data", ["registry.tsv"]),
    "genot_helpers.scores": ("benchmarks/results", ["real_*.json"]),
}
carried = {name: what for name, what in CARRIED.items() if (HERE / what[0]).is_dir()}
own = find_packages(str(HERE), include=["genot_helpers*", "genot_runner*"])

setup(
    packages=[*own, *carried],
    package_dir={name: folder for name, (folder, _) in carried.items()},
    package_data={"genot_helpers": ["py.typed", "*.pyi", "*/*.pyi", "report.html"]}
    | {name: files for name, (_, files) in carried.items()},
    include_package_data=False,
)
