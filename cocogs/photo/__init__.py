"""One photo, or a bracket of them: no scene is needed."""
