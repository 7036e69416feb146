"""What makes a Shapes set hard, on one page. Chapter 12."""

from dataclasses import dataclass

from mrcnn_edu.data.shapes_outline import CLASS_NAMES, UNSEEN_NAMES


@dataclass(frozen=True)
class ShapesConfig:
    """What makes a Shapes set hard. Lengths in pixels, colours on a scale of 0 to 255.

    classes: which of the ten classes there are, or of `UNSEEN_NAMES`, four more that no default
        set has; label 1 is the first.
    image_size: side of the square images.
    max_objects: objects an image, drawn evenly from 1..max_objects.
    min_object_size, max_object_share: the longer box side is drawn almost evenly in its logarithm
        from min_object_size (more for classes with fine detail) to max_object_share · image_size.
    max_turn: degrees an object may be turned either way; 180 is any angle.
    overlap: chance that an object is aimed at an earlier one instead of anywhere.
    min_visible: share of its whole area an object must keep, else it is placed anew.
    min_contrast: Euclidean RGB distance between an object and the ground or another object.
    texture: amplitude of the textures. lines: straight lines on the ground. noise: amplitude of
        the noise of each pixel.

    Raises ValueError for values that no image could satisfy.
    """

    classes: tuple[str, ...] = CLASS_NAMES
    image_size: int = 128
    max_objects: int = 8
    min_object_size: int = 8
    max_object_share: float = 0.8
    max_turn: float = 20.0
    overlap: float = 0.6
    min_visible: float = 0.7
    min_contrast: float = 110.0
    texture: float = 20.0
    lines: int = 2
    noise: float = 6.0

    def __post_init__(self) -> None:
        unknown = [name for name in self.classes if name not in CLASS_NAMES + UNSEEN_NAMES]
        if unknown or not self.classes or len(set(self.classes)) < len(self.classes):
            raise ValueError(
                f"classes are {self.classes}: name each of those wanted once, of {CLASS_NAMES}"
            )
        largest = self.max_object_share * self.image_size
        if self.min_object_size < 6:
            raise ValueError(f"min_object_size {self.min_object_size}: no shape is legible under 6")
        if not 2 * self.min_object_size <= largest <= self.image_size:
            raise ValueError(
                f"largest object {largest:.0f} px (max_object_share · image_size): it must be at "
                f"least twice min_object_size ({self.min_object_size}) and at most image_size"
            )
        if self.max_objects < 1:
            raise ValueError(f"max_objects is {self.max_objects}, at least 1 is needed")
        if not 0 <= self.overlap <= 1 or not 0 < self.min_visible <= 1:
            raise ValueError("overlap must be in 0..1 and min_visible above 0, at most 1")
