"""Damage files as disks do, to test what notices it."""

from pathlib import Path


def flip(file: Path, place: int, bits: int = 0xFF) -> None:
    """Flip ``bits`` of the byte at ``place``."""
    with file.open("r+b") as opened:
        opened.seek(place)
        byte = opened.read(1)[0]
        opened.seek(place)
        opened.write(bytes([byte ^ bits]))
