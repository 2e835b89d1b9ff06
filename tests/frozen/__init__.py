"""Behaviour, frozen: thousands of recorded values that the code is held against."""
