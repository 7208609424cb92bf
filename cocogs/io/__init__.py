"""What enters and leaves as files. `open_scene` (cocogs.scene) is the way in; one module per kind of source.

    photos.py      one photo: decode, EXIF, orientation, resize; masks
    sfm.py         a folder of photos -> a COLMAP model (the only SfM)
    colmap.py      a COLMAP model -> Source; undistortion
    llff.py        poses_bounds.npy, hold=N -> Source
    nerfstudio.py  transforms.json -> Source
    source.py      Source: photos with cameras and seed points, the plain data these four hand to scene.py
    atomic.py      files that are either whole or absent
"""

# Pillow must be loaded before pycolmap, which exports its own zlib and libpng to the process: a Pillow
# loaded after it mixes the two and aborts with "double free" when it writes a PNG (pycolmap 4.2.1).
import PIL._imaging  # noqa: F401
