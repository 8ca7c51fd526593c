"""What ``convert`` does, in the order in which it does it.

``request`` (what was asked for) -> ``inputs`` (which scans lie at each input) -> ``outputs`` (where
each result goes, refused before time is spent) -> ``scan`` (one scan from file to file) ->
``batch`` (all of them, with one model) -> ``record`` (what the report tells).
"""
