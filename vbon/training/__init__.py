"""Training loops, one for each shape of method."""
