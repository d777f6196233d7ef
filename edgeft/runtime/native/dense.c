#include "kernels.h"

#ifdef HAS_KERNELS
#include <math.h>
#include <stdlib.h>
#include <string.h>

#ifdef _WIN32
#include <malloc.h>
static void *aligned(size_t bytes) { return _aligned_malloc(ROUND_UP(bytes, 64), 64); }
static void free_aligned(void *memory) { _aligned_free(memory); }
#else
static void *aligned(size_t bytes) { return aligned_alloc(64, ROUND_UP(bytes, 64)); }
static void free_aligned(void *memory) { free(memory); }
#endif

int pack_weights(packed_weights *out, const int8_t *w, const float *scale, const float *bias, size_t k, size_t n) {
    size_t deep = ROUND_UP(k, 4), panels = (n + PANEL - 1) / PANEL, wide = panels * PANEL;
    *out = (packed_weights){.k = k, .n = n, .panels = panels};
    out->data = aligned(wide * deep);
    out->scale = aligned(3 * wide * sizeof(float));
    if (!out->data || !out->scale) {
        free_weights(out);
        return 0;
    }
    memset(out->data, 0, wide * deep);
    memset(out->scale, 0, 3 * wide * sizeof(float));
    out->column_sum = out->scale + wide;
    out->bias = out->column_sum + wide;
    for (size_t column = 0; column < n; column++) {
        int8_t *panel = out->data + column / PANEL * PANEL * deep + column % PANEL * 4;
        int32_t sum = 0;
        for (size_t row = 0; row < k; row++) {
            int8_t value = w[row * n + column];
            panel[row / 4 * PANEL * 4 + row % 4] = value;
            sum += value;
        }
        out->scale[column] = scale[column];
        out->column_sum[column] = scale[column] * (float)sum;
        out->bias[column] = bias[column];
    }
    return 1;
}

void free_weights(packed_weights *w) {
    free_aligned(w->data);
    free_aligned(w->scale);
    *w = (packed_weights){0};
}

/* --------------------------------------------------------------------------------- quantization of activations */

/* erf(x) = x P(x^2) for |x| <= 3.85, from which on it is 1 to single precision; P fitted at Chebyshev nodes, written in
 * u = 2 x^2 / 3.85^2 - 1; largest error 7e-7. */
INLINE __m512 erf_ps(__m512 x) {
    static const float p[] = {
        0.367284992f, -0.183301984f, 0.136194799f, -0.110367126f, 0.0910831906f, -0.0733808686f,
        0.0548434713f, -0.0401574263f, 0.0327327058f, -0.0206484424f, 0.00470630777f, -0.00301544033f,
        0.00721404128f, -0.00344812999f,
    };
    const __m512 limit = _mm512_set1_ps(3.85f);
    x = _mm512_max_ps(_mm512_min_ps(x, limit), _mm512_sub_ps(_mm512_setzero_ps(), limit));
    __m512 u = _mm512_fmsub_ps(_mm512_mul_ps(x, x), _mm512_set1_ps(2 / (3.85f * 3.85f)), _mm512_set1_ps(1));
    __m512 sum = _mm512_set1_ps(p[13]);
#pragma GCC unroll 13
    for (int i = 12; i >= 0; i--) sum = _mm512_fmadd_ps(sum, u, _mm512_set1_ps(p[i]));
    return _mm512_mul_ps(sum, x);
}

INLINE __m512 gelu_ps(__m512 x) {
    x = _mm512_max_ps(_mm512_set1_ps(-5.5f), x); /* further out erf's error would be multiplied by x */
    __m512 half = _mm512_mul_ps(x, _mm512_set1_ps(0.5f));
    return _mm512_fmadd_ps(half, erf_ps(_mm512_mul_ps(x, _mm512_set1_ps(0.70710678f))), half);
}

#define SMALLEST 1e-20f
#define GELU_FLOOR 0.17f    /* GELU is never below -0.16998 */
#define NOT_FINITE 0x99     /* quiet and signalling NaN, both infinities */

/* The largest of floats without a sign. As integers they have the same order, with NaN above all: `max` of floats loses
 * it. */
INLINE float largest(__m512i bits) {
    int32_t most = _mm512_reduce_max_epi32(bits);
    float value;
    memcpy(&value, &most, sizeof value);
    return value;
}

INLINE void write_row(uint8_t *q, __m512 value, __m512 inverse, __m512i zero, __mmask16 in) {
    __m512i rounded = _mm512_add_epi32(_mm512_cvtps_epi32(_mm512_mul_ps(value, inverse)), zero);
    _mm512_mask_cvtusepi32_storeu_epi8(q, in, _mm512_max_epi32(rounded, _mm512_setzero_si512()));
}

