"""COCO 2017 in figures: its files, its classes, and what its images and objects are like.

`data.coco_files` compares a download with these, `data.rehearsal` generates images that share them.
Sources, by the letter that stands behind a figure:

(a) cocodataset.org, "Download" and "Detection evaluation".
(b) The log that detectron2 prints before it trains, for example in its issue 195: instances of each
    class, crowd regions apart, and "Removed 1021 images with no usable annotations".
(c) Sizes and MD5 of the archives, as other projects check them (PaddleDetection's tests, MLCommons'
    CM scripts) and as the server states them.
(d) Lin et al. 2014, "Microsoft COCO", §5: classes an image.
(e) Counted by this project in 238 of COCO's images with 2,036 objects: those whose own licence
    lets them be redistributed, and the 100 of the COCO API's example. So small a sample gives no
    more than two digits.

Chapter 12.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Archive:
    """A file to download."""

    url: str
    size: int  # bytes (c)
    md5: str  # (c)
    gives: str


ARCHIVES = (
    Archive(
        "http://images.cocodataset.org/zips/train2017.zip",
        19_336_861_798,
        "cced6f7f71b7629ddf16f17bbcfab6b2",
        "train2017/",
    ),
    Archive(
        "http://images.cocodataset.org/zips/val2017.zip",
        815_585_330,
        "442b8da7639aecaf257c1dceb8ba8c80",
        "val2017/",
    ),
    Archive(
        "http://images.cocodataset.org/annotations/annotations_trainval2017.zip",
        252_907_541,
        "f4bbac642086de4f52a3fdda2de5fa2c",
        "annotations/",
    ),
)


@dataclass(frozen=True)
class Split:
    """What is in one of COCO's halves."""

    images: int  # (a)
    objects: int  # without crowd regions (b)
    annotations: int  # with them


SPLITS = {
    "train2017": Split(118_287, 849_949, 860_001),
    "val2017": Split(5_000, 36_335, 36_781),
}

# Category id, name, and objects in train2017 (b). They add up to SPLITS["train2017"].objects.
CLASSES: tuple[tuple[int, str, int], ...] = (
    (1, "person", 257_253),
    (2, "bicycle", 7_056),
    (3, "car", 43_533),
    (4, "motorcycle", 8_654),
    (5, "airplane", 5_129),
    (6, "bus", 6_061),
    (7, "train", 4_570),
    (8, "truck", 9_970),
    (9, "boat", 10_576),
    (10, "traffic light", 12_842),
    (11, "fire hydrant", 1_865),
    (13, "stop sign", 1_983),
    (14, "parking meter", 1_283),
    (15, "bench", 9_820),
    (16, "bird", 10_542),
    (17, "cat", 4_766),
    (18, "dog", 5_500),
    (19, "horse", 6_567),
    (20, "sheep", 9_223),
    (21, "cow", 8_014),
    (22, "elephant", 5_484),
    (23, "bear", 1_294),
    (24, "zebra", 5_269),
    (25, "giraffe", 5_128),
    (27, "backpack", 8_714),
    (28, "umbrella", 11_265),
    (31, "handbag", 12_342),
    (32, "tie", 6_448),
    (33, "suitcase", 6_112),
    (34, "frisbee", 2_681),
    (35, "skis", 6_623),
    (36, "snowboard", 2_681),
    (37, "sports ball", 6_299),
    (38, "kite", 8_802),
    (39, "baseball bat", 3_273),
    (40, "baseball glove", 3_747),
    (41, "skateboard", 5_536),
    (42, "surfboard", 6_095),
    (43, "tennis racket", 4_807),
    (44, "bottle", 24_070),
    (46, "wine glass", 7_839),
    (47, "cup", 20_574),
    (48, "fork", 5_474),
    (49, "knife", 7_760),
    (50, "spoon", 6_159),
    (51, "bowl", 14_323),
    (52, "banana", 9_195),
    (53, "apple", 5_776),
    (54, "sandwich", 4_356),
    (55, "orange", 6_302),
    (56, "broccoli", 7_261),
    (57, "carrot", 7_758),
    (58, "hot dog", 2_884),
    (59, "pizza", 5_807),
    (60, "donut", 7_005),
    (61, "cake", 6_296),
    (62, "chair", 38_073),
    (63, "couch", 5_779),
    (64, "potted plant", 8_631),
    (65, "bed", 4_192),
    (67, "dining table", 15_695),
    (70, "toilet", 4_149),
    (72, "tv", 5_803),
    (73, "laptop", 4_960),
    (74, "mouse", 2_261),
    (75, "remote", 5_700),
    (76, "keyboard", 2_854),
    (77, "cell phone", 6_422),
    (78, "microwave", 1_672),
    (79, "oven", 3_334),
    (80, "toaster", 225),
    (81, "sink", 5_609),
    (82, "refrigerator", 2_634),
    (84, "book", 24_077),
    (85, "clock", 6_320),
    (86, "vase", 6_577),
    (87, "scissors", 1_464),
    (88, "teddy bear", 4_729),
    (89, "hair drier", 198),
    (90, "toothbrush", 1_945),
)

EMPTY_IMAGES = 1_021  # of train2017: no object but crowds (b)
CLASSES_AN_IMAGE = 3.5  # (d)
SMALL_MEDIUM_LARGE = (0.41, 0.34, 0.24)  # shares of objects: < 32², < 96², larger (a)
# Width × height and their shares (e); all others have a longer side of 640 as a rule.
IMAGE_SIZES = {
    (640, 480): 0.22,
    (640, 427): 0.12,
    (480, 640): 0.055,
    (500, 375): 0.05,
    (640, 426): 0.046,
    (427, 640): 0.034,
    (640, 428): 0.03,
    (640, 425): 0.02,
    (375, 500): 0.017,
    (500, 334): 0.013,
    (500, 333): 0.01,
}
WIDE_IMAGES = 0.76  # share of images that are wider than tall (e)
VERTICES_MEDIAN, VERTICES_90 = 15, 39  # of a polygon (e)
IN_PIECES = 0.082  # share of objects of more than one polygon (e)
BOX_FILL = 0.58  # an object's area by its box's, mean (e)
ASPECT_SIGMA = 0.77  # standard deviation of ln(height / width) of boxes (e)
SIZE_VERTICES_CORRELATION = 0.48  # of their logarithms (e)
JPEG_BYTES = ARCHIVES[0].size / SPLITS["train2017"].images  # 163 kB an image
