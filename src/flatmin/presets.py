"""Ready studies: ``experiments/<name>.yaml`` put in place of ``params.yaml``, and never over somebody's edits."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from flatmin.errors import FlatminError, nearest
from flatmin.reading import read_yaml
from flatmin.workspace import Workspace

NOT_STUDIES = ("claims",)


class PresetError(FlatminError):
    """The preset does not exist, or params.yaml holds work that would be lost."""


def presets(workspace: Workspace) -> dict[str, Path]:
    """Return the ready studies by name."""
    return {path.stem: path for path in sorted(workspace.presets.glob("*.yaml")) if path.stem not in NOT_STUDIES}


def list_presets(workspace: Workspace) -> str:
    """Return a line per preset: its name and the first line of its comment, the one in place marked."""
    current = preset_in_place(workspace)
    return "\n".join(
        f"{'*' if name == current else ' '} {name:16} {_text(path).split(chr(10), 1)[0].removeprefix('#').strip()}"
        for name, path in presets(workspace).items()
    )


def preset_in_place(workspace: Workspace) -> str | None:
    """Return the name of the preset that says what params.yaml says, comments aside, or None."""
    current = read_yaml(workspace.params)
    return next((name for name, path in presets(workspace).items() if read_yaml(path) == current), None)


def use_preset(workspace: Workspace, name: str, *, force: bool = False) -> None:
    """Put a preset in place.

    Raises:
        PresetError: there is no such preset, or ``params.yaml`` differs from every preset and from the last commit.
    """
    known = presets(workspace)
    if name not in known:
        raise PresetError(f"no preset {name!r} in {workspace.presets}: {nearest(name, known)}")
    if not force and _holds_edits(workspace):
        raise PresetError(
            "params.yaml holds edits that no preset and no commit has, and they would be lost: commit them, save them "
            f"as experiments/NAME.yaml, or give them up with `flatmin use {name} --force`"
        )
    part = workspace.params.with_name(".params.yaml.part")
    shutil.copyfile(known[name], part)
    part.replace(workspace.params)


def _holds_edits(workspace: Workspace) -> bool:
    current = _text(workspace.params)
    saved = [_text(path) for path in presets(workspace).values()]
    return bool(current) and current not in saved and current != _committed(workspace)


def _committed(workspace: Workspace) -> str | None:
    """Return the params.yaml of the last commit, or None outside of a clone."""
    try:
        done = subprocess.run(
            ["git", "show", f"HEAD:./{workspace.params.name}"],
            cwd=workspace.root,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
