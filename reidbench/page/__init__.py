"""Self-contained pages: one file each, no network, readable from a folder."""

from reidbench.page.page import Cell, Column, Entry, Filter, Table, render

__all__ = ["Cell", "Column", "Entry", "Filter", "Table", "render"]
