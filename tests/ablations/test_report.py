"""Tables and plots say what the result files say, and nothing else."""

import json
import re

import pytest

from mrcnn_edu.ablations.engine import make_run
from mrcnn_edu.ablations.forest import forest
from mrcnn_edu.ablations.judge import judge, signed
from mrcnn_edu.ablations.profiles import PROFILES
from mrcnn_edu.ablations.report import coverage, markdown, write
from mrcnn_edu.ablations.tables import TABLES, table
from mrcnn_edu.cli import main
from mrcnn_edu.cli.ablate import seconds
from mrcnn_edu.errors import UserError
from mrcnn_edu.provenance import provenance

CPU, SMOKE = PROFILES["cpu"], PROFILES["smoke"]


def pretend(folder, which, arm_name, seed, box, mask, steps=0.1, **more):
    """A result file with the metrics given."""
    run = make_run(which, which.arm(arm_name), CPU, "shapes", seed)
    content = {
        **provenance(run.config(), seed),
        "device": "cpu",
        "threads": 1,
        "parameters": 615_960,
        "step_seconds": 2 * steps,  # the machine did other work beside it
        "step_processor_seconds": steps,
        "evaluate_seconds": 9.0,
        "metrics": {
            "box": {"AP": box, "AP75": box - 5},
            "mask": {"AP": mask, "AP75": mask - 5},
        },
        **more,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{run.name}.json").write_text(json.dumps(content))


@pytest.fixture
def stride_32(tmp_path):
    """Table 2d with five seeds, RoIAlign better by about 4 in masks and by nothing in boxes."""
    which = table("2d")
    masks = [(10, 14), (11, 15.5), (9, 12.5), (12, 16), (10.5, 14.5)]
    boxes = [(20, 21), (21, 20), (20, 21), (21, 20), (20.5, 20.5)]
    for seed, ((a, b), (c, d)) in enumerate(zip(masks, boxes, strict=True)):
        pretend(tmp_path, which, "RoIPool", seed, c, a)
        pretend(tmp_path, which, "RoIAlign", seed, d, b, steps=0.2)
    return which, tmp_path


def test_a_table_shows_published_and_measured_apart(stride_32):
    which, folder = stride_32
    text = markdown(which, CPU, "shapes", folder)
    rows = [line for line in text.splitlines() if line.startswith("| RoI")]
    assert rows[0].split(" | ")[:9] == [
        "| RoIPool", "28.2", "26.9", "23.6", "21.6", "20.5\u00a0±\u00a00.5",
        "15.5\u00a0±\u00a00.5", "10.5\u00a0±\u00a01.1", "5.5\u00a0±\u00a01.1",
    ]  # fmt: skip
    assert rows[1].endswith("| 5 | 0.62\u00a0M | 200 |")
    assert "arXiv:1703.06870v3, table 2d" in text
    assert re.search(r"commit `[0-9a-f]{7}`", text)


def test_effects_are_judged_by_their_interval(stride_32):
    which, folder = stride_32
    judged = {j.effect.metric: j for j in judge(which, CPU, "shapes", folder)}
    assert judged["mask AP"].verdict == "reproduced"
    assert judged["mask AP"].difference.mean == pytest.approx(4.0)
    assert judged["box AP"].verdict == "undecided"
    assert judged["box AP"].difference.mean == pytest.approx(0.0)


def test_a_page_counts_its_verdicts_and_the_plot_has_every_claim(stride_32):
    which, folder = stride_32
    judged = judge(which, CPU, "shapes", folder)
    write([which], CPU, ["shapes"], folder)
    text = (folder / "cpu.md").read_text()
    assert "4 claims: 2 reproduced, 0 not reproduced, 2 undecided." in text
    assert (
        "RoIPool, mask AP | +7.3 | +4.0 [+3.6,\u00a0+4.4] | ×1.31 | ×1.38 | 2.0 | **reproduced**"
        in text
    )
    figure = forest(judged)
    axis = figure.axes[0]
    assert [t.get_text() for t in axis.get_yticklabels()] == [
        f"RoIAlign over RoIPool: {j.effect.metric}" for j in judged
    ]
    assert "+4.0 [+3.6,\u00a0+4.4]" in {t.get_text() for t in axis.texts}


def test_arms_of_different_devices_are_not_paired(stride_32):
    which, folder = stride_32
    for seed in (0, 1):
        pretend(folder, which, "RoIAlign", seed, 30.0, 30.0, device="a GPU")
    judged = {j.effect.metric: j for j in judge(which, CPU, "shapes", folder)}
    assert judged["mask AP"].difference.seeds == 3
    assert judged["mask AP"].difference.mean == pytest.approx((3.5 + 4 + 4) / 3)


def test_before_all_its_seeds_are_done_a_claim_is_undecided(stride_32):
    which, folder = stride_32
    (folder / f"{make_run(which, which.arm('RoIAlign'), CPU, 'shapes', 4).name}.json").unlink()
    judged = {j.effect.metric: j for j in judge(which, CPU, "shapes", folder)}
    assert judged["mask AP"].difference.low > 3, "four seeds would be enough, and are not asked"
    assert (judged["mask AP"].verdict, judged["mask AP"].complete) == ("undecided", False)
    write(TABLES, CPU, ["shapes", "persons"], folder)
    text = (folder / "cpu.md").read_text()
    assert "0 reproduced, 0 not reproduced, 4 undecided (4 of them by rule" in text
    assert "Begun: 2d on shapes (4 of 5 seeds). Not run: 2a, 2b, 2c on shapes," in text
    assert "Run with all" not in text


def test_a_page_says_which_tables_there_are(stride_32):
    which, folder = stride_32
    pairs = [(which, "shapes")]
    assert coverage(pairs, CPU, folder) == "", "all that was asked for"
    pairs = [(which, "nuclei"), *pairs]
    assert coverage(pairs, CPU, folder) == (
        "Run with all their seeds: 2d on shapes. Not run: 2d on nuclei."
    )


def test_claims_of_arms_that_have_learned_nothing_are_undecided(tmp_path):
    which = table("2d")
    for seed in range(5):
        pretend(tmp_path, which, "RoIPool", seed, 0.5 + seed / 10, 0.3)
        pretend(tmp_path, which, "RoIAlign", seed, 1.5 + seed / 10, 2.3 + seed / 10)
    judged = {j.effect.metric: j for j in judge(which, CPU, "shapes", tmp_path)}
    assert judged["box AP"].verdict == "undecided", "both arms lie below 2 AP"
    assert judged["mask AP"].verdict == "reproduced"
    assert judged["mask AP"].ratio is None, "a ratio to almost nothing says nothing"


def test_a_commit_that_is_not_known_or_not_clean_is_named_so(stride_32):
    which, folder = stride_32
    pretend(folder, which, "RoIPool", 0, 20, 10, commit=None, clean=False)
    pretend(folder, which, "RoIPool", 1, 21, 11, commit="0123456789", clean=False)
    pretend(folder, which, "RoIPool", 2, 20, 9, step_processor_seconds=None)
    text = markdown(which, CPU, "shapes", folder)
    assert "`0123456` with changes" in text
    assert "unknown" in text.splitlines()[-1]
    assert "| 5 | 0.62\u00a0M | 100 |" in text, "a time that was not measured is left out"


def test_one_seed_and_what_passes_the_edge_end_in_arrows(tmp_path):
    which = table("2d")
    pretend(tmp_path, which, "RoIPool", 0, 20.0, 10.0)
    pretend(tmp_path, which, "RoIAlign", 0, 18.0, 60.0)
    judged = {j.effect.metric: j for j in judge(which, CPU, "shapes", tmp_path)}
    axis = forest([judged["box AP"], judged["mask AP"]]).axes[0]
    left, right = axis.get_xlim()
    assert left < -2
    assert right < 50, "one large effect does not squeeze the others"
    drawn = {(line.get_marker(), *map(float, line.get_ydata())) for line in axis.lines}
    assert {("<", 1.0), (">", 1.0), ("<", 2.0), (">", 2.0), ("o", 1.0)} <= drawn
    assert ("o", 2.0) not in drawn, "the mean lies beyond the edge"
    texts = {t.get_text() for t in axis.texts}
    assert {"−2.0 (one seed)", "+50.0 (one seed)"} <= texts


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.26, "+1.3"), (-1.26, "−1.3"), (0.04, "+0.04"), (-0.04, "−0.04"), (0.004, "0.0")],
)
def test_a_difference_has_its_sign(value, text):
    assert signed(value) == text


