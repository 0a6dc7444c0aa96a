# exp, expm1, log, log(1 + x) and tanh without branches, calls or tables, so that loops over them are vectorized.
#
# Each is within 2 units in the last place; tests/ulp.py shows it, for float over all numbers there are. The
# coefficients are near-minimax polynomials (Chebyshev interpolation, in 50 digits), of the lowest degree whose error
# stays below half a unit. Ranges are kept by selections, which become blends: a NaN goes through all of them as NaN.
#
# Numbers are written <floating>1 throughout: Cython takes a bare 1 beside a float for a double, and the loop would go
# to double precision and back.


from libc.math cimport INFINITY, copysign, copysignf, fabs, fabsf


cdef inline floating abs_(floating z) noexcept nogil:
    if floating is float:
        return fabsf(z)
    else:
        return fabs(z)


cdef inline floating copysign_(floating z, floating sign) noexcept nogil:
    if floating is float:
        return copysignf(z, sign)
    else:
        return copysign(z, sign)


cdef inline floating select(bint condition, floating a, floating b) noexcept nogil:
    """``a if condition else b``, without a branch."""
    if floating is float:
        return select_f32(condition, a, b)
    else:
        return select_f64(condition, a, b)


cdef inline floating polynomial_exp(floating r) noexcept nogil:
    """``(e^r - 1 - r) / r^2`` for |r| <= ln(2) / 2."""
    cdef floating p
    if floating is float:
        p = <float>0.00139269266140219065
        p = p * r + <float>0.0083637738744055735
        p = p * r + <float>0.0416665501103051244
        p = p * r + <float>0.16666573381900846
        p = p * r + <float>0.5
    else:
        p = 2.09154422977801152e-9
        p = p * r + 2.51062747335732947e-8
        p = p * r + 2.75572718102197996e-7
        p = p * r + 2.75572528335169097e-6
        p = p * r + 0.0000248015873270071867
        p = p * r + 0.000198412698768643549
        p = p * r + 0.00138888888888833267
        p = p * r + 0.0083333333333255447
        p = p * r + 0.0416666666666666701
        p = p * r + 0.166666666666666714
        p = p * r + 0.5
    return p


cdef inline floating power_of_two(floating shifted, floating *half) noexcept nogil:
    """``2^(n - n // 2)`` and, in ``half``, ``2^(n // 2)``: two factors, since 2^n may be subnormal, or out of range.

    ``shifted`` is n + 1.5 * 2^23 (2^52), whose low bits are n.
    """
    cdef int32_t n, h
    cdef int64_t m, g
    if floating is float:
        n = bits_f32(shifted) - 0x4B400000
        h = n >> 1
        half[0] = power_f32(h)
        return power_f32(n - h)
    else:
        m = bits_f64(shifted) - SHIFTED_F64
        g = <int32_t>m >> 1
        half[0] = power_f64(g)
        return power_f64(m - g)


cdef inline floating small_power_of_two(floating shifted) noexcept nogil:
    """``2^n``, where it is a normal number: the low bits of ``shifted`` moved into the place of an exponent.

    One below these numbers it is 0, and one above them infinity. The other bits of ``shifted`` are moved out.
    """
    if floating is float:
        return power_f32(bits_f32(shifted))
    else:
        return power_f64(bits_f64(shifted))


cdef inline floating range_reduce(floating x, floating *shifted, floating *rest) noexcept nogil:
    """``x - n ln 2`` in two parts whose sum is at most ln(2) / 2, and n in the low bits of ``shifted``."""
    cdef floating n
    if floating is float:
        shifted[0] = x * <float>1.44269504088896341 + <float>12582912.0
        n = shifted[0] - <float>12582912.0
        rest[0] = -n * <float>1.42860682030941723e-6
        return x - n * <float>0.693145751953125
    else:
        shifted[0] = x * 1.44269504088896341 + 6755399441055744.0
        n = shifted[0] - 6755399441055744.0
        rest[0] = -n * 1.90821492927058770002e-10
        return x - n * 0.693147180369123816490


cdef inline floating exp_(floating x) noexcept nogil:
    cdef floating low, high, c, r, rest, shifted, half, scale
    if floating is float:
        low, high = -104, 89
    else:
        low, high = -746, 710
    c = select(x < low, low, x)
    c = select(c > high, high, c)
    r = range_reduce(c, &shifted, &rest)
    r += rest
    scale = power_of_two(shifted, &half)
    c = polynomial_exp(r)
    return (<floating>1 + (r + r * r * c)) * scale * half


