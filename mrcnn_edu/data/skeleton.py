"""Joints of any kind: what a category's list of names says about mirrors and evaluation.

COCO's format names the joints of a category, and nothing else about them. From the names follow the
partners, which change places in a mirror, and the constants of the object keypoint similarity.
Chapter 16.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mrcnn_edu.data.shapes_outline import KEYPOINTS

if TYPE_CHECKING:
    from torch import Tensor

    from mrcnn_edu.data.dataset import Target

# How far annotators disagree about COCO's 17 joints, relative to the object's size: nose, eyes,
# ears, shoulders, elbows, wrists, hips, knees, ankles (cocodataset.org, "Keypoint Evaluation").
COCO_SIGMAS = np.array(
    [26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89]
) / 1000  # fmt: skip
UNPAIRED = -1  # in an order of joints: its name tells a side, and nothing has the other

_SIDE = re.compile(
    r"(?:(?<![A-Za-z])|(?<=[a-z])(?=[A-Z]))(left|Left|LEFT|right|Right|RIGHT|[lLrR])(?![a-z])"
)
_OTHER = {"left": "right", "right": "left", "l": "r", "r": "l"}


def mirrored_order(names: Sequence[str]) -> list[int]:
    """The order of joints after a mirror: `new = old[order]`.

    `left_eye`, `eye_left`, `leftEye`, `LEFT EYE` and `l_eye` have a partner, which has the other
    side in its name and is otherwise the same. A joint whose name tells no side keeps its place,
    and so does one that a single letter marks and that has no partner. Chapter 16.

    Args:
        names: of J joints.

    Returns:
        J places; `UNPAIRED` for a `left` or `right` whose partner is missing.
    """
    place = {name: i for i, name in enumerate(names)}
    order = []
    for i, name in enumerate(names):
        found = _SIDE.search(name)
        partner = name if found is None else _SIDE.sub(_exchange, name)
        missing = i if found is None or len(found[1]) == 1 else UNPAIRED
        order.append(place.get(partner, missing))
    return order


def _exchange(side: re.Match[str]) -> str:
    word = side[1]
    other = _OTHER[word.lower()]
    if word.islower():
        return other
    return other.upper() if word.isupper() else other.capitalize()


def joint_names(category: Mapping[str, Any], where: str) -> tuple[str, ...]:
    """The names of a category's joints; none where it has no list, or null.

    Raises:
        ValueError: they are no list of different names.
    """
    names = category.get("keypoints")
    if names is None:
        return ()
    listed = isinstance(names, list | tuple) and all(isinstance(n, str) for n in names)
    if not listed or len(set(names)) < len(names):
        raise ValueError(
            f"{where}: the keypoints of category {category.get('name')!r} must be a list of "
            f"different names, got {str(names)[:80]}"
        )
    return tuple(names)


def joints_of(annotation: Mapping[str, Any], joints: int, where: str) -> list[Any]:
    """The 3 · J numbers of an annotation, x, y, v of each joint; zeros where it has none.

    Args:
        annotation: of a category with J joints.
        joints: J.
        where: names the annotation in the message.

    Raises:
        ValueError: another length, or something that is no finite number, or a v that is not 0, 1
            or 2.
    """
    points = annotation.get("keypoints")
    if points is None or (isinstance(points, list | tuple) and not points):
        return [0] * (3 * joints)
    if not isinstance(points, list | tuple) or len(points) != 3 * joints:
        number = len(points) if isinstance(points, list | tuple) else f"{points!r:.40} instead of"
        raise ValueError(
            f"{where} has {number} keypoint numbers; {joints} joints of x, y, v are {3 * joints}. "
            "Write 0, 0, 0 for a joint that is not labelled"
        )
    for i, value in enumerate(points):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or (i % 3 == 2 and value not in (0, 1, 2)):
            wanted = "0, 1 or 2" if i % 3 == 2 else "a finite number"
            raise ValueError(
                f"{where}: {'xyv'[i % 3]} of joint {i // 3 + 1} is {value!r:.40}, not {wanted}"
            )
    return list(points)


class Skeletons:
    """The joints of a data set's categories, which may be different ones.

    Args:
        categories: in the order of the labels, as a COCO file has them.
        where: names the file in messages.

    Raises:
        ValueError: a category's list of joints is not one of different names.
    """

    def __init__(self, categories: Sequence[Mapping[str, Any]], where: str) -> None:
        self.names = [joint_names(category, where) for category in categories]
        self.joints = max(map(len, self.names), default=0)
        self.labels = frozenset(k for k, names in enumerate(self.names, start=1) if names)
        orders = [mirrored_order(n) + list(range(len(n), self.joints)) for n in self.names]
        of_coco = mirrored_order(KEYPOINTS)
        known = all(orders[label - 1] == of_coco for label in self.labels)
        self._orders = None if known else orders

    def points(self, label: int, annotation: Mapping[str, Any], where: str) -> list[Any]:
        """The 3 · J numbers of an annotation, filled up with joints that are not labelled.

        Args:
            label: of its category; one that names no joints may have J all the same.
            annotation: of a COCO file.
            where: names the annotation in messages.

        Raises:
            ValueError: see `joints_of`.
        """
        own = len(self.names[label - 1]) or self.joints
        points = annotation.get("keypoints")
        filled = isinstance(points, list | tuple) and len(points) == 3 * self.joints > 3 * own
        if filled and not any((points or [])[3 * own :]):  # by `ground_truth` of such a set
            annotation = {"keypoints": (points or [])[: 3 * own]}
        return joints_of(annotation, own, where) + [0] * (3 * (self.joints - own))

    def orders(self, labels: Sequence[int]) -> list[list[int]] | None:
        """The order of each object's joints after a mirror, [G, J]; None: COCO's, for all."""
        return None if self._orders is None else [self._orders[label - 1] for label in labels]


def joint_order(target: "Target") -> "Tensor":
    """The order of each object's joints after a mirror, [G, J]: its own, or COCO's.

    Raises:
        ValueError: the joints are not COCO's 17 and the target has no `mirrored_joints`, or one of
            them has no partner.
    """
    import torch

    objects, joints = target["keypoints"].shape[:2]
    if "mirrored_joints" in target:
        order = target["mirrored_joints"]
        unpaired = (order == UNPAIRED).nonzero()
        if len(unpaired):
            raise ValueError(
                f"joint {int(unpaired[0, 1]) + 1} of object {int(unpaired[0, 0])} has left or "
                "right in its name, and no joint has the other side: what is it in a mirror? Name "
                "its partner in the category's keypoints, or train without flips"
            )
        return order
    if joints != len(KEYPOINTS) and objects:
        raise ValueError(
            f"the target has {joints} joints an object and does not say which of them change "
            "places in a mirror: add 'mirrored_joints' [G, J], for example from "
            "mrcnn_edu.data.skeleton.mirrored_order(names), or train without flips"
        )
    if joints != len(KEYPOINTS):
        return torch.zeros((0, joints), dtype=torch.int64)
    order = torch.tensor(mirrored_order(KEYPOINTS), device=target["keypoints"].device)
    return order.expand(objects, -1)


def sigmas_of(categories: Iterable[Mapping[str, Any]], where: str) -> NDArray[np.float64]:
    """The constants of the object keypoint similarity for the joints of an annotation file.

    A category may state them as `sigmas`. Else a joint that COCO has takes COCO's, by its name, and
    any other joint the mean of COCO's 17. A file that names no joints is taken for COCO's own.

    Returns:
        [J] as many as the category with most joints has.

    Raises:
        ValueError: `sigmas` that are not one positive number a joint, or categories whose joints
            need different constants.
    """
    coco = dict(zip(KEYPOINTS, COCO_SIGMAS.tolist(), strict=True))
    longest: list[float] = []
    whose: Any = None
    for category in categories:
        names = joint_names(category, where)
        if not names:
            continue
        own = [coco.get(name, float(COCO_SIGMAS.mean())) for name in names]
        if "sigmas" in category:
            own = _stated(category, len(names), where)
        short, long = sorted((own, longest), key=len)
        if whose is not None and long[: len(short)] != short:
            raise ValueError(
                f"{where}: categories {whose!r} and {category.get('name')!r} have different "
                "joints; evaluate their keypoints one at a time, from files with one of them"
            )
        longest, whose = long, category.get("name")
    return np.array(longest) if longest else COCO_SIGMAS


def _stated(category: Mapping[str, Any], joints: int, where: str) -> list[float]:
    sigmas = category["sigmas"]
    right = isinstance(sigmas, list | tuple) and len(sigmas) == joints
    if not right or not all(isinstance(s, int | float) and 0 < s < math.inf for s in sigmas):
        raise ValueError(
            f"{where}: 'sigmas' of category {category.get('name')!r} must be {joints} positive "
            f"numbers, one for each joint, got {str(sigmas)[:80]}"
        )
    return [float(s) for s in sigmas]
