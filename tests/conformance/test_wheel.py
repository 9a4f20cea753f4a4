"""The wheel, an editable install and a bare checkout, each used."""

import configparser
import importlib.util
import json
import pathlib
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parents[2]
TRACKED = ("keras_polynets", "zoo", "setup.cfg", "pyproject.toml", "LICENSE")
REPORT = """
import json, pathlib
import keras_polynets
from keras_polynets import data, zoo
folder = zoo.data_directory()
sample = data.load("fashion_mnist_sample")
print(json.dumps({
    "package": keras_polynets.__file__,
    "version": keras_polynets.__version__,
    "zoo": str(folder),
    "files": sorted(
        str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()
    ),
    "images": list(sample.x_train.shape),
    "trained": zoo.load("pn4.fashion_mnist").count_params(),
}))
"""

pytestmark = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("build", "setuptools", "pip"))),
    reason="needs build, setuptools and pip (extra dev)",
)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the sources, so that building leaves nothing behind."""
    folder = tmp_path_factory.mktemp("checkout")
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in (*TRACKED, "README.md"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=ignore)
        elif source.exists():
            shutil.copy(source, folder / name)
    return folder


@pytest.fixture(scope="module")
def wheel(checkout, tmp_path_factory):
    """The wheel, built out of the source distribution."""
    folder = tmp_path_factory.mktemp("dist")
    run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder],
        cwd=checkout,
    )
    return next(folder.glob("*.whl"))


@pytest.fixture
def environment(tmp_path):
    """A fresh environment that sees this one's packages, not its installs."""
    folder = tmp_path / "environment"
    venv.create(folder, with_pip=False, symlinks=True)
    paths = {"base": str(folder), "platbase": str(folder)}
    packages = pathlib.Path(sysconfig.get_path("purelib", vars=paths))
    outer = {sysconfig.get_path(key) for key in ("purelib", "platlib")}
    (packages / "outer.pth").write_text("\n".join(outer))
    return folder


def run(command, cwd=None):
    process = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


def install(environment, *words):
    python = environment / "bin" / "python"
    run(
        [sys.executable, "-m", "pip", "--python", python, "install"]
        + ["--quiet", "--no-deps", "--no-build-isolation", *words]
    )


def report(environment, cwd):
    out = run([environment / "bin" / "python", "-c", REPORT], cwd=cwd)
    return json.loads(out.splitlines()[-1])


def zoo_files(checkout):
    folder = checkout / "zoo"
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file()
    )


def test_the_list_of_packages_is_complete():
    setup = configparser.RawConfigParser()
    setup.read(ROOT / "setup.cfg")
    listed = setup["options"]["packages"].split()
    folders = [
        ".".join(path.parent.relative_to(ROOT).parts)
        for path in (ROOT / "keras_polynets").rglob("__init__.py")
    ]
    assert sorted(listed) == sorted([*folders, "keras_polynets._zoo"]), (
        "Put every package into the list `packages` of setup.cfg."
    )


def test_wheel_holds_every_file_and_nothing_else(checkout, wheel):
    names = {
        name
        for name in zipfile.ZipFile(wheel).namelist()
        if ".dist-info/" not in name
    }
    package = {
        str(path.relative_to(checkout))
        for path in (checkout / "keras_polynets").rglob("*")
        if path.is_file()
    }
    zoo = {f"keras_polynets/_zoo/{name}" for name in zoo_files(checkout)}
    assert names == package | zoo


def test_wheel_is_used(checkout, wheel, environment, tmp_path):
    install(environment, wheel)
    found = report(environment, tmp_path)
    package = pathlib.Path(found["package"]).parent
    assert environment in package.parents
    assert found["zoo"] == str(package / "_zoo")
    assert found["files"] == zoo_files(checkout)
    assert found["images"] == [10_000, 28, 28, 1]
    assert found["trained"] == 50_346
    assert f"-{found['version']}-" in wheel.name
    command = environment / "bin" / "keras-polynets"
    info = json.loads(run([command, "info", "pn4", "--json"], cwd=tmp_path))
    assert info["parameters"] == 50_346
    assert "fashion_mnist" in info["tags"]


def test_editable_install_is_used(checkout, environment, tmp_path):
    install(environment, "--editable", checkout)
    found = report(environment, tmp_path)
    assert found["package"] == str(checkout / "keras_polynets" / "__init__.py")
    assert found["zoo"] == str(checkout / "zoo")
    assert found["files"] == zoo_files(checkout)


def test_bare_checkout_is_used(checkout, environment):
    found = report(environment, checkout)
    assert found["package"] == str(checkout / "keras_polynets" / "__init__.py")
    assert found["zoo"] == str(checkout / "zoo")
    assert found["files"] == zoo_files(checkout)
