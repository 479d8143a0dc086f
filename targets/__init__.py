"""Device families that edgeq builds for: one small declarative file each, and what turns kernels into objects for them.

`target` says what a family is, `detect` what this processor offers, `objects` which built object fits it. Those need neither
NumPy nor Numba. `crosscompile`, `link` and `build` make objects, `wheel` packs them.
"""
