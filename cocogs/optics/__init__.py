"""How light becomes a photo: the lens, what was learned of it, and what a picture tells of it."""
