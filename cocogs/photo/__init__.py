"""One photo or a bracket of photos, without a scene: refocused, stacked, deblurred."""