cdef inline floating exp_in_range(floating x) noexcept nogil:
    """``e^x`` where `small_power_of_two` is right: for the x that its callers let through, and for NaN."""
    cdef floating r, c, rest, shifted
    r = range_reduce(x, &shifted, &rest)
    r += rest
    c = polynomial_exp(r)
    if HAS_FMA:  # one step less, and more exact
        return ((c * r + <floating>1) * r + <floating>1) * small_power_of_two(shifted)
    return (<floating>1 + (r + r * r * c)) * small_power_of_two(shifted)


cdef inline floating exp_nonpositive(floating x) noexcept nogil:
    """``e^x`` for x <= 0, but 0 where it is subnormal: less than half of the work of `exp_`."""
    cdef floating low
    if floating is float:
        low = -88  # n is -127, whose power is 0
    else:
        low = -709  # n is -1023
    return exp_in_range(select(x < low, low, x))


cdef inline floating expm1_(floating x, floating *exponential) noexcept nogil:
    """``e^x - 1``, and ``e^x`` but 0 where it is subnormal, for x <= 0, or small."""
    cdef floating low, c, r, rest, shifted, scale
    if floating is float:
        low = -88  # as above
    else:
        low = -709
    r = range_reduce(select(x < low, low, x), &shifted, &rest)
    r += rest
    scale = small_power_of_two(shifted)
    c = polynomial_exp(r)
    c = r + r * r * c
    exponential[0] = (<floating>1 + c) * scale
    c = scale * c + (scale - <floating>1)
    return select(x == 0, x, c)  # keeps -0


cdef inline floating log_(floating x) noexcept nogil:
    """``log(m 2^e) = e ln 2 + log(m)`` for normal x > 0, infinity and NaN."""
    cdef floating e, m, high, low
    if floating is float:
        m = split_f32(x, &e)
        high, low = <float>0.693145751953125, <float>1.42860682030941723e-6
    else:
        m = split_f64(x, &e)
        high, low = 0.693147180369123816490, 1.90821492927058770002e-10
    m = e * high + (e * low + log1p_(m - <floating>1))
    return select(x < <floating>INFINITY, m, x)


cdef inline floating log1p_(floating x) noexcept nogil:
    """``log(1 + x) = 2 artanh(x / (2 + x))`` for -1/3 <= x <= 1."""
    cdef floating f = x / (<floating>2 + x), s = f * f, p
    if floating is float:
        p = <float>0.134257490114185759
        p = p * s + <float>0.141183099026552407
        p = p * s + <float>0.200037803224556029
        p = p * s + <float>0.333333201683496199
    else:
        p = 0.0808202280597176611
        p = p * s + 0.0440036924307233694
        p = p * s + 0.0600053640479535627
        p = p * s + 0.0665707210482746808
        p = p * s + 0.0769278503247931155
        p = p * s + 0.0909089471806642908
        p = p * s + 0.111111113587139315
        p = p * s + 0.142857142835543786
        p = p * s + 0.200000000000072913
        p = p * s + 0.333333333333333293
    return x - f * (x - <floating>2 * (s * p))  # 2 f + 2 f s p, with the rounding of f in the small term only


cdef inline floating tanh_(floating x, floating *complement) noexcept nogil:
    """tanh x, and ``1 - tanh |x|`` without cancellation."""
    if floating is float:
        return tanh_f32(x, complement)
    else:
        return tanh_f64(x, complement)


cdef inline float tanh_f32(float x, float *complement) noexcept nogil:
    """``1 - 2 / (e^(2 |x|) + 1)``, or, where that cancels, a polynomial; with the sign of x."""
    cdef float h, q, s = x * x, high = 44.25, size = abs_(x)  # beyond it the complement is subnormal, and 0 here
    h = <float>2 / (exp_in_range(<float>2 * select(size > high, high, size)) + <float>1)
    q = <float>-0.00660837125691857231
    q = q * s + <float>0.0213084012870019731
    q = q * s + <float>-0.0539092678523781166
    q = q * s + <float>0.13333112910672093
    q = q * s + <float>-0.333333320017110415
    q = (size * s) * q + size
    complement[0] = h
    return copysign_(select(size > <float>0.55, <float>1 - h, q), x)


