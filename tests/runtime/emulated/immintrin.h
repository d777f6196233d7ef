/* The AVX-512 instructions that the kernels use, one lane after the other in plain C: found before the compiler's header of
 * the same name, it lets the kernels be tested, and watched by a sanitizer, on any processor. Each function does what
 * Intel's manual says of its instruction, numbers that are none included. */
#ifndef EDGEFT_EMULATED_IMMINTRIN_H
#define EDGEFT_EMULATED_IMMINTRIN_H

#include <math.h>
#include <stdint.h>
#include <string.h>

typedef uint16_t __mmask16;
typedef struct { float lane[4]; } __m128;
typedef struct { float lane[16]; } __m512;
typedef struct { int32_t lane[16]; } __m512i;

enum { _MM_FROUND_TO_NEAREST_INT = 0, _MM_FROUND_NO_EXC = 8 };

#define EMULATED static __attribute__((unused, noinline))
#define EACH for (int i = 0; i < 16; i++)
#define IS_ALIGNED(at) ((uintptr_t)(at) % 64 == 0)

/* A function of one, two or three registers, lane by lane. */
#define LANES_OF_ONE(name, type, from, value) \
    EMULATED type name(from x) { type out; EACH { __typeof__(x.lane[0]) a = x.lane[i]; out.lane[i] = (value); } return out; }
#define LANES_OF_TWO(name, type, value)                                                          \
    EMULATED type name(type x, type y) {                                                         \
        type out;                                                                                \
        EACH { __typeof__(x.lane[0]) a = x.lane[i], b = y.lane[i]; out.lane[i] = (value); }      \
        return out;                                                                              \
    }
#define LANES_OF_THREE(name, value)                                                                       \
    EMULATED __m512 name(__m512 x, __m512 y, __m512 z) {                                                  \
        __m512 out;                                                                                       \
        EACH { float a = x.lane[i], b = y.lane[i], c = z.lane[i]; out.lane[i] = (value); }                \
        return out;                                                                                       \
    }

LANES_OF_TWO(_mm512_add_ps, __m512, a + b)
LANES_OF_TWO(_mm512_sub_ps, __m512, a - b)
LANES_OF_TWO(_mm512_mul_ps, __m512, a *b)
LANES_OF_TWO(_mm512_max_ps, __m512, a > b ? a : b) /* the second one where either is no number */
LANES_OF_TWO(_mm512_min_ps, __m512, a < b ? a : b)
LANES_OF_TWO(_mm512_scalef_ps, __m512, isnan(a) || isnan(b) ? NAN : ldexpf(a, (int)floorf(fmaxf(fminf(b, 1000), -1000))))
LANES_OF_TWO(_mm512_add_epi32, __m512i, (int32_t)((uint32_t)a + (uint32_t)b))
LANES_OF_TWO(_mm512_max_epi32, __m512i, a > b ? a : b)
LANES_OF_THREE(_mm512_fmadd_ps, fmaf(a, b, c))
LANES_OF_THREE(_mm512_fmsub_ps, fmaf(a, b, -c))
LANES_OF_ONE(_mm512_abs_ps, __m512, __m512, fabsf(a))
LANES_OF_ONE(_mm512_cvtepi32_ps, __m512, __m512i, (float)a)
LANES_OF_ONE(_mm512_cvtps_epi32, __m512i, __m512, fabsf(a) < 2147483648.0f ? (int32_t)rintf(a) : INT32_MIN)

EMULATED __m512 _mm512_roundscale_ps(__m512 x, int mode) {
    (void)mode; /* to the nearest one, even where two are as near */
    EACH x.lane[i] = rintf(x.lane[i]);
    return x;
}

EMULATED __m512 _mm512_set1_ps(float value) {
    __m512 out;
    EACH out.lane[i] = value;
    return out;
}
EMULATED __m512i _mm512_set1_epi32(int32_t value) {
    __m512i out;
    EACH out.lane[i] = value;
    return out;
}
EMULATED __m512 _mm512_setzero_ps(void) { return _mm512_set1_ps(0); }
EMULATED __m512i _mm512_setzero_si512(void) { return _mm512_set1_epi32(0); }
EMULATED __m512i _mm512_castps_si512(__m512 x) {
    __m512i out;
    memcpy(&out, &x, sizeof out);
    return out;
}

