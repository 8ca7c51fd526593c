"""The tiny bundle and scans of tests/bundle."""

from bundle.conftest import _logging_as_it_was, complete, scans  # noqa: F401
