"""Errors of the operating system that the user can mend, in words."""

from __future__ import annotations

import errno

__all__ = ["disk_problem"]

_REMEDIES = {
    errno.ENOSPC: "free some space or name another --out",
    errno.EDQUOT: "free some space or name another --out",
    errno.EACCES: "change its permissions or name another folder",
    errno.EPERM: "change its permissions or name another folder",
    errno.EROFS: "name a folder that can be written",
    errno.ENOTDIR: "a part of the path is a file; name another",
    errno.EISDIR: "the path is a folder; name a file",
    errno.ENAMETOOLONG: "shorten the path",
}


def disk_problem(error: BaseException) -> str | None:
    """One line that names the path, the problem and the remedy; None where it may be a bug."""
    if not isinstance(error, OSError) or error.errno not in _REMEDIES:
        return None
    path = f"{error.filename}: " if error.filename else ""
    return f"{path}{error.strerror}; {_REMEDIES[error.errno]}"
