"""The course's colours: Okabe and Ito's, and three of Tol's, apart also for the colour-blind."""

COLOURS = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
    (136, 34, 85),
    (153, 153, 51),
    (170, 170, 170),
)
