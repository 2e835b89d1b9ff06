"""The evidence of a whole run, block by block.

In: `Records`. Out: stages and `Evidence` of every group. The laws of each group alone come first,
what only all groups together can show is added when all have been seen.
"""
