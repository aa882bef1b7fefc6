"""What the documents say is so."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
EXAMPLE = ROOT / "examples" / "counter.py"


def blocks(language: str) -> list[str]:
    """The README's fenced blocks in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_readme_shows_the_example() -> None:
    assert blocks("python")[0] == EXAMPLE.read_text()


def test_readme_shows_what_the_example_prints() -> None:
    command = [sys.executable, EXAMPLE.relative_to(ROOT)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert run.stderr == ""
    assert run.stdout == blocks("text")[0]


def test_every_dependency_has_its_reason() -> None:
    cargo = tomllib.loads((ROOT / "Cargo.toml").read_text())
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project = pyproject["project"]
    wheels = [
        *pyproject["build-system"]["requires"],
        *project.get("dependencies", []),
        *(each for extra in project["optional-dependencies"].values() for each in extra),
    ]
    used = {re.split(r"[^\w-]", wheel)[0] for wheel in wheels} - {project["name"]}
    for kind in ("dependencies", "build-dependencies", "dev-dependencies"):
        used |= cargo.get(kind, {}).keys()
    table = (ROOT / "docs" / "dependencies.md").read_text()
    assert set(re.findall(r"^\| `([^`]+)`", table, re.MULTILINE)) == used