def test_what_was_not_run_is_not_shown(tmp_path):
    which = table("2d")
    assert markdown(which, CPU, "shapes", tmp_path) == ""
    assert write([which], CPU, ["shapes"], tmp_path) == []
    pretend(tmp_path, which, "RoIPool", 0, 20.0, 10.0)
    assert markdown(which, CPU, "shapes", tmp_path) == "", "one arm alone compares nothing"
    assert judge(which, CPU, "shapes", tmp_path) == []
    backbones = table("2a")
    pretend(tmp_path, backbones, "C4", 0, 20.0, 10.0)
    pretend(tmp_path, backbones, "deeper C4", 1, 20.0, 10.0)
    text = markdown(backbones, CPU, "shapes", tmp_path)
    assert "| FPN | 33.6 | – | – | 0 | – | – |" in text
    assert "verdict" not in text, "the two arms have no seed in common"


def test_table_and_plot_are_written_beside_the_results(stride_32):
    which, folder = stride_32
    page, plot = write([which], CPU, ["shapes"], folder)
    assert page.read_text().startswith("# The paper's tables, profile cpu")
    first = plot.read_text()
    assert "<svg" in first
    write([which], CPU, ["shapes"], folder)
    assert plot.read_text() == first


def test_the_smoke_profile_runs_every_arm_and_a_table_comes_out(tmp_path, capsys):
    folders = f"--results {tmp_path / 'r'} --work {tmp_path / 'w'}"
    main(f"ablate --profile smoke --processes 2 {folders}".split())
    text = (tmp_path / "r" / "smoke.md").read_text()
    for which in TABLES:
        assert f"## {which.key}: " in text
    assert "| 0 | – | – |" not in text, "every arm has a run"
    said = capsys.readouterr().out
    assert "0 left" in said
    main(f"ablate --profile smoke --table 2c {folders}".split())
    said = capsys.readouterr().out
    assert "5 of 5 runs are done." in said
    assert "--results" in said
    which = table("2c")
    (tmp_path / "r" / f"{make_run(which, which.arms[0], SMOKE, 'shapes', 0).name}.json").unlink()
    main(f"ablate --profile smoke --table 2c --budget 60m --processes 1 {folders}".split())
    said = capsys.readouterr().out
    assert "4 of 5 runs are done." in said
    assert "60m are enough for 1 of 1. Seeds: 2c on shapes 1 of 1." in said


@pytest.mark.parametrize(
    ("text", "expected"), [("20m", 1200), ("1.5h", 5400), ("600s", 600), ("90", 90)]
)
def test_a_budget_is_a_length_of_time(text, expected):
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["soon", "-5m", "5d", ""])
def test_a_budget_that_is_none_is_refused(text):
    with pytest.raises(UserError, match="20m"):
        seconds(text)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--table 2d --data nuclei", "--nuclei"),
        ("--table 2b --data nuclei --nuclei there", "table 2b on shapes. Choose with --data"),
        ("--table 2d --processes -1", "give 1 or more"),
    ],
)
def test_what_cannot_be_run_is_refused(options, message, capsys, tmp_path):
    with pytest.raises(SystemExit):
        main(["ablate", *options.split(), "--results", str(tmp_path)])
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_nothing_to_render_is_said(capsys, tmp_path):
    main(["ablate", "--render", "--data", "nuclei", "--results", str(tmp_path)])
    assert "No table yet" in capsys.readouterr().out
