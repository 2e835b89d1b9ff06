"""Does the search find what is scale-invariant, and nothing else? Truth by hand, on many networks.

Read `truth` for the words in which it is written and `catalogue` for the list of networks; each
family of networks has a file that builds them small and says what is invariant in them and why.
No file up to there imports the search. `score` compares, `rules` is what other tools do, `run`
(python -m zoo.run, in benchmarks/) measures and writes docs/zoo.md.
"""
