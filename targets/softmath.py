"""Functions that 32-bit ARM code calls where the processor has no instruction, as LLVM text: objects link against no library.

The kernels count in int64; on a 32-bit processor LLVM calls the compiler's run-time library for conversions between int64 and
floats, and Numba functions of its own for 64-bit division. ARMv7 has no instruction that rounds a float to a whole number either.
"""

from __future__ import annotations

# |x| + 2^52 − 2^52 rounds |x| < 2^52 to nearest, ties to even, in the adder; larger numbers are whole, and NaN stays NaN.
_ROUNDING = """
define hidden {T} @{rint}({T} %x) nounwind {{
  %a = call {T} @llvm.fabs.{f}({T} %x)
  %small = fcmp olt {T} %a, {limit}
  %up = fadd {T} %a, {limit}
  %r = fsub {T} %up, {limit}
  %signed = call {T} @llvm.copysign.{f}({T} %r, {T} %x)
  %y = select i1 %small, {T} %signed, {T} %x
  ret {T} %y
}}
define hidden {T} @{floor}({T} %x) nounwind {{
  %r = call {T} @{rint}({T} %x)
  %above = fcmp ogt {T} %r, %x
  %less = fsub {T} %r, 1.0
  %y = select i1 %above, {T} %less, {T} %r
  ret {T} %y
}}
define hidden {T} @{ceil}({T} %x) nounwind {{
  %n = fneg {T} %x
  %f = call {T} @{floor}({T} %n)
  %y = fneg {T} %f
  ret {T} %y
}}
define hidden {T} @{trunc}({T} %x) nounwind {{
  %a = call {T} @llvm.fabs.{f}({T} %x)
  %f = call {T} @{floor}({T} %a)
  %y = call {T} @llvm.copysign.{f}({T} %f, {T} %x)
  ret {T} %y
}}
declare {T} @llvm.fabs.{f}({T})
declare {T} @llvm.copysign.{f}({T}, {T})
"""

# The halves of an int64 are exact as float64, and their sum rounds once. To float32 by way of float64 would round twice: above
# 2^53 the bits that float64 cannot hold are gathered in the lowest that it can (rounding to odd).
_CONVERSIONS = """
define hidden i64 @__fixdfdi(double %x) nounwind {
  %a = call double @llvm.fabs.f64(double %x)
  %scaled = fmul double %a, 0x3DF0000000000000
  %hi = fptoui double %scaled to i32
  %hid = uitofp i32 %hi to double
  %taken = fmul double %hid, 0x41F0000000000000
  %rest = fsub double %a, %taken
  %lo = fptoui double %rest to i32
  %hi64 = zext i32 %hi to i64
  %lo64 = zext i32 %lo to i64
  %up = shl i64 %hi64, 32
  %n = or i64 %up, %lo64
  %minus = sub i64 0, %n
  %negative = fcmp olt double %x, 0.0
  %y = select i1 %negative, i64 %minus, i64 %n
  ret i64 %y
}
define hidden i64 @__fixsfdi(float %x) nounwind {
  %d = fpext float %x to double
  %y = call i64 @__fixdfdi(double %d)
  ret i64 %y
}
define hidden double @__floatdidf(i64 %x) nounwind {
  %up = ashr i64 %x, 32
  %hi = trunc i64 %up to i32
  %lo = trunc i64 %x to i32
  %hid = sitofp i32 %hi to double
  %lod = uitofp i32 %lo to double
  %scaled = fmul double %hid, 0x41F0000000000000
  %y = fadd double %scaled, %lod
  ret double %y
}
define hidden float @__floatdisf(i64 %x) nounwind {
  %sign = ashr i64 %x, 63
  %flipped = xor i64 %x, %sign
  %fits = icmp ult i64 %flipped, 9007199254740992
  %low = and i64 %x, 2047
  %any = icmp ne i64 %low, 0
  %sticky = select i1 %any, i64 2048, i64 0
  %with = or i64 %x, %sticky
  %odd = and i64 %with, -2048
  %n = select i1 %fits, i64 %x, i64 %odd
  %d = call double @__floatdidf(i64 %n)
  %y = fptrunc double %d to float
  ret float %y
}
define hidden float @__floatundisf(i64 %x) nounwind {
  %large = icmp slt i64 %x, 0
  %half = lshr i64 %x, 1
  %lost = and i64 %x, 1
  %odd = or i64 %half, %lost
  %n = select i1 %large, i64 %odd, i64 %x
  %f = call float @__floatdisf(i64 %n)
  %twice = fadd float %f, %f
  %y = select i1 %large, float %twice, float %f
  ret float %y
}
"""

