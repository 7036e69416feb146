"""The paper's tables as experiments: arms that differ in one thing, seeds, intervals, verdicts.

``table`` says what a table is, ``tables`` lists those of the paper and ours, ``profiles`` how large
the experiments are, ``data`` what they run on, ``run`` trains and measures one arm with one seed,
``engine`` plans and carries out many, ``statistics`` judges, ``report`` writes tables and plots.
Chapter 15.
"""
