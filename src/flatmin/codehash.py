"""The hash of the code that a run executes: its import closure, as syntax trees without comments and docstrings.

A reworded comment, a new model file or a new ascent must not cost anyone a retraining; an edit of the training loop
must. So the closure is taken from the modules that a run of these settings uses, and of nothing else.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Iterable
from pathlib import Path

PACKAGE = "flatmin"
ROOT = Path(__file__).parent

OUTSIDE = frozenset(
    {"flatmin.settings", "flatmin.errors", "flatmin.data.errors", "flatmin.records", "flatmin.workplace"}
)
"""Modules, and packages of them, that determine no result. What `settings` declares reaches a run through its resolved
settings, which the key holds themselves; the others say how and where a result is written, or why there is none."""


def code_hash(roots: Iterable[str], root: Path = ROOT) -> str:
    """Return the SHA-256 (hex) over the import closure of the modules ``roots`` within the package at ``root``."""
    digest = hashlib.sha256()
    for module in sorted(closure(roots, root)):
        digest.update(f"{module}\0{_tree_hash(_file(module, root))}\n".encode())
    return digest.hexdigest()


def closure(roots: Iterable[str], root: Path = ROOT) -> set[str]:
    """Return the modules of the package that ``roots`` import, directly or through others, themselves included.

    Only import statements count. The ``__init__`` of a package is a member when it is imported by its own name, not
    because a module inside it is: those files hold re-exports and nothing else (there is a test that they do).
    """
    found: set[str] = set()
    waiting = list(roots)
    while waiting:
        module = waiting.pop()
        if module in found or _is_outside(module):
            continue
        found.add(module)
        waiting += _imports(module, root)
    return found


def _is_outside(module: str) -> bool:
    return any(f"{module}.".startswith(f"{outside}.") for outside in OUTSIDE)


def _file(module: str, root: Path) -> Path:
    relative = Path(*module.split(".")[1:])
    package = root / relative / "__init__.py"
    return package if package.exists() else root / relative.with_suffix(".py")


def _is_module(name: str, root: Path) -> bool:
    return name == PACKAGE or _file(name, root).exists()


@functools.cache
def _imports(module: str, root: Path) -> tuple[str, ...]:
    file = _file(module, root)
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    names: list[str] = []
    for node in ast.walk(_parse(file)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, package)
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                names.append(inner if base.startswith(PACKAGE) and _is_module(inner, root) else base)
    return tuple(name for name in names if name.split(".")[0] == PACKAGE and name != PACKAGE)


def _absolute(node: ast.ImportFrom, package: str) -> str:
    if node.level == 0:
        return node.module or ""
    parts = package.split(".")[: len(package.split(".")) - node.level + 1]
    return ".".join([*parts, *([node.module] if node.module else [])])


@functools.cache
def _parse(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


@functools.cache
def _tree_hash(file: Path) -> str:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [statement for statement in node.body if not _is_docstring(statement)] or [ast.Pass()]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


def _is_docstring(statement: ast.stmt) -> bool:
    """A string that stands alone: a docstring, or the description below an attribute."""
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )
