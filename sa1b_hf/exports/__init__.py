"""Formats that other tools ask for."""

from __future__ import annotations

__all__: list[str] = []