EMULATED __m512 _mm512_loadu_ps(const float *at) {
    __m512 out;
    memcpy(out.lane, at, sizeof out);
    return out;
}
EMULATED void _mm512_storeu_ps(float *at, __m512 x) { memcpy(at, x.lane, sizeof x); }
EMULATED __m512 _mm512_load_ps(const void *at) {
    if (!IS_ALIGNED(at)) __builtin_trap();
    return *(const __m512 *)at;
}
EMULATED __m512i _mm512_load_si512(const void *at) {
    if (!IS_ALIGNED(at)) __builtin_trap();
    __m512i out;
    memcpy(&out, at, sizeof out);
    return out;
}
EMULATED void _mm512_store_si512(void *at, __m512i x) {
    if (!IS_ALIGNED(at)) __builtin_trap();
    memcpy(at, &x, sizeof x);
}

/* Lanes that the mask leaves out are neither read nor written. */
#define IN(mask, i) ((mask) >> (i)&1)
EMULATED __m512 _mm512_maskz_loadu_ps(__mmask16 mask, const float *at) {
    __m512 out = _mm512_setzero_ps();
    EACH if (IN(mask, i)) out.lane[i] = at[i];
    return out;
}
EMULATED void _mm512_mask_storeu_ps(float *at, __mmask16 mask, __m512 x) {
    EACH if (IN(mask, i)) at[i] = x.lane[i];
}
EMULATED __m512 _mm512_maskz_sub_ps(__mmask16 mask, __m512 x, __m512 y) {
    EACH x.lane[i] = IN(mask, i) ? x.lane[i] - y.lane[i] : 0;
    return x;
}
EMULATED void _mm512_mask_cvtusepi32_storeu_epi8(void *at, __mmask16 mask, __m512i x) {
    EACH if (IN(mask, i)) ((uint8_t *)at)[i] = (uint32_t)x.lane[i] > 255 ? 255 : (uint8_t)x.lane[i];
}

/* QNaN 0x01, +0 0x02, -0 0x04, +inf 0x08, -inf 0x10, denormal 0x20, finite and negative 0x40, SNaN 0x80: those asked for here. */
EMULATED __mmask16 _mm512_fpclass_ps_mask(__m512 x, int classes) {
    unsigned mask = 0;
    if (classes & ~0x99) __builtin_trap();
    EACH {
        float a = x.lane[i];
        unsigned is = isnan(a) ? (classes & 0x81) != 0 : isinf(a) ? (classes & (a > 0 ? 0x08 : 0x10)) != 0 : 0;
        mask |= is << i;
    }
    return (__mmask16)mask;
}

/* Four products of unsigned and signed bytes, added to each lane; nothing saturates. */
EMULATED __m512i _mm512_dpbusd_epi32(__m512i sum, __m512i x, __m512i y) {
    EACH {
        uint8_t a[4];
        int8_t b[4];
        memcpy(a, &x.lane[i], 4);
        memcpy(b, &y.lane[i], 4);
        for (int j = 0; j < 4; j++) sum.lane[i] += a[j] * b[j];
    }
    return sum;
}

EMULATED float _mm512_reduce_add_ps(__m512 x) {
    for (int half = 8; half; half /= 2)
        for (int i = 0; i < half; i++) x.lane[i] += x.lane[i + half];
    return x.lane[0];
}
EMULATED float _mm512_reduce_max_ps(__m512 x) {
    for (int half = 8; half; half /= 2)
        for (int i = 0; i < half; i++) x.lane[i] = x.lane[i] > x.lane[i + half] ? x.lane[i] : x.lane[i + half];
    return x.lane[0];
}
EMULATED int32_t _mm512_reduce_max_epi32(__m512i x) {
    for (int i = 1; i < 16; i++) x.lane[0] = x.lane[i] > x.lane[0] ? x.lane[i] : x.lane[0];
    return x.lane[0];
}

EMULATED __m128 _mm_set1_ps(float value) { return (__m128){{value, value, value, value}}; }
EMULATED __m128 _mm_loadu_ps(const float *at) { return (__m128){{at[0], at[1], at[2], at[3]}}; }
EMULATED void _mm_storeu_ps(float *at, __m128 x) { memcpy(at, x.lane, sizeof x); }
EMULATED __m128 _mm_mul_ps(__m128 x, __m128 y) {
    for (int i = 0; i < 4; i++) x.lane[i] *= y.lane[i];
    return x;
}
#define _MM_TRANSPOSE4_PS(a, b, c, d)                                       \
    do {                                                                    \
        __m128 row_[4] = {a, b, c, d}, *out_[4] = {&a, &b, &c, &d};         \
        for (int i_ = 0; i_ < 4; i_++)                                      \
            for (int j_ = 0; j_ < 4; j_++) out_[i_]->lane[j_] = row_[j_].lane[i_]; \
    } while (0)

#undef EACH
#undef IN
#endif
