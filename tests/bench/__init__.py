"""`make bench`: the whole pipeline against a naive handler, as ratios of interleaved rounds.

docs/benchmarks.md says what is measured and how; this package measures it and fills in the table.
Timing is never a test: a missed bar ends the command with 1, nothing else.
"""
