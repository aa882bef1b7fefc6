"""Fixtures that several test files share."""

import compileall
import functools
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


@functools.cache
def installed(requirements: tuple[str, ...], home: Path) -> Path:
    """Installs released packages into a directory of their own, unless they are there."""
    target = home / "-".join(requirements)
    if not target.exists():
        new = target.with_name(f"{target.name}.{os.getpid()}")
        # Wheels only and without dependencies: exactly what is named, and no build of it.
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        options = ["--no-deps", "--only-binary=:all:", "--retries=5", f"--target={new}"]
        subprocess.run([*pip, *options, *requirements], check=True, timeout=300)
        try:
            new.rename(target)
        except OSError:  # the suite of another version was faster
            shutil.rmtree(new)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a version that is newer than the package
        compileall.compile_dir(target, quiet=2)
    return target


@pytest.fixture
def package(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., None]]:
    """Makes released packages importable for one test: `package("pyee==8.0.1")`.

    They lie outside site-packages, so their code is traced like the user's own. The directory
    ``FRONTRUN_PACKAGES``, if there is one, is shared by the suites of all versions; what is
    built for one version (`pure=False`) is not.
    """
    own = tmp_path_factory.getbasetemp() / "packages"
    shared = Path(os.environ.get("FRONTRUN_PACKAGES", own))
    roots: list[str] = []

    def make_importable(*requirements: str, pure: bool = True) -> None:
        root = str(installed(requirements, shared if pure else own))
        monkeypatch.syspath_prepend(root)
        roots.append(root)

    yield make_importable
    for name, module in list(sys.modules.items()):
        origin = getattr(module, "__file__", None) or ""
        if any(origin.startswith(root) for root in roots):
            del sys.modules[name]
