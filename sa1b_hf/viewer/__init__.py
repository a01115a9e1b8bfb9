"""`sa1b view`: a page on this machine that shows the rows of any place, their masks and their numbers.

A row travels down: `_store` reads tables forward and keeps rows on disk, `_selection` says which masks are wanted,
`_pictures` draws, `_answers` turns a path into bytes, `_server` lets in only who has the token.
"""

from __future__ import annotations

from ._answers import Viewer
from ._selection import MaskSelection, code_lines
from ._server import ViewerServer
from ._store import RowStore

__all__ = ["MaskSelection", "RowStore", "Viewer", "ViewerServer", "code_lines"]
