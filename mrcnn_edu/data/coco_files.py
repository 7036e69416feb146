"""Is COCO 2017 complete? Looks at a folder before a run of days finds out.

In: the folder that holds train2017/, val2017/ and annotations/. Out: what is there, what is missing
or cut off, from where to fetch it and how large it is. An archive that was half downloaded, an
image whose end is missing and a JSON that stops in the middle are the usual ones. Chapter 12;
`data/README.md` has the table of files.
"""

import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mrcnn_edu.data.coco_facts import ARCHIVES, SPLITS, Archive, Split

_START, _END = b"\xff\xd8", b"\xff\xd9"  # of every JPEG file


@dataclass
class CocoReport:
    """What is there, and one sentence for each thing that is not as it should be."""

    found: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether training and evaluation have all they need."""
        return not self.problems

    def __str__(self) -> str:
        lines = [*self.found, *(f"PROBLEM: {p}" for p in self.problems)]
        verdict = "COCO 2017 is complete." if self.complete else "COCO 2017 is not complete."
        return "\n".join([*lines, verdict])


def check_coco(
    root: str | os.PathLike[str],
    splits: dict[str, Split] | None = None,
    archives: tuple[Archive, ...] = ARCHIVES,
    hash_archives: bool = False,
) -> CocoReport:
    """Check all files of COCO 2017 under `root`.

    Every image's first and last two bytes are read, no image is decoded: a minute on a local disk.

    Args:
        root: the folder that holds train2017/, val2017/ and annotations/.
        splits: what ought to be there, by name; COCO's own by default.
        archives: the files to download. Those that lie in `root` are compared in size.
        hash_archives: compare the MD5 of complete archives too; 20 GB take minutes.

    Raises:
        FileNotFoundError: `root` is not a folder.
    """
    root, report = Path(root), CocoReport()
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder {root}; give the one that holds train2017/")
    for archive in archives:
        _check_archive(root, archive, hash_archives, report)
    for name, split in (SPLITS if splits is None else splits).items():
        images = _check_annotations(root, name, split, archives, report)
        _check_images(root, name, split, images, archives, report)
        _say_keypoints(root, name, report)
    return report


def _check_archive(root: Path, archive: Archive, hash_it: bool, report: CocoReport) -> None:
    path = root / archive.url.rsplit("/", 1)[1]
    if not path.exists():
        return  # it may be deleted once it is unpacked
    size = path.stat().st_size
    if size < archive.size:
        report.problems.append(
            f"{path} has {size:,} of {archive.size:,} bytes, {size / archive.size:.0%}: the "
            f"download was cut off. `curl -C - -O {archive.url}` goes on with it."
        )
    elif size > archive.size:
        report.problems.append(
            f"{path} has {size:,} bytes, {archive.size:,} are published: it is another file. Fetch "
            f"{archive.url}."
        )
    elif not hash_it:
        report.found.append(f"{path.name}: {size:,} bytes, as published")
    elif (md5 := file_hash(path, "md5")) == archive.md5:
        report.found.append(f"{path.name}: {size:,} bytes, MD5 {md5}, as published")
    else:
        report.problems.append(
            f"{path} has the right size but MD5 {md5}, not {archive.md5}: it was damaged on its "
            f"way. Fetch {archive.url} again."
        )


def _check_annotations(
    root: Path, name: str, split: Split, archives: tuple[Archive, ...], report: CocoReport
) -> list[str] | None:
    """Check the instances of a split; return the names of its images if they can be read."""
    path = root / "annotations" / f"instances_{name}.json"
    if not path.is_file():
        report.problems.append(f"{path} is missing: {_from_where('annotations/', archives)}")
        return None
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
        images = [str(image["file_name"]) for image in content["images"]]
        crowd = sum(bool(a["iscrowd"]) for a in content["annotations"])
        total = len(content["annotations"])
    except (ValueError, KeyError, TypeError) as error:
        report.problems.append(
            f"{path} ({path.stat().st_size:,} bytes) cannot be read, "
            f"{type(error).__name__}: {error}. It was cut off or is another file: "
            f"{_from_where('annotations/', archives)}"
        )
        return None
    report.found.append(
        f"{path.name}: {len(images):,} images, {total - crowd:,} objects, {crowd:,} crowd regions; "
        f"SHA-256 {file_hash(path, 'sha256')} (no published one to compare with)"
    )
    for what, have, should in (
        ("images", len(images), split.images),
        ("objects", total - crowd, split.objects),
        ("annotations", total, split.annotations),
    ):
        if have != should:
            report.problems.append(f"{path} lists {have:,} {what}; {name} has {should:,}.")
    return images


def _check_images(
    root: Path,
    name: str,
    split: Split,
    listed: list[str] | None,
    archives: tuple[Archive, ...],
    report: CocoReport,
) -> None:
    folder = root / name
    source = _from_where(f"{name}/", archives)
    if not folder.is_dir():
        report.problems.append(f"{folder}/ is missing, {split.images:,} images: {source}")
        return
    there = {entry.name for entry in os.scandir(folder) if entry.name.endswith(".jpg")}
    wanted = there if listed is None else set(listed)
    missing, broken = sorted(wanted - there), []
    total = 0
    for file in sorted(wanted & there):
        path = folder / file
        total += path.stat().st_size
        if not _is_whole(path):
            broken.append(file)
    report.found.append(f"{name}/: {len(there):,} images, {total:,} bytes")
    short = split.images - len(there) if listed is None else len(missing)
    if short > 0:
        first = f", {missing[0]} the first" if missing else ""
        report.problems.append(
            f"{folder} lacks {short:,} of {split.images:,} images{first}: {source}"
        )
    if broken:
        report.problems.append(
            f"{len(broken):,} images of {folder} are cut off or no JPEG, {broken[0]} the first. "
            f"Delete them and unpack the archive again, or: {source}"
        )


def _say_keypoints(root: Path, name: str, report: CocoReport) -> None:
    path = root / "annotations" / f"person_keypoints_{name}.json"
    there = f"{path.stat().st_size:,} bytes" if path.is_file() else "not there"
    report.found.append(f"{path.name}: {there} (only keypoints need it)")


def _is_whole(path: Path) -> bool:
    """Whether a file begins and ends as a JPEG does; a download that was cut off does not."""
    with path.open("rb") as file:
        start = file.read(2)
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 2))
        return start == _START and file.read(2) == _END


def _from_where(gives: str, archives: tuple[Archive, ...]) -> str:
    for archive in archives:
        if archive.gives == gives:
            return f"unpack {archive.url} ({archive.size / 1e9:.2f} GB)."
    raise KeyError(gives)


def file_hash(path: Path, name: str) -> str:
    """The hash of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, name).hexdigest()
