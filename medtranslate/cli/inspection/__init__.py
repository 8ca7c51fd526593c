"""What ``inspect`` does: ``look`` finds out, ``show`` tells."""
