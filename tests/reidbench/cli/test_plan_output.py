"""The plan that is printed before a run names each run by what tells it from the others."""

from dataclasses import replace

from rich.console import Console

from reidbench.cli.plan_output import print_plan
from reidbench.data.positives_and_exclusions import Unmatched
from reidbench.runs.plan import Plan
from reidbench.runs.store import RunState
from reidbench.utils.machine import local_machine
from tests.support.jobs import job, plan_of


def plan(*changes: dict[str, object]) -> Plan:
    runs = [plan_of(job(**each))[0] for each in changes]
    return Plan(runs, [RunState(step=3)] * len(runs), local_machine(device="cpu"))


def printed(plan: Plan) -> list[str]:
    console = Console(record=True, width=200)
    with console.capture() as captured:
        print_plan(console, plan, 200)
    return [line.rstrip() for line in captured.get().splitlines() if line.strip(" ─")]


def test_differing_items_are_in_the_row_and_the_name():
    pairs = [(metric, rerank) for metric in ("euclidean", "cosine") for rerank in ("none", "k_reciprocal")]
    four = plan(*({"metric": metric, "rerank": rerank} for metric, rerank in pairs))
    assert four.names()[0] == "batch_hard, euclidean"
    assert len(set(four.names())) == 4
    above, _, *rows = printed(four)
    assert "backbone tiny" in above
    assert "metric" not in above
    assert [row.endswith(name) for row, name in zip(rows, four.names(), strict=False)] == [True] * 4


def test_shared_items_are_printed_once():
    two = plan(*({"loss": loss, "seed": 3} for loss in ("batch_hard", "batch_hard(margin=0.2)")))
    assert two.names() == ["batch_hard", "batch_hard(margin=0.2)"]
    above, *rows = printed(two)
    assert above.startswith("Plan (cpu): ")
    assert "metric euclidean · rerank none" in above
    assert not any("euclidean" in row for row in rows)


def test_the_work_ahead_is_counted_in_steps_and_images():
    lines = printed(plan({"loss": "none"}, {"loss": "batch_hard"}, {"loss": "batch_hard", "metric": "cosine"}))
    (work,) = (line for line in lines if line.startswith("to do"))
    # One training of 4 steps with 6 * 2 images, of which 3 steps are done; the second metric shares it.
    assert "3 of 3 runs, trainings: 1, steps: 1, images: 12" in work


def test_a_papers_mark_names_how_many_runs_have_it():
    paper = replace(plan_of(job(recipe="hermans2017(steps=4, p=6, k=2)"))[0], deviations=())
    three = plan({}, {"loss": "none"}, {})
    lines = printed(replace(three, runs=[*three.runs[:2], paper]))
    assert "1 of 3 runs: faithful to Hermans et al. (2017)" in lines
    assert "faithful to Hermans et al. (2017)" in printed(replace(three, runs=[paper] * 3))


def test_identities_of_one_image_are_noted():
    clean = plan({}, {"loss": "none"})
    counts = clean.runs[0].split.counts
    single = replace(clean.runs[0].split)
    single.__dict__["counts"] = {**counts, "train": counts["train_identities"]}
    notes = printed(replace(clean, runs=[replace(run, split=single) for run in clean.runs]))
    assert sum("one image: with k=2" in note for note in notes) == 1
    assert not any("one image" in note for note in printed(clean))


def test_what_distorts_scores_is_printed_below_the_counts():
    clean = plan({})
    both = {"test_images_in_train": ["a.jpg", "b.jpg"]}
    run = replace(clean.runs[0], unmatched=Unmatched(5, 1, 1), contradictions=both)
    notes = set(printed(replace(clean, runs=[run]))) - set(printed(clean))
    assert len(notes) == 2
    assert any("2 of 5" in note and "same_camera" in note for note in notes)
    assert any("2 test images in train" in note and "a.jpg" in note for note in notes)
