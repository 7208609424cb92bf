"""What enters and leaves as files. `open_scene` (cocogs.scene) is the way in; one module per kind of source.

- photos.py: one photo or mask: decoding, EXIF, orientation, the area filter
- sfm.py: a folder of photos -> cameras and points (the only SfM)
- colmap.py: a COLMAP model -> Source; undistortion
- llff.py: poses_bounds.npy -> Source
- nerfstudio.py: transforms.json -> Source
- source.py: Source, the plain data that these four hand to scene.py
- folders.py: images/, images_N/, masks/, hold=N of a dataset folder
- prepare.py: photos -> pictures at training resolution, cached
- seeds.py: points for datasets that have none
- progress.py: how far a slow step is
- atomic.py: files that are either whole or absent
"""

# Pillow must be loaded before pycolmap, which exports its own zlib and libpng to the process: a Pillow
# loaded after it mixes the two and aborts with "double free" when it writes a PNG (pycolmap 4.2.1).
import PIL._imaging  # noqa: F401
