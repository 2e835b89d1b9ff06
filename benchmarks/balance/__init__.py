"""Does the balance law hold? Eight nets × four optimizers × two schedules.

`net` says what a net of the table is, `images`, `attention` and `embeddings` build them small,
`data` feeds them and `training` trains them. `slow` records the products of a run with plain torch
and `laws` evaluates the laws on them; neither uses the library. `run` (python -m balance.run, in
benchmarks/) measures the table with the library and writes docs/balance.json and the tables of
docs/balance.md.
"""
