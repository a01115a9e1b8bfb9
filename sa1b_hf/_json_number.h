/* Decimal numbers to doubles and integers, exactly or not at all.
 *
 * A double is the one nearest to the decimal, half to even, as Python's `float` gives it; what 128 bits cannot decide
 * is refused. SA1B_JSON_NO_INT128 chooses the portable arithmetic, which compilers without __int128 need.
 */
#ifndef SA1B_JSON_NUMBER_H
#define SA1B_JSON_NUMBER_H

#include <float.h>
#include <stdint.h>
#include <string.h>

#if defined(__SIZEOF_INT128__) && !defined(SA1B_JSON_NO_INT128)
__extension__ typedef unsigned __int128 Wide;
#define HAS_WIDE 1
#else
#define HAS_WIDE 0
#endif

/* (-1)^negative * digits * 10^exponent; when truncated, something less than one unit of the last digit is missing. */
typedef struct {
    uint64_t digits;
    int64_t exponent;
    int negative, truncated;
} Decimal;

static const uint64_t POWERS_OF_5[28] = {
    1u, 5u, 25u, 125u, 625u, 3125u, 15625u, 78125u, 390625u, 1953125u, 9765625u, 48828125u, 244140625u, 1220703125u,
    UINT64_C(6103515625), UINT64_C(30517578125), UINT64_C(152587890625), UINT64_C(762939453125),
    UINT64_C(3814697265625), UINT64_C(19073486328125), UINT64_C(95367431640625), UINT64_C(476837158203125),
    UINT64_C(2384185791015625), UINT64_C(11920928955078125), UINT64_C(59604644775390625),
    UINT64_C(298023223876953125), UINT64_C(1490116119384765625), UINT64_C(7450580596923828125)};

static const double POWERS_OF_10[23] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                        1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

static int leading_zeros(uint64_t x) /* x is not 0 */
{
#if defined(__GNUC__)
    return __builtin_clzll(x);
#else
    int zeros = 0;
    for (int step = 32; step; step >>= 1)
        if (!(x >> (64 - step))) x <<= step, zeros += step;
    return zeros;
#endif
}

static uint64_t multiply(uint64_t a, uint64_t b, uint64_t *high)
{
#if HAS_WIDE
    Wide product = (Wide)a * b;
    *high = (uint64_t)(product >> 64);
    return (uint64_t)product;
#else
    uint64_t a0 = a & UINT32_MAX, a1 = a >> 32, b0 = b & UINT32_MAX, b1 = b >> 32;
    uint64_t low = a0 * b0, cross = a1 * b0 + (low >> 32), other = a0 * b1 + (cross & UINT32_MAX);
    *high = a1 * b1 + (cross >> 32) + (other >> 32);
    return other << 32 | (low & UINT32_MAX);
#endif
}

/* Divide high * 2^64 + low by d, where high < d, so that the quotient has 64 bits. */
static uint64_t divide(uint64_t high, uint64_t low, uint64_t d, uint64_t *remainder)
{
#if HAS_WIDE
    uint64_t quotient = (uint64_t)(((Wide)high << 64 | low) / d);
    *remainder = low - quotient * d;
    return quotient;
#else
    uint64_t quotient = 0;
    for (int bit = 0; bit < 64; bit++) {
        int carry = (int)(high >> 63);
        high = high << 1 | low >> 63;
        low <<= 1;
        quotient <<= 1;
        if (carry || high >= d) high -= d, quotient |= 1;
    }
    *remainder = high;
    return quotient;
#endif
}

/* Round (bits + something below, if inexact) * 2^exponent half to even; the caller knows that it is a normal float. */
static double round_to_double(uint64_t bits, int exponent, int inexact)
{
    int zeros = leading_zeros(bits);
    bits <<= zeros;
    uint64_t mantissa = bits >> 11, rest = bits & 0x7ff;
    mantissa += rest > 0x400 || (rest == 0x400 && (inexact || (mantissa & 1)));
    /* The mantissa's leading bit, or the carry out of it, adds to the exponent field. */
    uint64_t pattern = ((uint64_t)(exponent - zeros + 11 + 52 + 1022) << 52) + mantissa;
    double value;
    memcpy(&value, &pattern, sizeof value);
    return value;
}

/* Give digits * 10^exponent, for 1 <= digits < 2^64 and |exponent| <= 27. */
static double scale(uint64_t digits, int exponent)
{
#if defined(FLT_EVAL_METHOD) && FLT_EVAL_METHOD == 0
    /* Both operands are exact, so that one operation rounds once (Clinger 1990). */
    if (digits <= UINT64_C(1) << 53 && exponent >= -22 && exponent <= 22)
        return exponent < 0 ? (double)digits / POWERS_OF_10[-exponent] : (double)digits * POWERS_OF_10[exponent];
#endif
    if (exponent >= 0) {
        uint64_t high, low = multiply(digits, POWERS_OF_5[exponent], &high);
        if (!high) return round_to_double(low, exponent, 0);
        int zeros = leading_zeros(high);
        uint64_t bits = zeros ? high << zeros | low >> (64 - zeros) : high;
        return round_to_double(bits, exponent + 64 - zeros, (low << zeros) != 0);
    }
    uint64_t divisor = POWERS_OF_5[-exponent], remainder;
    int zeros = leading_zeros(digits), divisor_zeros = leading_zeros(divisor);
    digits <<= zeros;
    uint64_t bits = divide(digits >> 1, digits << 63, divisor << divisor_zeros, &remainder);
    return round_to_double(bits, exponent - 63 + divisor_zeros - zeros, remainder != 0);
}

static int decimal_to_double(const Decimal *decimal, double *value)
{
    *value = 0.0;
    if (decimal->digits) {
        if (decimal->exponent < -27 || decimal->exponent > 27) return 0;
        *value = scale(decimal->digits, (int)decimal->exponent);
        if (decimal->truncated && scale(decimal->digits + 1, (int)decimal->exponent) != *value) return 0;
    }
    if (decimal->negative) *value = -*value;
    return 1;
}

static int decimal_to_integer(const Decimal *decimal, int64_t *value)
{
    uint64_t digits = decimal->digits;
    int64_t exponent = digits ? decimal->exponent : 0;
    if (decimal->truncated) return 0;
    for (; exponent < 0; exponent++, digits /= 10)
        if (digits % 10) return 0;
    for (; exponent > 0; exponent--, digits *= 10)
        if (digits > UINT64_MAX / 10) return 0;
    if (digits > (uint64_t)INT64_MAX + (decimal->negative != 0)) return 0;
    *value = (int64_t)(decimal->negative ? 0 - digits : digits);
    return 1;
}

#endif
