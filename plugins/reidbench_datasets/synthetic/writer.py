"""Write the files of a rendered tree: images and small files, each whole or not at all, on all processors."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

from reidbench_datasets.synthetic.plan import Shot, Tree

CHUNK = 1024  # files that are scheduled at once

# A file of a tree: its path below the root, and what it shows or a function that returns its bytes.
Entry = tuple[str, Shot | Callable[[], bytes]]


def images_in(entries: Sequence[Entry]) -> int:
    """Return how many of the entries are images."""
    return sum(isinstance(content, Shot) for _, content in entries)


def write_entries(root: Path, tree: Tree, entries: Sequence[Entry]) -> Iterator[int]:
    """Write the files below ``root``, images as ``tree`` renders them, and yield the number of images written so far.

    Folders are created. Raises OSError where a file cannot be written.
    """
    for folder in {path.rpartition("/")[0] for path, _ in entries}:
        (root / folder).mkdir(parents=True, exist_ok=True)
    shots = [content for _, content in entries if isinstance(content, Shot)]
    if shots:
        # The renderer imports a compiler, which listing a dataset does without.
        from reidbench_datasets.synthetic.renderer import Renderer  # noqa: PLC0415

        renderer = Renderer(tree)
        renderer.jpeg(shots[0])  # compiles the kernels, so that the time left is that of rendering

    def write_entry(entry: Entry) -> bool:
        path, content = entry
        is_image = isinstance(content, Shot)
        write_file(root / path, renderer.jpeg(content) if is_image else content())
        return is_image

    pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)))
    try:
        done, rest = 0, iter(entries)
        while chunk := list(islice(rest, CHUNK)):
            for is_image in pool.map(write_entry, chunk):
                if is_image:
                    done += 1
                    yield done
    finally:
        pool.shutdown(cancel_futures=True)


def write_file(path: Path, data: bytes) -> None:
    """Write a file whole or not at all; the temporary name is safe where one process writes to the folder."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
