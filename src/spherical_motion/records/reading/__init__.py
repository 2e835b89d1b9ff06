"""From the files of a run to arrays: which groups, which parts, where each row goes.

In: a run directory and the facts of its run. Out: dense arrays of (steps, slices), for all groups
or for some of them.
"""
