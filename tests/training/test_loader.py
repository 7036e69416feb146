"""Worker processes: the same batches as without them, and clear words when one dies."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from mrcnn_edu.data import jpeg
from mrcnn_edu.data.coco import CocoDataset
from mrcnn_edu.data.write import write_split
from mrcnn_edu.errors import UserError
from mrcnn_edu.training.config import TrainConfig
from mrcnn_edu.training.loader import Loader, WorkerDiedError
from mrcnn_edu.training.order import make_order
from tests.fake_data import Wrapped, small_config, small_shapes

CONFIG = TrainConfig(steps=5, batch_size=4, accumulate=2, seed=3, short_sides=(48, 64))


def batches(config: TrainConfig, first: int = 0, **shares: int) -> list:
    data = small_shapes()
    return list(
        Loader(data, make_order(data, config), config, small_config(), first=first, **shares)
    )


def same(a: list, b: list) -> bool:
    flat = [[batch for parts in steps for batch in parts] for steps in (a, b)]
    return len(flat[0]) == len(flat[1]) and all(
        x.image_ids == y.image_ids
        and x.epochs == y.epochs
        and all(map(torch.equal, x.images, y.images))
        and all(
            s.keys() == t.keys() and all(torch.equal(s[k], t[k]) for k in s)
            for s, t in zip(x.targets, y.targets, strict=True)
        )
        for x, y in zip(*flat, strict=True)
    )


def with_workers(n: int, **changes: object) -> TrainConfig:
    return TrainConfig(**{**CONFIG.__dict__, **changes, "workers": n})


def test_workers_make_the_same_batches_from_any_step():
    alone = batches(CONFIG)
    assert [len(parts) for parts in alone] == [2] * 5
    assert same(batches(CONFIG, first=3), alone[3:])
    assert same(batches(with_workers(2)), alone)
    assert same(batches(with_workers(1), first=2), alone[2:])


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("workers", [0, 1])
def test_sizes_take_turns_from_any_step_in_workers_and_late(workers, late):
    config, data = with_workers(workers, grow=True, short_sides=(32, 48, 48, 64)), small_shapes()
    order, alone = make_order(data, config), batches(with_workers(0, **vars(config)))

    def made(first: int = 0) -> list:
        loader = Loader(data, order, config, small_config(), first=first, prepare_late=late)
        return list(loader)

    sides = [{image.shape[1] for part in parts for image in part.images} for parts in made()]
    assert sides == [{32}, {32}, {48}, {48}, {64}]  # five steps in four turns
    assert same(made(), made()[:2] + made(first=2))
    assert same(made(), alone)


def test_two_processes_see_the_images_of_one():
    alone = batches(CONFIG)
    halves = [batches(CONFIG, rank=rank, world=2) for rank in (0, 1)]
    for step, parts in enumerate(alone):
        ids = [i for half in (0, 1) for r in (0, 1) for i in halves[r][step][half].image_ids]
        assert ids == [i for part in parts for i in part.image_ids]


@pytest.mark.parametrize("workers", [0, 1])
def test_what_is_prepared_late_is_the_same(workers):
    config, data = with_workers(workers, steps=3), small_shapes()
    late = Loader(data, make_order(data, config), config, small_config(), prepare_late=True)
    assert same(list(late), batches(with_workers(0, steps=3)))


def jpeg_shapes(folder: Path, names: str = "{}.jpg") -> CocoDataset:
    """The images of small_shapes as files."""
    shapes = small_shapes()
    truth = shapes.ground_truth()
    truth["images"] = [dict(i, file_name=names.format(i["id"])) for i in truth["images"]]
    pixels = [shapes.load_image(i) for i in range(len(shapes))]
    return CocoDataset(folder / "train", write_split(folder, "train", truth, pixels))


def steps_of(data: CocoDataset, first: int = 0, workers: int = 0, **changes: bool) -> list:
    config = with_workers(workers, **changes)
    return list(Loader(data, make_order(data, config), config, small_config(), first=first))


@pytest.mark.parametrize("workers", [0, 1])
def test_files_decoded_by_training_are_the_same_images(tmp_path, workers):
    """On a CPU torchvision's decoder stands in for the GPU's: the same call."""
    data = jpeg_shapes(tmp_path)
    decoded = steps_of(data, workers=workers, decode_on_gpu=True)
    expected = steps_of(data)
    assert same(steps_of(data, first=3, workers=workers, decode_on_gpu=True), decoded[3:])
    pairs = [
        pair for a, b in zip(decoded, expected, strict=True) for pair in zip(a, b, strict=True)
    ]
    for ours, theirs in pairs:
        assert ours.image_ids == theirs.image_ids
        for image, by_pillow in zip(ours.images, theirs.images, strict=True):
            assert (image - by_pillow).abs().max() <= 2 / 255 + 1e-6  # two levels
        for s, t in zip(ours.targets, theirs.targets, strict=True):
            assert all(torch.equal(s[k], t[k]) for k in t)


def test_what_is_no_jpeg_file_is_decoded_as_before(tmp_path):
    data = jpeg_shapes(tmp_path, names="{}.png")
    assert same(steps_of(data, decode_on_gpu=True), steps_of(data))
    shapes = small_shapes()  # no files at all
    assert same(steps_of(shapes, decode_on_gpu=True), steps_of(shapes))


def test_what_the_device_cannot_decode_the_data_set_reads(tmp_path, monkeypatch):
    """One such image in a batch: the others come from the device all the same."""
    data, decode = jpeg_shapes(tmp_path), jpeg.decode
    expected = steps_of(data, decode_on_gpu=True)
    refused = data.encoded(2)

    def picky(files, device):
        if any(torch.equal(file, refused) for file in files):
            raise RuntimeError("unsupported")
        return decode(files, device)

    monkeypatch.setattr(jpeg, "decode", picky)
    for a, b in zip(steps_of(data, decode_on_gpu=True), expected, strict=True):
        for ours, theirs in zip(a, b, strict=True):
            assert ours.image_ids == theirs.image_ids
            for image_id, x, y in zip(ours.image_ids, ours.images, theirs.images, strict=True):
                if image_id == data.image_ids[2]:
                    assert (x - y).abs().max() <= 2 / 255 + 1e-6
                else:
                    assert torch.equal(x, y)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("damage", ["cut off", "hollow"])
def test_a_broken_file_is_named_though_training_decodes(tmp_path, workers, damage):
    data = jpeg_shapes(tmp_path)
    path = tmp_path / "train" / data.images[2]["file_name"]
    content = path.read_bytes()
    # The second has a header and an end, and nothing between.
    scan = content.index(b"\xff\xda")
    path.write_bytes(content[:-50] if damage == "cut off" else content[:scan] + content[-2:])
    with pytest.raises(UserError, match=rf"cannot read .*{path.name}.*fetch it again"):
        steps_of(data, workers=workers, decode_on_gpu=True)


def cut_off(index: int, image, target):
    if index == 2:
        raise ValueError("cannot read photo.jpg: cut off")
    return image, target


def deadly(index: int, image, target):
    if index == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return image, target


def slow(index: int, image, target):
    time.sleep(0.05)
    return image, target


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_sample_is_told_in_one_sentence(workers):
    config, data = with_workers(workers), Wrapped(small_shapes(), cut_off)
    with pytest.raises(UserError) as caught:
        list(Loader(data, make_order(data, config), config, small_config()))
    assert str(caught.value) == "cannot read photo.jpg: cut off"


def test_a_dead_worker_is_told():
    config, data = with_workers(1), Wrapped(small_shapes(), deadly)
    loader = iter(Loader(data, make_order(data, config), config, small_config()))
    with pytest.raises(WorkerDiedError, match=r"has died.*fewer --workers"):
        list(loader)


def test_ctrl_c_does_not_kill_workers():
    """A terminal sends SIGINT to all; the worker must still deliver this step's batch."""
    config, data = with_workers(1, steps=12), Wrapped(small_shapes(), slow)
    loader = iter(Loader(data, make_order(data, config), config, small_config()))
    next(loader)
    children = [int(p) for p in _descendants(os.getpid())]
    before = signal.signal(signal.SIGINT, lambda *a: None)
    try:
        for pid in children:
            os.kill(pid, signal.SIGINT)
        assert len(list(loader)) == 11
    finally:
        signal.signal(signal.SIGINT, before)


