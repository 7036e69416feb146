"""The other systems of the article at teaching size: MNC, FCIS and a promptable segmenter.

Each reads like its paper, trains on the same data as Mask R-CNN and is measured by the same AP.
They share its bricks (backbone, RPN, boxes, RoI operators, losses) and not its model.
Chapters 18 and 19.
"""
