"""Encoders: picture to W+. `base.py` is what all of them can do, `kinds.py` names them."""
