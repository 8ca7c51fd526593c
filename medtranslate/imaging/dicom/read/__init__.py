"""A DICOM series to one volume.

`files` (what lies in a folder, parsed within limits; `values` out of raw elements) -> `headers`
(one record a slice) -> `grouping` (what makes a volume) -> `geometry` (order, spacing, tilt,
affine) -> `encoding` and `pixels` (decoding to physical values) -> `reader`. `regrid` makes even
grids for formats that cannot say more.
"""
