"""How elements lie in the arena, for the kernels that take any type: a number per kind."""

U8, S16, S32, S64, F32, F64, U16, U32, S8 = 0, 1, 2, 3, 4, 5, 6, 7, 8
"""uint8 and bool are U8; int8 is S8: the byte q + 128."""
