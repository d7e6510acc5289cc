"""Pictures that strangers send: which kind a file is, what in it is the picture, and its colours as sRGB.

The library and the HTTP service both read pictures through this package, so that what one takes the other takes.
It needs Pillow and NumPy, and nothing else of this project.
"""
