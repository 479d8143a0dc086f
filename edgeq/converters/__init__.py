"""Scripts around the converters that others keep, each run by the Python in whose environment its converter is installed.

`python from_KIND.py SOURCE OUT.tflite OPTIONS`, where OPTIONS is a JSON object with `batch` (an integer or null) and `shapes`
(input's name → list of lengths). They import nothing of edgeq. Exit status MISSING: the converter is not installed.
"""

MISSING = 3
