"""What one paper alone has: its theorems with their constants and ranges, one topic a file.

In: settings and arrays. Out: bounds, schedules and checks; `theory` re-exports them.
"""
