"""A BIDS app: the scans of a BIDS dataset, converted into a BIDS derivative dataset.

``dataset`` finds the scans of the raw dataset, with pybids, and names their results; ``derivative``
converts them and writes what belongs to the results: sidecars, reports and a page a participant.
Needs the extra ``bids``.
"""

from medtranslate.bids.dataset import result_name
from medtranslate.bids.derivative import convert_dataset

__all__ = ["convert_dataset", "result_name"]
