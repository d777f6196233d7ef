/* Kernels for encoders on x86-64 with AVX-512 and VNNI. Matrices are row-major; `ld` counts elements between rows. */
#ifndef EDGEFT_KERNELS_H
#define EDGEFT_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "platform.h"

#ifdef HAS_KERNELS
#include <immintrin.h>

#ifndef KERNEL /* empty where plain C stands for the instructions: tests/runtime/emulated */
#define KERNEL __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")))
#endif
#define INLINE static inline __attribute__((always_inline)) KERNEL

/* Accumulators have to be variables of their own: in arrays the compiler keeps them in memory. */
#define ROWS_1(X) X(0)
#define ROWS_2(X) ROWS_1(X) X(1)
#define ROWS_3(X) ROWS_2(X) X(2)
#define ROWS_4(X) ROWS_3(X) X(3)
#define ROWS_5(X) ROWS_4(X) X(4)
#define ROWS_6(X) ROWS_5(X) X(5)
#define ROWS_7(X) ROWS_6(X) X(6)
#define ROWS_8(X) ROWS_7(X) X(7)
#define ROWS 8 /* of a block */
#define ROUND_UP(value, to) (((value) + (to)-1) / (to) * (to))

enum { PANEL = 48, LANES = 16 }; /* columns in a panel of packed weights; floats in a register */

/* The first `count` lanes of a register. */
INLINE __mmask16 lanes_below(size_t count) { return count >= LANES ? 0xffff : (__mmask16)((1u << count) - 1); }

/* int8 weights (K, N) as the products read them: panels of 48 columns, in each 4 rows side by side.
 *
 * scale (N): of a column. column_sum (N): of a column's int8 values, times its scale. bias (N).
 */
typedef struct {
    size_t k, n, panels;
    int8_t *data;
    float *scale, *column_sum, *bias;
} packed_weights;

/* Zero where memory is short. */
int pack_weights(packed_weights *out, const int8_t *w, const float *scale, const float *bias, size_t k, size_t n);
void free_weights(packed_weights *w);

/* Rows to uint8, each with a scale of its own; q (rows, k rounded up to 4), the rest filled with zeros.
 *
 * x (rows, k); smooth (k). With v = x * smooth: scale = max |v| / 127, q = v / scale + 128, offset = -128 scale.
 * A row with a number that isn't finite gets a scale that isn't either, and so does all that is computed from it.
 */
void quantize_rows(const float *x, const float *smooth, uint8_t *q, float *scale, float *offset, size_t rows, size_t k);

/* The same with v = (gelu(x) + 0.17) * smooth, which is never below 0: scale = max v / 255, q = v / scale, offset = 0.
 *
 * row (k rounded up to 16): scratch.
 */
void quantize_gelu_rows(const float *x, const float *smooth, uint8_t *q, float *scale, float *offset, size_t rows,
                        size_t k, float *row);

/* y = (scale * q + offset) * w + bias for the panels [first, last). y (rows, n). */
void multiply_panels(const uint8_t *q, const float *scale, const float *offset, size_t rows, const packed_weights *w,
                     float *y, size_t first, size_t last);

/* y = (y + residual), normalised over n, times gamma plus beta. All (rows, n). */
void add_norm(float *y, const float *residual, const float *gamma, const float *beta, float epsilon, size_t n,
              size_t rows);

/* Bytes of scratch that `attend` needs. */
size_t attend_scratch(size_t tokens, size_t head_size);

/* One head of one text: softmax(q k^T scale) v, over the tokens whose mask isn't 0.
 *
 * q, k, v, out: (tokens, head_size) with rows `ld` (and `ld_out`) apart; mask (tokens).
 */
void attend(const float *q, const float *k, const float *v, size_t ld, const int64_t *mask, float *out, size_t ld_out,
            size_t tokens, size_t head_size, float scale, void *scratch);

#endif
#endif
