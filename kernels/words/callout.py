"""Words of an instruction: kernels/callout.py says what they mean."""

FUNCTION = 2
ARGUMENTS, MOST = 3, 32  # the first of them; how many there is room for
