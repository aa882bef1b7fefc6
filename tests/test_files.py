"""Which files are traced: the user's own, and the packages that are named."""

import os
import sysconfig
import wsgiref.headers

import pytest

import frontrun
from frontrun._exploration import library_directories


def explore(**options):
    """Two workers race inside a function of the standard library, written in Python."""

    def worker(name):
        return lambda headers: headers.setdefault("Name", name)

    return frontrun.explore(
        lambda: wsgiref.headers.Headers([]),
        [worker("a"), worker("b")],
        lambda headers: len(headers) == 1,
        stop_on_first=False,
        **options,
    )


def test_code_of_the_standard_library_is_atomic():
    result = explore()
    assert result.property_holds
    assert result.exhaustive


@pytest.mark.parametrize("pattern", ["wsgiref.headers", "wsgiref.*", "*.headers", "wsgire?.*"])
def test_a_named_package_is_traced(pattern):
    result = explore(trace_packages=["no.such.package", pattern])
    assert result.property_holds is False
    assert "headers.py" in result.explanation


def test_a_pattern_names_whole_modules():
    assert explore(trace_packages=["wsgiref", "headers"]).property_holds


@pytest.mark.parametrize("pattern", ["fr_package.*", "fr_package"])
def test_a_pattern_names_the_file_of_a_package_itself(pattern, tmp_path, monkeypatch):
    package = tmp_path / "fr_package"
    package.mkdir()
    (package / "__init__.py").write_text("def count(box):\n    box.append(len(box))\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("frontrun._exploration.library_directories", lambda: [f"{tmp_path}/"])
    import fr_package

    result = frontrun.explore(
        list,
        fr_package.count,
        lambda box: box == [0, 1],
        count=2,
        trace_packages=[pattern],
    )
    assert result.property_holds is False


def test_package_patterns_are_checked():
    with pytest.raises(TypeError, match="trace_packages must be a list of module names"):
        explore(trace_packages="wsgiref.*")


def test_libraries_lie_where_sysconfig_says(monkeypatch):
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    told = {os.path.join(sysconfig.get_path(name), "") for name in names}
    # A signal's handler that raises would leave those half read.
    monkeypatch.setattr(sysconfig, "get_config_vars", lambda: pytest.fail("reads all there is"))
    assert told <= set(library_directories.__wrapped__())
