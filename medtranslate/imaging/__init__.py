"""Files to ``MetaTensor`` and back: the only room that knows formats."""