def test_workers_end_with_a_training_that_is_killed(tmp_path):
    script = tmp_path / "trains.py"
    script.write_text(
        "import time\n"
        "if __name__ == '__main__':\n"
        "    from tests.training.test_loader import *\n"
        "    config, data = with_workers(1, steps=500), Wrapped(small_shapes(), slow)\n"
        "    loader = iter(Loader(data, make_order(data, config), config, small_config()))\n"
        "    next(loader)\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(100)\n"
    )
    root = Path(__file__).resolve().parents[2]
    child = subprocess.Popen(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    helpers = _descendants(child.pid)
    assert helpers
    child.kill()
    child.wait()
    deadline = time.monotonic() + 30
    while any(os.path.exists(f"/proc/{pid}") for pid in helpers):
        assert time.monotonic() < deadline, "a worker outlives the training that it works for"
        time.sleep(0.1)


@pytest.mark.parametrize("kind", ["cut_off", "deadly"])
def test_a_program_that_keeps_the_exception_ends(tmp_path, kind):
    script = tmp_path / "keeps.py"
    script.write_text(
        "if __name__ == '__main__':\n"
        "    from tests.training.test_loader import *\n"
        f"    config, data = with_workers(2, steps=500), Wrapped(small_shapes(), {kind})\n"
        "    try:\n"
        "        list(Loader(data, make_order(data, config), config, small_config()))\n"
        "    except UserError as error:\n"
        "        kept = error\n"
        "        print(error)\n"
    )
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=90
    )
    assert ("cut off" if kind == "cut_off" else "has died") in done.stdout


def test_waiting_is_measured():
    config, data = with_workers(0, accumulate=1, steps=3), Wrapped(small_shapes(), slow)
    loader = Loader(data, make_order(data, config), config, small_config())
    for _ in loader:
        assert 4 * 0.05 <= loader.waited < 2


def _descendants(pid: int) -> list[str]:
    """Worker processes: children of the fork server, which is a child of this one."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat") as file:
                    parent = file.read().rsplit(")", 1)[1].split()[1]
            except OSError:  # it ended meanwhile
                continue
            if parent == str(pid):
                found += [name, *_descendants(int(name))]
    return found


def test_threads_may_run_while_workers_start():
    """The reason for the fork server: a lock that a thread holds would be locked for ever."""
    lock = threading.Lock()
    with lock:
        assert len(batches(with_workers(1, steps=1))) == 1
