"""What the documents say is so."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
EXAMPLE = ROOT / "examples" / "counter.py"
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def blocks(language: str) -> list[str]:
    """The README's fenced blocks in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_readme_shows_the_example() -> None:
    assert blocks("python")[0] == EXAMPLE.read_text()


def test_readme_shows_what_the_example_prints() -> None:
    command = [sys.executable, EXAMPLE.relative_to(ROOT)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert run.stderr == ""
    shown = blocks("text")[0]
    if "t" in sys.abiflags:
        # It says that this interpreter is another one, and breaks its lines elsewhere.
        run.stdout, shown = run.stdout.split(), shown.replace("as here", "unlike here").split()
    assert run.stdout == shown


PAGES = sorted(path for path in (ROOT / "docs").glob("*.md"))


def python_of(text: str) -> str:
    """The Python blocks of a page as one file, each line where it stands in the page."""
    inside, lines = False, []
    for line in text.splitlines():
        if line.startswith("```"):
            inside = line == "```python"
            line = ""
        lines.append(line if inside else "")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: page.name)
def test_the_code_of_every_page_runs(page: Path, tmp_path: Path) -> None:
    text = python_of(page.read_text())
    (tmp_path / "test_page.py").write_text(text)
    # Under pytest, so that what a page shows as a test is one.
    options = ["-q", "-p", "no:cacheprovider", "-p", "frontrun.pytest_plugin", "-W", "error"]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "test_page.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    no_tests = 5
    expected = 0 if "\ndef test_" in text else no_tests
    assert run.returncode == expected, run.stdout + run.stderr


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_every_example_runs(example: Path) -> None:
    command = [sys.executable, example.relative_to(ROOT)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    assert run.stdout


def test_the_reference_has_everything_that_is_public() -> None:
    headings = re.compile("^#+ .*$", re.MULTILINE)
    tool = runpy.run_path(str(ROOT / "tools" / "reference"))
    page = (ROOT / "docs" / "reference.md").read_text()
    assert headings.findall(page) == headings.findall(tool["page"]())


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_every_page_is_reached_from_the_readme() -> None:
    linked = set(re.findall(r"\]\(docs/([^)#]+)\)", README))
    assert linked == {page.name for page in PAGES}


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


def test_the_code_about_counterexamples_runs_and_prints_what_it_says(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "counterexamples.md").read_text()
    code = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    (tmp_path / "code.py").write_text("\n".join(code))
    command = [sys.executable, "code.py"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stderr) == (0, "")
    (told,) = re.findall(r"^```text\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert run.stdout.endswith(told)


def test_the_async_examples_run_as_told(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "asyncio.md").read_text()
    code = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    told = re.findall(r"^```text\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    (tmp_path / "bank.py").write_text("\n".join(code))
    run = subprocess.run(
        [sys.executable, "bank.py"],
        cwd=tmp_path,
        # In development mode asyncio tells of steps that take long: an exploration does.
        env={**os.environ, "PYTHONDEVMODE": ""},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.stderr == ""
    assert run.stdout == told[0]
