"""Reward models behind one call: texts in, rewards out."""
