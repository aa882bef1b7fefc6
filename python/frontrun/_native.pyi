from collections.abc import Callable
from types import CodeType
from typing import Any

__version__: str

class Abandoned(BaseException): ...

def explore(
    setup: Callable[[], Any],
    workers: tuple[Callable[[Any], object], ...],
    invariant: Callable[[Any], object],
    options: dict[str, Any],
    /,
) -> tuple[dict[str, Any], str | None, int]: ...
def opcodes() -> list[tuple[int, str, bool]]: ...
def depths(code: CodeType, /) -> list[int | None]: ...
def intercept(on: bool, /) -> None: ...
def backend() -> dict[str, Any]: ...
def trace_markers(
    look: Callable[[CodeType], dict[int, tuple[str, ...]]] | None,
    reached: Callable[[CodeType, int], None] | None,
    /,
) -> None: ...
