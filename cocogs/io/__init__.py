"""What enters and leaves as files. `open_scene` (cocogs.scene) is the way in; one module per kind of file:
docs/architecture.md tells which.
"""

# Pillow must be loaded before pycolmap, which exports its own zlib and libpng to the process: a Pillow
# loaded after it mixes the two and aborts with "double free" when it writes a PNG (pycolmap 4.2.1).
import PIL._imaging  # noqa: F401