cdef inline double tanh_f64(double x, double *complement) noexcept nogil:
    """``t / (t + 2)`` for ``t = e^(2 |x|) - 1``, with the sign of x; and ``1 - tanh |x|``, without cancellation.

    One division serves both: for ``h = 1 / (t + 2)`` the latter is 2 h.
    """
    cdef double h, t, q, r, head, rest, shifted, scale, high, size = abs_(x)
    high = 354  # as above
    t = 2 * select(size > high, high, size)
    head = range_reduce(t, &shifted, &rest)
    scale = small_power_of_two(shifted)
    r = head + rest
    # The first sum is exact, or nearly so; the second adds what is small beside it.
    t = (scale * head + (scale - 1)) + scale * (r * r * polynomial_exp(r) + rest)
    h = 1 / (t + 2)
    q = t * h
    # What the roundings of t + 2, h and the product left, (t - q (t + 2)) / (t + 2).
    q += ((t - 2 * q) - q * t) * h
    h += h
    if HAS_FMA:  # the last line is exact enough for all t; without it, for small t alone
        q = select(q > 1, 1.0, q)
    else:
        q = select(t < 2, q, 1 - h)
    complement[0] = select(size > high, 0.0, h)
    return copysign_(q, x)


cdef inline floating normal_sf(floating z, floating *gauss) noexcept nogil:
    """``Phi(-z)``, the normal distribution below -z, for z >= 0; and, in ``gauss``, ``e^(-z^2 / 2)``.

    ``(1 + z) e^(z^2 / 2) Phi(-z)`` is a polynomial in ``t = (z - 5.3) / (z + 5.3)``, which maps all z >= 0 to [-1, 1]
    (the idea is that of M. Shepherd and J. Laframboise (1981), Math. Comp. 36:249-253). z^2 is taken in two parts,
    since its rounding would be multiplied by z^2.
    """
    cdef floating p, t, head, rest
    z = select(z > <floating>40, <floating>40, z)
    if floating is float:
        head = number_f32(bits_f32(z) & <int32_t>-4096)  # 12 bits: its square is exact
    else:
        head = number_f64(bits_f64(z) & <int64_t>-134217728)  # 26 bits
    rest = <floating>-0.5 * (z - head) * (z + head)
    rest = <floating>1 + rest * (<floating>1 + rest * (<floating>0.5 + rest * <floating>0.16666666666666667))
    gauss[0] = exp_nonpositive(<floating>-0.5 * head * head) * rest
    t = (z - <floating>5.3) / (z + <floating>5.3)
    if floating is float:
        p = <float>8.83463024094136286e-6
        p = p * t + <float>-0.0000742413451127672527
        p = p * t + <float>0.0000944240896375784784
        p = p * t + <float>0.000583184840083450755
        p = p * t + <float>-0.00317063027298697885
        p = p * t + <float>0.00881460443649952596
        p = p * t + <float>-0.0171946846454120844
        p = p * t + <float>0.0246074376180792356
        p = p * t + <float>-0.0234756503359607493
        p = p * t + <float>0.00518581286219944559
        p = p * t + <float>0.0343330358755986367
        p = p * t + <float>-0.0896456596291273656
        p = p * t + <float>0.458875811374384808
    else:
        p = 1.20154955033091635e-10
        p = p * t + -8.82261911034289404e-10
        p = p * t + -1.42771981601661154e-9
        p = p * t + 1.07529128532809071e-8
        p = p * t + 9.02573460523021244e-9
        p = p * t + -8.36187767141208508e-8
        p = p * t + -2.74768576048693857e-8
        p = p * t + 5.88096510945109591e-7
        p = p * t + -2.67622591292422464e-7
        p = p * t + -3.90466573763958827e-6
        p = p * t + 7.09505513388449616e-6
        p = p * t + 0.0000184291680848843587
        p = p * t + -0.0000953828948428953698
        p = p * t + 0.0000835601622492050232
        p = p * t + 0.00060880841141142915
        p = p * t + -0.00316441409299778703
        p = p * t + 0.00879946191236733726
        p = p * t + -0.0171964517718853899
        p = p * t + 0.0246118174463702807
        p = p * t + -0.0234754324587812504
        p = p * t + 0.00518526785129454248
        p = p * t + 0.0343330281370143387
        p = p * t + -0.089645640199739085
        p = p * t + 0.458875811374384789
    return gauss[0] * p / (<floating>1 + z)
