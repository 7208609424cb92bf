"""Figures: of a run, of a truth, of photos before training."""
