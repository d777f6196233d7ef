#include "kernels.h"

#ifdef HAS_KERNELS
#include <math.h>
#include <string.h>

#define HIDDEN -1e30f
#define STEP (2 * LANES) /* tokens, or floats of a head, of a block */

/* exp(x) for x <= 0: 2^n 2^f, 2^f by its Taylor series on [-1/2, 1/2]; largest relative error 2e-7. */
INLINE __m512 exp_ps(__m512 x) {
    __m512 y = _mm512_mul_ps(_mm512_max_ps(_mm512_set1_ps(-87), x), _mm512_set1_ps(1.44269504f));
    __m512 whole = _mm512_roundscale_ps(y, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 f = _mm512_sub_ps(y, whole);
    __m512 sum = _mm512_set1_ps(1.540353e-4f);
    sum = _mm512_fmadd_ps(sum, f, _mm512_set1_ps(1.3333558e-3f));
    sum = _mm512_fmadd_ps(sum, f, _mm512_set1_ps(9.6181291e-3f));
    sum = _mm512_fmadd_ps(sum, f, _mm512_set1_ps(5.5504109e-2f));
    sum = _mm512_fmadd_ps(sum, f, _mm512_set1_ps(2.4022651e-1f));
    sum = _mm512_fmadd_ps(sum, f, _mm512_set1_ps(6.9314718e-1f));
    sum = _mm512_fmadd_ps(sum, f, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(sum, whole);
}

size_t attend_scratch(size_t tokens, size_t head_size) {
    return (head_size + 1 + ROWS) * ROUND_UP(tokens, STEP) * sizeof(float);
}

/* keys (head_size, wide) = scale * k^T, k (tokens, head_size). */
KERNEL static void transpose_keys(const float *k, size_t ld, size_t tokens, size_t head_size, float scale, float *keys,
                                  size_t wide) {
    const __m128 factor = _mm_set1_ps(scale);
    memset(keys, 0, head_size * wide * sizeof(float));
    for (size_t t = 0; t < tokens; t += 4)
        for (size_t d = 0; d < head_size; d += 4) {
            if (tokens - t < 4 || head_size - d < 4) {
                for (size_t i = t; i < tokens && i < t + 4; i++)
                    for (size_t j = d; j < head_size && j < d + 4; j++) keys[j * wide + i] = scale * k[i * ld + j];
                continue;
            }
            const float *from = k + t * ld + d;
            __m128 a = _mm_mul_ps(factor, _mm_loadu_ps(from)), b = _mm_mul_ps(factor, _mm_loadu_ps(from + ld)),
                   c = _mm_mul_ps(factor, _mm_loadu_ps(from + 2 * ld)), e = _mm_mul_ps(factor, _mm_loadu_ps(from + 3 * ld));
            _MM_TRANSPOSE4_PS(a, b, c, e);
            float *to = keys + d * wide + t;
            _mm_storeu_ps(to, a);
            _mm_storeu_ps(to + wide, b);
            _mm_storeu_ps(to + 2 * wide, c);
            _mm_storeu_ps(to + 3 * wide, e);
        }
}

typedef struct {
    const float *q, *v;
    size_t ld;
    const float *keys, *bias;
    size_t wide, tokens, head_size;
    float *scores, *out;
    size_t ld_out;
} job;

#define FROM_BIAS(r) __m512 sum##r##0 = bias0, sum##r##1 = bias1;
#define FROM_ZERO(r) __m512 sum##r##0 = _mm512_setzero_ps(), sum##r##1 = sum##r##0;
#define ADD(r, factor, x0, x1)                                \
    {                                                         \
        __m512 a = _mm512_set1_ps(factor);                    \
        sum##r##0 = _mm512_fmadd_ps(a, x0, sum##r##0);        \
        sum##r##1 = _mm512_fmadd_ps(a, x1, sum##r##1);        \
    }
#define ADD_KEY(r) ADD(r, q[r * ld + d], k0, k1)
#define ADD_VALUE(r) ADD(r, weights[r * wide + t], v0, v1)
#define STORE_SCORE(r)                                                 \
    _mm512_storeu_ps(j->scores + r * wide + at, sum##r##0);            \
    _mm512_storeu_ps(j->scores + r * wide + at + LANES, sum##r##1);
#define STORE_OUT(r)                                                                                       \
    {                                                                                                      \
        __m512 a = _mm512_set1_ps(norm[r]);                                                                \
        _mm512_mask_storeu_ps(j->out + r * j->ld_out + at, in0, _mm512_mul_ps(a, sum##r##0));              \
        _mm512_mask_storeu_ps(j->out + r * j->ld_out + at + LANES, in1, _mm512_mul_ps(a, sum##r##1));      \
    }

/* exp(score - max) in place; returns the reciprocal of their sum. */
INLINE float softmax_row(float *scores, size_t wide) {
    __m512 most = _mm512_loadu_ps(scores), total = _mm512_setzero_ps();
    for (size_t i = LANES; i < wide; i += LANES) most = _mm512_max_ps(_mm512_loadu_ps(scores + i), most);
    __m512 top = _mm512_set1_ps(_mm512_reduce_max_ps(most));
    for (size_t i = 0; i < wide; i += LANES) {
        __m512 value = exp_ps(_mm512_sub_ps(_mm512_loadu_ps(scores + i), top));
        total = _mm512_add_ps(total, value);
        _mm512_storeu_ps(scores + i, value);
    }
    return 1 / _mm512_reduce_add_ps(total);
}

/* n queries: scores (n, wide), softmax, out (n, head_size). */
#define DEFINE_BLOCK(n)                                                                                       \
    KERNEL static void score_##n(const job *j) {                                                              \
        const float *q = j->q;                                                                                \
        size_t ld = j->ld, wide = j->wide;                                                                    \
        for (size_t at = 0; at < wide; at += STEP) {                                                          \
            const __m512 bias0 = _mm512_loadu_ps(j->bias + at), bias1 = _mm512_loadu_ps(j->bias + at + LANES); \
            const float *key = j->keys + at;                                                                  \
            ROWS_##n(FROM_BIAS) for (size_t d = 0; d < j->head_size; d++, key += wide) {                      \
                __m512 k0 = _mm512_loadu_ps(key), k1 = _mm512_loadu_ps(key + LANES);                          \
                ROWS_##n(ADD_KEY)                                                                             \
            }                                                                                                 \
            ROWS_##n(STORE_SCORE)                                                                             \
        }                                                                                                     \
    }                                                                                                         \
    KERNEL static void mix_##n(const job *j, const float *norm) {                                             \
        const float *weights = j->scores;                                                                     \
        size_t wide = j->wide;                                                                                \
        for (size_t at = 0; at < j->head_size; at += STEP) {                                                  \
            const __mmask16 in0 = lanes_below(j->head_size - at),                                             \
                            in1 = j->head_size > at + LANES ? lanes_below(j->head_size - at - LANES) : 0;     \
            const float *value = j->v + at;                                                                   \
            ROWS_##n(FROM_ZERO) for (size_t t = 0; t < j->tokens; t++, value += j->ld) {                      \
                __m512 v0 = _mm512_maskz_loadu_ps(in0, value), v1 = _mm512_maskz_loadu_ps(in1, value + LANES); \
                ROWS_##n(ADD_VALUE)                                                                           \
            }                                                                                                 \
            ROWS_##n(STORE_OUT)                                                                               \
        }                                                                                                     \
    }                                                                                                         \
    KERNEL static void attend_##n(const job *j) {                                                             \
        float norm[n];                                                                                        \
        score_##n(j);                                                                                         \
        for (int row = 0; row < n; row++) norm[row] = softmax_row(j->scores + row * j->wide, j->wide);        \
        mix_##n(j, norm);                                                                                     \
    }

DEFINE_BLOCK(1)
DEFINE_BLOCK(2)
DEFINE_BLOCK(3)
DEFINE_BLOCK(4)
DEFINE_BLOCK(5)
DEFINE_BLOCK(6)
DEFINE_BLOCK(7)
DEFINE_BLOCK(8)

KERNEL void attend(const float *q, const float *k, const float *v, size_t ld, const int64_t *mask, float *out,
                   size_t ld_out, size_t tokens, size_t head_size, float scale, void *scratch) {
    static void (*const blocks[])(const job *) = {
        NULL, attend_1, attend_2, attend_3, attend_4, attend_5, attend_6, attend_7, attend_8,
    };
    size_t wide = ROUND_UP(tokens, STEP);
    float *keys = scratch, *bias = keys + head_size * wide, *scores = bias + wide;
    transpose_keys(k, ld, tokens, head_size, scale, keys, wide);
    for (size_t t = 0; t < wide; t++) bias[t] = t >= tokens ? -INFINITY : mask[t] > 0 ? 0 : HIDDEN;
    for (size_t row = 0; row < tokens; row += ROWS) {
        job j = {q + row * ld, v, ld, keys, bias, wide, tokens, head_size, scores, out + row * ld_out, ld_out};
        blocks[tokens - row < ROWS ? tokens - row : ROWS](&j);
    }
}
#endif
