"""A translated volume to a derived DICOM series.

By the rules of `attributes`: `repair` (what of the source can stand), `computed` (what is new) and
`stored_values` (the pixels) -> `instances` (one data set a slice) -> `writer`, which also lets a
scan from another format borrow a series' headers. `measured`: error maps and figures of a series.
"""
