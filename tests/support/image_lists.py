"""Small lists of images of noise, whose files can change under one size, and runs on them."""

from reidbench.plugins.catalogue import load
from reidbench.runs.execute import execute
from reidbench.runs.plan import Request, make_plan
from reidbench.utils.machine import local_machine
from tests.support.images import write_noise
from tests.support.jobs import job

SIZE = (64, 32, 3)


def write_images(folder, numbers, seed, suffix="bmp"):
    """Write images of noise, in files of one size; four of each identity, two of each camera."""
    for number in numbers:
        write_noise(folder, [f"{number:02d}.{suffix}"], SIZE, (seed, number))


def write_set(folder):
    """Write ten identities, six of them to train on, and return their list."""
    write_images(folder, range(40), seed=0)
    rows = ["path,pid,camid,split"]
    for number in range(40):
        part = "train" if number < 24 else "query" if number % 4 == 0 else "gallery"
        rows.append(f"{number:02d}.bmp,{1 + number // 4},{1 + number % 2},{part}")
    (folder / "list.csv").write_text("\n".join(rows) + "\n")
    return folder / "list.csv"


def plan_of(file, messages=None, **settings):
    machine = local_machine(device="cpu", threads=1, log=([] if messages is None else messages).append, **settings)
    asked = job(
        protocol=f'csv_list(file="{file}")', backbone="tiny(height=64, width=32)", recipe="quick(steps=3, p=4, k=2)"
    )
    return make_plan(Request([asked]), machine, load())


def run(file, messages=None, **settings):
    (record,) = (record for _, record in execute(plan_of(file, messages, **settings)))
    assert record.status == "ok", record.error
    return record
