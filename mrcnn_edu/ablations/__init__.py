"""The paper's tables as experiments: arms that differ in one thing, seeds, intervals, verdicts.

`table` says what a table is, `tables` lists those of the paper and ours, `profiles` how large
the experiments are, `data` what they run on, `run` trains and measures one arm with one seed,
`engine` plans and carries out many, `intervals` holds the rules, `judge` applies them to
results, `report` writes the tables and `forest` draws the plot.
Chapter 15.
"""
