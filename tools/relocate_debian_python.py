"""Makes Debian's Python, unpacked under a prefix of its own, believe that it was installed there.

Run by install-pythons with that Python itself: PREFIX X.Y ARCH.
"""

from __future__ import annotations

import glob
import json
import os
import pprint
import re
import sys
from typing import Any

prefix, xy, arch = sys.argv[1:]
stdlib = f"{prefix}/lib/python{xy}"

# Values that are a whole path; everything below them is found by pattern.
WHOLE = {
    "/usr": prefix,
    "/usr/bin": f"{prefix}/bin",
    "/usr/lib": f"{prefix}/lib",
    "/usr/include": f"{prefix}/include",
    f"/usr/bin/python{xy}": f"{prefix}/bin/python{xy}",
    "/usr/share/python-wheels/": f"{prefix}/share/python-wheels",
}


def relocate(value: Any) -> Any:
    """The same value with every path of Debian's under the prefix."""
    if isinstance(value, dict):
        return {key: relocate(each) for key, each in value.items()}
    if isinstance(value, list):
        return [relocate(each) for each in value]
    if not isinstance(value, str):
        return value
    if value in WHOLE:
        return WHOLE[value]
    value = re.sub(rf"(?<![\w.-])/usr/lib/{arch}", f"{prefix}/lib", value)
    python_folder = rf"(?<![\w.-])/usr/(lib|include)/python{re.escape(xy)}(?![\d.])"
    return re.sub(python_folder, rf"{prefix}/\1/python{xy}", value)


def edit(path: str, *pairs: tuple[str, str]) -> None:
    """Replaces text in a file, wherever it stands."""
    with open(path) as file:
        text = file.read()
    for old, new in pairs:
        text = text.replace(old, new)
    with open(path, "w") as file:
        file.write(text)


def undo(path: str, debian: str, upstream: str) -> None:
    """Takes back one of Debian's patches, and insists that it is there."""
    with open(path) as file:
        if debian not in file.read():
            sys.exit(f"{path}: {debian!r} not found: Debian changed its patch, look again")
    edit(path, (debian, upstream))


def undo_debian_layout() -> None:
    """Packages go to site-packages, and pip may put them there."""
    scheme = "prefix_scheme = 'posix_{}'"
    undo(f"{stdlib}/sysconfig/__init__.py", scheme.format("local"), scheme.format("prefix"))
    refusal = "\n    _ensurepip_is_disabled_in_debian_for_system()"
    undo(f"{stdlib}/ensurepip/__init__.py", refusal, "\n    pass")
    os.makedirs(f"{stdlib}/site-packages", exist_ok=True)
    # `site` is frozen into the executable and looks in dist-packages.
    os.symlink("site-packages", f"{stdlib}/dist-packages")
    for name in ("EXTERNALLY-MANAGED", "sitecustomize.py"):
        if os.path.lexists(f"{stdlib}/{name}"):
            os.unlink(f"{stdlib}/{name}")


def rewrite_recorded_paths() -> None:
    """sysconfig, pkg-config, python-config and the Makefile name the prefix."""
    path = f"{stdlib}/_sysconfigdata__linux_{arch}.py"
    recorded: dict[str, Any] = {}
    with open(path) as file:
        exec(file.read(), recorded)
    variables = relocate(recorded["build_time_vars"])
    variables["BINLIBDEST"] = stdlib
    with open(path, "w") as file:
        file.write("build_time_vars = " + pprint.pformat(variables) + "\n")

    for path in glob.glob(f"{stdlib}/_sysconfig_vars_*.json"):
        rewrite_json(path, path)
    for path in glob.glob(f"{stdlib}/build-details*.json"):
        rewrite_json(path, f"{stdlib}/build-details.json")

    whole = ("prefix=/usr\n", f"prefix={prefix}\n")
    for path in glob.glob(f"{prefix}/lib/pkgconfig/*.pc"):
        edit(path, whole, (f"/{arch}/", "/"), (f"lib/{arch}", "lib"))
    edit(f"{prefix}/bin/python{xy}-config", (f"/usr/lib/{arch}", "/usr/lib"))
    makefile = f"{stdlib}/config-{xy}-{arch}/Makefile"
    edit(makefile, ("\t/usr\n", f"\t{prefix}\n"), (f"/usr/lib/{arch}", f"{prefix}/lib"))


def rewrite_json(source: str, target: str) -> None:
    """A relocated copy, put in place whole."""
    with open(source) as file:
        content = relocate(json.load(file))
    with open(target + ".new", "w") as file:
        json.dump(content, file, indent=2)
    os.replace(target + ".new", target)


undo_debian_layout()
rewrite_recorded_paths()