KERNEL void quantize_rows(const float *x, const float *smooth, uint8_t *q, float *scale, float *offset, size_t rows,
                          size_t k) {
    size_t deep = ROUND_UP(k, 4);
    for (size_t row = 0; row < rows; row++, x += k, q += deep) {
        __m512i most = _mm512_castps_si512(_mm512_set1_ps(SMALLEST));
        for (size_t i = 0; i < k; i += LANES) {
            __mmask16 in = lanes_below(k - i);
            __m512 value = _mm512_mul_ps(_mm512_maskz_loadu_ps(in, x + i), _mm512_maskz_loadu_ps(in, smooth + i));
            most = _mm512_max_epi32(_mm512_castps_si512(_mm512_abs_ps(value)), most);
        }
        float top = largest(most);
        scale[row] = top * (1 / 127.0f);
        offset[row] = -128 * scale[row];
        __m512 inverse = _mm512_set1_ps(127 / top);
        for (size_t i = 0; i < k; i += LANES) {
            __mmask16 in = lanes_below(k - i);
            __m512 value = _mm512_mul_ps(_mm512_maskz_loadu_ps(in, x + i), _mm512_maskz_loadu_ps(in, smooth + i));
            write_row(q + i, value, inverse, _mm512_set1_epi32(128), in);
        }
        memset(q + k, 0, deep - k);
    }
}

KERNEL void quantize_gelu_rows(const float *x, const float *smooth, uint8_t *q, float *scale, float *offset,
                               size_t rows, size_t k, float *row) {
    size_t deep = ROUND_UP(k, 4);
    for (size_t r = 0; r < rows; r++, x += k, q += deep) {
        __m512 most = _mm512_set1_ps(SMALLEST);
        unsigned not_finite = 0; /* -infinity has a finite GELU here, and `max` loses NaN */
        for (size_t i = 0; i < k; i += LANES) {
            __mmask16 in = lanes_below(k - i);
            __m512 input = _mm512_maskz_loadu_ps(in, x + i);
            __m512 value = _mm512_add_ps(gelu_ps(input), _mm512_set1_ps(GELU_FLOOR));
            value = _mm512_mul_ps(value, _mm512_maskz_loadu_ps(in, smooth + i));
            most = _mm512_max_ps(value, most);
            not_finite |= _mm512_fpclass_ps_mask(input, NOT_FINITE);
            not_finite |= _mm512_fpclass_ps_mask(value, NOT_FINITE);
            _mm512_storeu_ps(row + i, value);
        }
        float top = not_finite ? NAN : _mm512_reduce_max_ps(most);
        scale[r] = top * (1 / 255.0f);
        offset[r] = 0;
        __m512 inverse = _mm512_set1_ps(255 / top);
        for (size_t i = 0; i < k; i += LANES)
            write_row(q + i, _mm512_loadu_ps(row + i), inverse, _mm512_setzero_si512(), lanes_below(k - i));
        memset(q + k, 0, deep - k);
    }
}

/* ------------------------------------------------------------------------------------------------------ products */

typedef struct {
    const uint8_t *q;
    size_t deep;
    const float *scale, *offset;
    const int8_t *panel;
    const packed_weights *w;
    size_t column;
    float *y;
} block;

/* Sums of products (rows, 48) to what they stand for. */
KERNEL static void finish(const block *b, int rows, const int32_t *sums) {
    for (int part = 0; part < PANEL / LANES; part++) {
        size_t at = b->column + LANES * part;
        if (at >= b->w->n) return;
        __mmask16 in = lanes_below(b->w->n - at);
        __m512 scale = _mm512_load_ps(b->w->scale + at), total = _mm512_load_ps(b->w->column_sum + at),
               bias = _mm512_load_ps(b->w->bias + at);
        for (int row = 0; row < rows; row++) {
            __m512 sum = _mm512_cvtepi32_ps(_mm512_load_si512(sums + row * PANEL + LANES * part));
            __m512 value = _mm512_fmadd_ps(total, _mm512_set1_ps(b->offset[row]), bias);
            value = _mm512_fmadd_ps(sum, _mm512_mul_ps(scale, _mm512_set1_ps(b->scale[row])), value);
            _mm512_mask_storeu_ps(b->y + row * b->w->n + at, in, value);
        }
    }
}

