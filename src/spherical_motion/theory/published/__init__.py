"""What one paper alone has: its theorems with their constants and ranges, one topic a file.

In come settings and arrays, out go bounds, schedules and checks; `theory` re-exports them.
"""
