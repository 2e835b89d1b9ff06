"""Files that survive a kill: published whole, locked, numbered, appended line by line.

In: paths, tables, events. Out: files that are complete or absent, and what they hold.
"""
