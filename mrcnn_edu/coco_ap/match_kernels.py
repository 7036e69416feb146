"""The Numba kernels that match, and that make curves of matches.

Groups, shares of threads and equality with pycocotools: see `overlap_kernels`. `reference` has the
slow definition of each. Chapter 11.
"""

from __future__ import annotations

import numpy as np

from mrcnn_edu.kernels.compiled import kernel

TINY = np.spacing(1.0)  # pycocotools adds it to denominators


@kernel(fastmath=False)
def match(  # type: ignore[no-untyped-def]
    overlaps,
    block,
    found_start,
    truth_start,
    crowd,
    outside,
    found_outside,
    thresholds,
    matches,
    ignored,
    first,
    step,
):
    """Give detections to objects, for each area range and each IoU threshold.

    `outside` [A, G]: the object does not count in the range; `found_outside` [A, D]: the
    detection's own area is not in it. `matches` [A, T, D] int32 becomes the object's number or
    −1, `ignored` [A, T, D] whether the detection counts neither as right nor as wrong.
    """
    most = 0
    for c in range(len(block)):
        most = max(most, truth_start[c + 1] - truth_start[c])
    taken = np.empty(most, np.bool_)
    for c in range(first, len(block), step):
        begin, width = truth_start[c], truth_start[c + 1] - truth_start[c]
        for a in range(len(outside)):
            for t in range(len(thresholds)):
                taken[:width] = False
                for d in range(found_start[c], found_start[c + 1]):
                    row = block[c] + (d - found_start[c]) * width
                    best, limit = -1, min(thresholds[t], 1 - 1e-10)
                    for g in range(width):  # objects that count come first
                        if overlaps[row + g] >= limit and not (outside[a, begin + g] or taken[g]):
                            best, limit = g, overlaps[row + g]
                    if best < 0:
                        for g in range(width):
                            if overlaps[row + g] >= limit and outside[a, begin + g]:
                                if taken[g] and not crowd[begin + g]:
                                    continue
                                best, limit = g, overlaps[row + g]
                    if best >= 0:
                        taken[best] = True
                        matches[a, t, d] = begin + best
                        ignored[a, t, d] = outside[a, begin + best]
                    else:
                        matches[a, t, d] = -1
                        ignored[a, t, d] = found_outside[a, d]


@kernel(fastmath=False)
def accumulate(  # type: ignore[no-untyped-def]
    matches,
    ignored,
    scores,
    rank,
    order,
    class_start,
    positives,
    limits,
    recall_points,
    precision,
    recall,
    score_at,
    first,
    step,
):
    """Precision at given recalls, for each threshold, class, area range and limit.

    `order` [D] sorts the detections of each class by score, over all images; `rank` [D] is a
    detection's place in its own image and class, of which `limits` [M] count. `positives` [K, A]
    are the objects to find; where there are none, everything stays as it is.
    """
    thresholds = matches.shape[1]
    most = 0
    for k in range(len(positives)):
        most = max(most, class_start[k + 1] - class_start[k])
    r, p, s = np.empty(most), np.empty(most), np.empty(most)
    for k in range(first, len(positives), step):
        for a in range(len(matches)):
            objects = positives[k, a]
            if objects == 0:
                continue
            for m in range(len(limits)):
                for t in range(thresholds):
                    n, right, wrong = 0, 0, 0
                    for i in range(class_start[k], class_start[k + 1]):
                        d = order[i]
                        if rank[d] >= limits[m]:
                            continue
                        if not ignored[a, t, d]:
                            if matches[a, t, d] >= 0:
                                right += 1
                            else:
                                wrong += 1
                        r[n], s[n] = right / objects, scores[d]
                        p[n] = right / (float(wrong + right) + TINY)
                        n += 1
                    recall[t, k, a, m] = r[n - 1] if n else 0.0
                    for i in range(n - 1, 0, -1):  # the best precision at this recall or more
                        p[i - 1] = max(p[i], p[i - 1])
                    i = 0
                    for q in range(len(recall_points)):
                        while i < n and r[i] < recall_points[q]:
                            i += 1
                        precision[t, q, k, a, m] = p[i] if i < n else 0.0
                        score_at[t, q, k, a, m] = s[i] if i < n else 0.0
