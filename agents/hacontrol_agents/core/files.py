"""Files that are read whole or not at all, and replaced so that a crash leaves the old one or the new one."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from hacontrol_agents.core.plain import shown
from hacontrol_envs.errors import CheckpointError


def publish(target: Path, content: bytes) -> None:
    """Replace `target` by `content` so that a crash at any moment leaves the old file or the new one."""
    with written(target.parent, content) as temporary:
        os.replace(temporary, target)


@contextlib.contextmanager
def written(folder: Path, content: bytes) -> Iterator[str]:
    """Yield the path of a temporary file in `folder` that holds `content` on disk; remove it at the end if it is still
    there."""
    folder.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=".", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), 0o644)
        yield temporary
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def content_of(path: str | os.PathLike[str], what: str, most: int) -> bytes:
    """Return the bytes of an ordinary file that is no longer than `most`.

    Args:
        path: the file.
        what: what the file should hold, in words for the errors.
        most: largest length in bytes.

    Raises:
        CheckpointError: there is no such file, it cannot be read, is no ordinary one, or is longer.
    """
    name = shown(os.fspath(path))
    try:
        about = os.stat(path)
        if not stat.S_ISREG(about.st_mode):
            raise CheckpointError(f"cannot read {what} from {name}: it is not an ordinary file")
        if about.st_size > most:
            raise CheckpointError(f"cannot read {what} from {name}: it has {about.st_size} bytes, more than {most}")
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:  # a ValueError is a NUL in the name
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"cannot read {what} from {name}: {getattr(error, 'strerror', None) or error}") from error
