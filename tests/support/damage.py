"""Damage files as disks do, to test what notices it."""


def flip(file, place, bits=0xFF):
    """Flip ``bits`` of the byte at ``place``."""
    with file.open("r+b") as opened:
        opened.seek(place)
        byte = opened.read(1)[0]
        opened.seek(place)
        opened.write(bytes([byte ^ bits]))