#define ZERO(r) __m512i sum##r##0 = zero, sum##r##1 = zero, sum##r##2 = zero;
#define STEP(r)                                                  \
    {                                                            \
        int32_t four;                                            \
        memcpy(&four, b->q + r * b->deep + k, 4);                \
        __m512i a = _mm512_set1_epi32(four);                     \
        sum##r##0 = _mm512_dpbusd_epi32(sum##r##0, a, w0);       \
        sum##r##1 = _mm512_dpbusd_epi32(sum##r##1, a, w1);       \
        sum##r##2 = _mm512_dpbusd_epi32(sum##r##2, a, w2);       \
    }
#define STORE(r)                                               \
    _mm512_store_si512(sums + r * PANEL, sum##r##0);           \
    _mm512_store_si512(sums + r * PANEL + LANES, sum##r##1);   \
    _mm512_store_si512(sums + r * PANEL + 2 * LANES, sum##r##2);

/* n rows by one panel. */
#define DEFINE_BLOCK(n)                                                                                  \
    KERNEL static void multiply_block_##n(const block *b) {                                              \
        const __m512i zero = _mm512_setzero_si512();                                                     \
        const int8_t *panel = b->panel;                                                                  \
        ROWS_##n(ZERO) for (size_t k = 0; k < b->deep; k += 4, panel += 4 * PANEL) {                     \
            __m512i w0 = _mm512_load_si512(panel), w1 = _mm512_load_si512(panel + 64),                   \
                    w2 = _mm512_load_si512(panel + 128);                                                 \
            ROWS_##n(STEP)                                                                               \
        }                                                                                                \
        _Alignas(64) int32_t sums[n * PANEL];                                                            \
        ROWS_##n(STORE) finish(b, n, sums);                                                              \
    }

DEFINE_BLOCK(1)
DEFINE_BLOCK(2)
DEFINE_BLOCK(3)
DEFINE_BLOCK(4)
DEFINE_BLOCK(5)
DEFINE_BLOCK(6)
DEFINE_BLOCK(7)
DEFINE_BLOCK(8)

KERNEL void multiply_panels(const uint8_t *q, const float *scale, const float *offset, size_t rows,
                            const packed_weights *w, float *y, size_t first, size_t last) {
    static void (*const multiply[])(const block *) = {
        NULL,
        multiply_block_1,
        multiply_block_2,
        multiply_block_3,
        multiply_block_4,
        multiply_block_5,
        multiply_block_6,
        multiply_block_7,
        multiply_block_8,
    };
    size_t deep = ROUND_UP(w->k, 4);
    for (size_t panel = first; panel < last; panel++)
        for (size_t row = 0; row < rows; row += ROWS) {
            block b = {q + row * deep, deep, scale + row, offset + row, w->data + panel * PANEL * deep, w,
                       panel * PANEL, y + row * w->n};
            multiply[rows - row < ROWS ? rows - row : ROWS](&b);
        }
}

/* ------------------------------------------------------------------------------------------------- normalisation */

KERNEL void add_norm(float *y, const float *residual, const float *gamma, const float *beta, float epsilon, size_t n,
                     size_t rows) {
    for (size_t row = 0; row < rows; row++) {
        float *out = y + row * n;
        const float *add = residual + row * n;
        __m512 total = _mm512_setzero_ps(), squares = total;
        for (size_t i = 0; i < n; i += LANES) {
            __mmask16 in = lanes_below(n - i);
            __m512 value = _mm512_add_ps(_mm512_maskz_loadu_ps(in, out + i), _mm512_maskz_loadu_ps(in, add + i));
            _mm512_mask_storeu_ps(out + i, in, value);
            total = _mm512_add_ps(total, value);
        }
        __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(total) / (float)n);
        for (size_t i = 0; i < n; i += LANES) {
            __mmask16 in = lanes_below(n - i);
            __m512 value = _mm512_maskz_sub_ps(in, _mm512_maskz_loadu_ps(in, out + i), mean);
            squares = _mm512_fmadd_ps(value, value, squares);
        }
        __m512 inverse = _mm512_set1_ps(1 / sqrtf(_mm512_reduce_add_ps(squares) / (float)n + epsilon));
        for (size_t i = 0; i < n; i += LANES) {
            __mmask16 in = lanes_below(n - i);
            __m512 value = _mm512_mul_ps(_mm512_sub_ps(_mm512_maskz_loadu_ps(in, out + i), mean), inverse);
            value = _mm512_fmadd_ps(value, _mm512_maskz_loadu_ps(in, gamma + i), _mm512_maskz_loadu_ps(in, beta + i));
            _mm512_mask_storeu_ps(out + i, in, value);
        }
    }
}
#endif
