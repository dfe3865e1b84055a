import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from cifar_report.experiments.catalog import load_catalog, read_yaml

ROOT = Path(__file__).parent.parent
NAMES = {"pytorch": "torch", "matplotlib-base": "matplotlib"}  # conda's names of the same packages


def pyproject() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_environment_and_pyproject_agree():
    dependencies = read_yaml(ROOT / "environment.yml")["dependencies"]
    conda = {text for text in dependencies if isinstance(text, str)}
    for theirs, ours in NAMES.items():
        conda = {text.replace(theirs, ours, 1) if text.startswith(theirs) else text for text in conda}
    project = pyproject()
    expected = {*project["dependencies"], *project["optional-dependencies"]["notebook"]}
    assert conda == {*expected, f"python{project['requires-python']}", "pip"}


def test_lock_satisfies_what_pyproject_requires_with_hashes():
    blocks = re.split(r"\n(?=\S)", (ROOT / "requirements.lock").read_text())
    locked: dict[str, list[str]] = {}
    for block in blocks:
        if match := re.match(r"([\w.-]+)==([^ ;\\]+)", block):
            assert "--hash=sha256:" in block, match[1]
            locked.setdefault(canonicalize_name(match[1]), []).append(match[2])
    for text in pyproject()["dependencies"]:
        requirement = Requirement(text)
        versions = locked[canonicalize_name(requirement.name)]
        assert all(requirement.specifier.contains(version) for version in versions), text
    assert "hatchling" in locked  # so that building this package fetches nothing else


@pytest.mark.slow
def test_wheel_carries_notebooks_and_params_and_finds_them(tmp_path):
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    (metadata,) = (name for name in names if name.endswith("/METADATA"))
    text = zipfile.ZipFile(wheel).read(metadata).decode()
    assert "Metadata-Version: 2.4\n" in text  # newer ones are refused by the action that publishes
    assert f"Project-URL: Repository, https://github.com/{load_catalog().repository}\n" in text
    assert "cifar_report/notebooks/00_baseline.ipynb" in names
    assert "cifar_report/params/profiles/quick.yaml" in names
    assert "cifar_report/report/templates/cifar_report/style.css" in names
    assert not [name for name in names if name.startswith(("tests", "outputs"))]

    # Installed from the wheel, in another environment, far from the clone: the same experiments.
    home = tmp_path / "venv"
    venv.create(home, with_pip=False)
    (packages,) = home.glob("lib/python*/site-packages")
    zipfile.ZipFile(wheel).extractall(packages)
    here = next(Path(path) for path in sys.path if path.endswith("site-packages"))
    (packages / "borrowed.pth").write_text(f"{here}\n")
    code = (
        "from cifar_report.experiments import catalog; import cifar_report; print(cifar_report.__file__); "
        "print(len(catalog.load_catalog().entries), catalog.packaged_folder('notebooks'))"
    )
    python = home / "bin" / "python"
    done = subprocess.run([python, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    package, found = done.stdout.split("\n")[:2]
    assert str(packages) in package
    assert found == f"{len(load_catalog().entries)} {packages / 'cifar_report' / 'notebooks'}"