_DIVISION = """
define hidden i64 @numba_udiv(i64 %n, i64 %d) nounwind {
  %both = or i64 %n, %d
  %wide = lshr i64 %both, 32
  %small = icmp eq i64 %wide, 0
  br i1 %small, label %short, label %loop
short:
  %n32 = trunc i64 %n to i32
  %d32 = trunc i64 %d to i32
  %q32 = udiv i32 %n32, %d32
  %q = zext i32 %q32 to i64
  ret i64 %q
loop:
  %k = phi i32 [ 64, %0 ], [ %k1, %loop ]
  %r = phi i64 [ 0, %0 ], [ %r2, %loop ]
  %s = phi i64 [ %n, %0 ], [ %s2, %loop ]
  %top = lshr i64 %s, 63
  %carried = lshr i64 %r, 63
  %r0 = shl i64 %r, 1
  %r1 = or i64 %r0, %top
  %over = icmp ne i64 %carried, 0
  %enough = icmp uge i64 %r1, %d
  %take = or i1 %over, %enough
  %left = sub i64 %r1, %d
  %r2 = select i1 %take, i64 %left, i64 %r1
  %bit = zext i1 %take to i64
  %s1 = shl i64 %s, 1
  %s2 = or i64 %s1, %bit
  %k1 = sub i32 %k, 1
  %more = icmp ne i32 %k1, 0
  br i1 %more, label %loop, label %done
done:
  ret i64 %s2
}
define hidden i64 @numba_urem(i64 %n, i64 %d) nounwind {
  %q = call i64 @numba_udiv(i64 %n, i64 %d)
  %p = mul i64 %q, %d
  %r = sub i64 %n, %p
  ret i64 %r
}
define hidden i64 @numba_sdiv(i64 %n, i64 %d) nounwind {
  %sn = ashr i64 %n, 63
  %sd = ashr i64 %d, 63
  %xn = xor i64 %n, %sn
  %xd = xor i64 %d, %sd
  %an = sub i64 %xn, %sn
  %ad = sub i64 %xd, %sd
  %q = call i64 @numba_udiv(i64 %an, i64 %ad)
  %s = xor i64 %sn, %sd
  %xq = xor i64 %q, %s
  %y = sub i64 %xq, %s
  ret i64 %y
}
define hidden i64 @numba_srem(i64 %n, i64 %d) nounwind {
  %q = call i64 @numba_sdiv(i64 %n, i64 %d)
  %p = mul i64 %q, %d
  %r = sub i64 %n, %p
  ret i64 %r
}
"""

# Shifts of int64 by 0 to 63, which code made for few bytes calls: bits go from the half `near` across into the `other`, and those
# of `outside` come in. (x << 1) << (31 − n) is x << (32 − n) for every n < 32.
_SHIFT = """
define hidden i64 @{name}(i64 %x, i32 %n) nounwind {{
  %low = trunc i64 %x to i32
  %above = lshr i64 %x, 32
  %high = trunc i64 %above to i32
  %far = icmp ugt i32 %n, 31
  %m = and i32 %n, 31
  %rest = xor i32 %m, 31
  %outer = {outer} i32 %{near}, %m
  %inner = {inner} i32 %{other}, %m
  %one = {back} i32 %{near}, 1
  %across = {back} i32 %one, %rest
  %both = or i32 %inner, %across
  %outside = {outside}
  %{other}er = select i1 %far, i32 %outer, i32 %both
  %{near}er = select i1 %far, i32 %outside, i32 %outer
  %a = zext i32 %higher to i64
  %b = shl i64 %a, 32
  %c = zext i32 %lower to i64
  %y = or i64 %b, %c
  ret i64 %y
}}
"""
_RIGHT = {"near": "high", "other": "low", "inner": "lshr", "back": "shl"}
_SHIFTS = (
    _SHIFT.format(name="__lshrdi3", outer="lshr", outside="add i32 0, 0", **_RIGHT)
    + _SHIFT.format(name="__ashrdi3", outer="ashr", outside="ashr i32 %high, 31", **_RIGHT)
    + _SHIFT.format(
        name="__ashldi3", outer="shl", outside="add i32 0, 0", near="low", other="high", inner="shl", back="lshr"
    )
)

TEXT = (
    _ROUNDING.format(
        T="double", f="f64", limit="4503599627370496.0", rint="rint", floor="floor", ceil="ceil", trunc="trunc"
    )
    + _ROUNDING.format(
        T="float", f="f32", limit="8388608.0", rint="rintf", floor="floorf", ceil="ceilf", trunc="truncf"
    )
    + _CONVERSIONS
    + _DIVISION
    + _SHIFTS
)
"""All of them, for edgeq.targets.emit to link in. Conversions expect numbers that the result's type can hold."""
