"""A claimed run directory as tables that grow: begin, go on, append, merge.

In: a run directory, the facts of a run, what waits to be stored. Out: its files.
"""
