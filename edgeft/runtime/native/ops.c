/* The kernels as operators of onnxruntime: domain `edgeft`. What each computes stands in
 * edgeft/export/onnx/operators.py, which gives every one a body of standard operators too. */
#include "kernels.h"

#ifdef HAS_KERNELS
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ort_abi.h"

#define TRY(call)                            \
    do {                                     \
        OrtStatus *status_ = (call);         \
        if (status_) return status_;         \
    } while (0)
#define MAX_RANK 8
#define MAX_K 65793 /* 255 * 128 of each, summed up in int32 */
#define MAX_HEADS 65536
#define ROW_CHUNK 16  /* rows that one thread takes at a time */
#define ROW_BLOCK 128 /* rows whose activations stay in the second cache while all weights pass by */

typedef struct {
    const OrtApi *api;
    packed_weights weights;
    int gelu;
    float epsilon;
} linear;

typedef struct {
    const OrtApi *api;
    int64_t heads;
    float scale;
} attention;

typedef struct {
    void *data;
    int64_t shape[MAX_RANK];
    size_t rank, count;
} tensor;

static OrtStatus *read_tensor(const OrtApi *api, const OrtValue *value, tensor *out) {
    OrtShapeInfo *info;
    TRY(tensor_data((OrtValue *)value, &out->data));
    TRY(tensor_shape(value, &info));
    OrtStatus *status = dimension_count(info, &out->rank);
    if (!status && (out->rank < 1 || out->rank > MAX_RANK))
        status = create_status(ORT_INVALID_ARGUMENT, "edgeft: a tensor has to have 1 to 8 axes");
    if (!status) status = dimensions(info, out->shape, out->rank);
    release_shape(info);
    out->count = 1;
    for (size_t i = 0; !status && i < out->rank; i++) out->count *= (size_t)out->shape[i];
    return status;
}

static OrtStatus *read_input(const OrtApi *api, OrtKernelContext *context, size_t index, tensor *out) {
    const OrtValue *value;
    TRY(get_input(context, index, &value));
    if (!value) {
        *out = (tensor){0};
        return NULL;
    }
    return read_tensor(api, value, out);
}

static OrtStatus *read_constant(const OrtApi *api, const OrtKernelInfo *info, size_t index, tensor *out) {
    const OrtValue *value = NULL;
    int constant = 0;
    TRY(constant_input(info, index, &constant, &value));
    if (!constant || !value) return create_status(ORT_INVALID_ARGUMENT, "edgeft: weights have to be constant");
    return read_tensor(api, value, out);
}

/* -------------------------------------------------------------------------------------------------------- shapes */

/* (2, 3, 8) */
static void write_shape(const tensor *t, char *out, size_t room) {
    size_t at = (size_t)snprintf(out, room, "(");
    for (size_t i = 0; i < t->rank && at < room; i++)
        at += (size_t)snprintf(out + at, room - at, "%s%lld", i ? ", " : "", (long long)t->shape[i]);
    if (at < room) snprintf(out + at, room - at, t->rank ? ")" : "absent)");
}

/* NULL where both shapes are the same, axis by axis; `why` begins the line that says which input it is. */
static OrtStatus *check_shape(const OrtApi *api, const char *why, const char *name, const tensor *is, const tensor *wanted) {
    size_t same = is->rank == wanted->rank;
    for (size_t i = 0; same && i < is->rank; i++) same = is->shape[i] == wanted->shape[i];
    if (same) return NULL;
    char line[512], left[200], right[200];
    write_shape(is, left, sizeof left);
    write_shape(wanted, right, sizeof right);
    snprintf(line, sizeof line, "edgeft: %s: %s is %s, expected %s", why, name, left, right);
    return create_status(ORT_INVALID_ARGUMENT, line);
}

static OrtStatus *check_vector(const OrtApi *api, const char *why, const char *name, const tensor *is, size_t count) {
    tensor wanted = {.shape = {(int64_t)count}, .rank = 1};
    return check_shape(api, why, name, is, &wanted);
}

/* -------------------------------------------------------------------------------------------------------- linear */

static void destroy_linear(void *kernel) {
    free_weights(&((linear *)kernel)->weights);
    free(kernel);
}

static OrtStatus *create_linear(const OrtApi *api, const OrtKernelInfo *info, int gelu, int norm, void **out) {
    tensor w, scale, bias;
    TRY(read_constant(api, info, 1, &w));
    TRY(read_constant(api, info, 2, &scale));
    TRY(read_constant(api, info, 3, &bias));
    static const char why[] = "weight (K, N), scale (N) and bias (N) don't fit";
    if (w.rank != 2 || w.shape[0] < 1 || w.shape[0] > MAX_K || w.shape[1] < 1)
        return create_status(ORT_INVALID_ARGUMENT, "edgeft: a weight has to be (K, N), K from 1 to 65793, N from 1 on");
    TRY(check_vector(api, why, "scale", &scale, (size_t)w.shape[1]));
    TRY(check_vector(api, why, "bias", &bias, (size_t)w.shape[1]));
    linear *kernel = calloc(1, sizeof *kernel);
    if (!kernel || !pack_weights(&kernel->weights, w.data, scale.data, bias.data, (size_t)w.shape[0], (size_t)w.shape[1])) {
        free(kernel);
        return create_status(ORT_FAIL, "edgeft: no memory for the weights");
    }
    kernel->api = api;
    kernel->gelu = gelu;
    OrtStatus *status = norm ? attribute_float(info, "epsilon", &kernel->epsilon) : NULL;
    if (status)
        destroy_linear(kernel); /* the runtime destroys only what was created in full */
    else
        *out = kernel;
    return status;
}

#define CREATOR(name, gelu, norm)                                                                                \
    static OrtStatus *name(const OrtCustomOp *op, const OrtApi *api, const OrtKernelInfo *info, void **out) {    \
        (void)op;                                                                                                \
        return create_linear(api, info, gelu, norm, out);                                                        \
    }
CREATOR(create_plain, 0, 0)
CREATOR(create_gelu, 1, 0)
CREATOR(create_norm, 0, 1)
CREATOR(create_gelu_norm, 1, 1)

typedef struct {
    const linear *kernel;
    const float *x, *smooth, *residual, *gamma, *beta;
    uint8_t *q;
    float *scale, *offset, *rows_of_gelu, *y;
    size_t rows, deep;
} linear_job;

static size_t chunk_rows(const linear_job *job, size_t first) {
    return job->rows - first < ROW_CHUNK ? job->rows - first : ROW_CHUNK;
}

static void quantize_chunk(void *data, size_t chunk) {
    const linear_job *job = data;
    size_t first = chunk * ROW_CHUNK, k = job->kernel->weights.k;
    const float *x = job->x + first * k;
    uint8_t *q = job->q + first * job->deep;
    float *scale = job->scale + first, *offset = job->offset + first;
    if (job->kernel->gelu)
        quantize_gelu_rows(x, job->smooth, q, scale, offset, chunk_rows(job, first), k,
                           job->rows_of_gelu + chunk * ROUND_UP(k, LANES));
    else
        quantize_rows(x, job->smooth, q, scale, offset, chunk_rows(job, first), k);
}

static void multiply_panel(void *data, size_t panel) {
    const linear_job *job = data;
    multiply_panels(job->q, job->scale, job->offset, job->rows, &job->kernel->weights, job->y, panel, panel + 1);
}

static void norm_chunk(void *data, size_t chunk) {
    const linear_job *job = data;
    size_t first = chunk * ROW_CHUNK, n = job->kernel->weights.n;
    add_norm(job->y + first * n, job->residual + first * n, job->gamma, job->beta, job->kernel->epsilon, n,
             chunk_rows(job, first));
}

static OrtStatus *run_block(linear_job *job, const OrtApi *api, OrtKernelContext *context) {
    size_t chunks = (job->rows + ROW_CHUNK - 1) / ROW_CHUNK;
    TRY(parallel_for(context, quantize_chunk, chunks, 0, job));
    TRY(parallel_for(context, multiply_panel, job->kernel->weights.panels, 0, job));
    return job->residual ? parallel_for(context, norm_chunk, chunks, 0, job) : NULL;
}

/* A block of rows from beginning to end, by one thread. */
static void whole_block(void *data, size_t index) {
    const linear_job *whole = data;
    const packed_weights *w = &whole->kernel->weights;
    size_t first = index * ROW_BLOCK;
    linear_job job = *whole;
    job.rows = whole->rows - first < ROW_BLOCK ? whole->rows - first : ROW_BLOCK;
    job.x += first * w->k;
    job.y += first * w->n;
    if (job.residual) job.residual += first * w->n;
    job.q += first * job.deep;
    job.scale += first;
    job.offset += first;
    job.rows_of_gelu += first / ROW_CHUNK * ROUND_UP(w->k, LANES);
    for (size_t chunk = 0; chunk * ROW_CHUNK < job.rows; chunk++) quantize_chunk(&job, chunk);
    for (size_t panel = 0; panel < w->panels; panel++) multiply_panel(&job, panel);
    for (size_t chunk = 0; job.residual && chunk * ROW_CHUNK < job.rows; chunk++) norm_chunk(&job, chunk);
}

static OrtStatus *run_linear(linear_job *job, OrtKernelContext *context) {
    const OrtApi *api = job->kernel->api;
    if (job->rows <= ROW_BLOCK) return run_block(job, api, context);
    return parallel_for(context, whole_block, (job->rows + ROW_BLOCK - 1) / ROW_BLOCK, 0, job);
}

/* y: the shape of what comes out. */
static OrtStatus *read_norm(const OrtApi *api, OrtKernelContext *context, const tensor *y, linear_job *job) {
    static const char why[] = "residual, gamma and beta don't fit the weight";
    tensor residual, gamma, beta;
    size_t n = job->kernel->weights.n;
    TRY(read_input(api, context, 5, &residual));
    TRY(read_input(api, context, 6, &gamma));
    TRY(read_input(api, context, 7, &beta));
    TRY(check_shape(api, why, "residual", &residual, y));
    TRY(check_vector(api, why, "gamma", &gamma, n));
    TRY(check_vector(api, why, "beta", &beta, n));
    job->residual = residual.data;
    job->gamma = gamma.data;
    job->beta = beta.data;
    return NULL;
}

static OrtStatus *compute_linear(void *data, OrtKernelContext *context) {
    const linear *kernel = data;
    const OrtApi *api = kernel->api;
    size_t k = kernel->weights.k, deep = ROUND_UP(k, 4), inputs;
    tensor x, smooth;
    OrtValue *output;
    TRY(read_input(api, context, 0, &x));
    TRY(read_input(api, context, 4, &smooth));
    static const char why[] = "the last axis of x, and smooth, have to fit the weight";
    tensor last = {.rank = 1};
    if (x.rank) last.shape[0] = x.shape[x.rank - 1];
    TRY(check_vector(api, why, "the last axis of x", &last, k));
    TRY(check_vector(api, why, "smooth", &smooth, k));
    linear_job job = {.kernel = kernel, .x = x.data, .smooth = smooth.data, .rows = x.count / k, .deep = deep};
    x.shape[x.rank - 1] = (int64_t)kernel->weights.n;
    TRY(get_output(context, 0, x.shape, x.rank, &output));
    TRY(tensor_data(output, (void **)&job.y));
    TRY(input_count(context, &inputs));
    if (inputs > 5) TRY(read_norm(api, context, &x, &job));
    size_t gelu_floats = kernel->gelu ? ROUND_UP(k, LANES) * ((job.rows + ROW_CHUNK - 1) / ROW_CHUNK) : 0;
    job.scale = malloc((2 * job.rows + gelu_floats) * sizeof(float) + job.rows * deep + 1);
    if (!job.scale) return create_status(ORT_FAIL, "edgeft: no memory for the activations");
    job.offset = job.scale + job.rows;
    job.rows_of_gelu = job.offset + job.rows;
    job.q = (uint8_t *)(job.rows_of_gelu + gelu_floats);
    OrtStatus *status = run_linear(&job, context);
    free(job.scale);
    return status;
}

/* ----------------------------------------------------------------------------------------------------- attention */

static OrtStatus *create_attention(const OrtCustomOp *op, const OrtApi *api, const OrtKernelInfo *info, void **out) {
    (void)op;
    attention *kernel = calloc(1, sizeof *kernel);
    if (!kernel) return create_status(ORT_FAIL, "edgeft: no memory");
    kernel->api = api;
    OrtStatus *status = attribute_int(info, "num_heads", &kernel->heads);
    if (!status) status = attribute_float(info, "scale", &kernel->scale);
    if (!status && (kernel->heads < 1 || kernel->heads > MAX_HEADS))
        status = create_status(ORT_INVALID_ARGUMENT, "edgeft: num_heads has to be 1 to 65536");
    if (status)
        free(kernel);
    else
        *out = kernel;
    return status;
}

typedef struct {
    const attention *kernel;
    const float *qkv;
    const int64_t *mask;
    float *out;
    size_t tokens, width, head_size;
    _Atomic int failed;
} attention_job;

static void attend_head(void *data, size_t index) {
    attention_job *job = data;
    size_t heads = (size_t)job->kernel->heads, text = index / heads, head = index % heads, ld = 3 * job->width;
    const float *q = job->qkv + text * job->tokens * ld + head * job->head_size;
    void *scratch = malloc(attend_scratch(job->tokens, job->head_size) + 1);
    if (!scratch) {
        job->failed = 1;
        return;
    }
    attend(q, q + job->width, q + 2 * job->width, ld, job->mask + text * job->tokens,
           job->out + text * job->tokens * job->width + head * job->head_size, job->width, job->tokens, job->head_size,
           job->kernel->scale, scratch);
    free(scratch);
}

static OrtStatus *compute_attention(void *data, OrtKernelContext *context) {
    const attention *kernel = data;
    const OrtApi *api = kernel->api;
    tensor x, mask;
    OrtValue *output;
    TRY(read_input(api, context, 0, &x));
    TRY(read_input(api, context, 1, &mask));
    if (x.rank != 3 || x.shape[2] % (3 * kernel->heads))
        return create_status(ORT_INVALID_ARGUMENT, "edgeft: Attention wants (batch, tokens, 3 * heads * head size)");
    tensor batch = {.shape = {x.shape[0], x.shape[1]}, .rank = 2};
    TRY(check_shape(api, "the mask has to be (batch, tokens)", "mask", &mask, &batch));
    size_t texts = (size_t)x.shape[0], width = (size_t)x.shape[2] / 3;
    attention_job job = {.kernel = kernel, .qkv = x.data, .mask = mask.data, .tokens = (size_t)x.shape[1],
                         .width = width, .head_size = width / (size_t)kernel->heads};
    x.shape[2] = (int64_t)width;
    TRY(get_output(context, 0, x.shape, 3, &output));
    TRY(tensor_data(output, (void **)&job.out));
    TRY(parallel_for(context, attend_head, texts * (size_t)kernel->heads, 0, &job));
    return job.failed ? create_status(ORT_FAIL, "edgeft: no memory for attention") : NULL;
}

/* ------------------------------------------------------------------------------------------------------ operators */

typedef struct {
    OrtCustomOp op;
    const char *name;
    size_t inputs;
} operator;

static const char *name_of(const OrtCustomOp *op) { return ((const operator*)op)->name; }
static size_t inputs_of(const OrtCustomOp *op) { return ((const operator*)op)->inputs; }
static const char *cpu(const OrtCustomOp *op) { return (void)op, "CPUExecutionProvider"; }
static size_t one_output(const OrtCustomOp *op) { return (void)op, 1; }
static int float_output(const OrtCustomOp *op, size_t index) { return (void)op, (void)index, ELEMENT_FLOAT; }
static int required(const OrtCustomOp *op, size_t index) { return (void)op, (void)index, REQUIRED; }
static int default_memory(const OrtCustomOp *op, size_t index) { return (void)op, (void)index, 0; }
static int first_version(const OrtCustomOp *op) { return (void)op, 1; }
static int last_version(const OrtCustomOp *op) { return (void)op, INT32_MAX; }
static void no_kernel(void *kernel, OrtKernelContext *context) { (void)kernel, (void)context; }

static int linear_input(const OrtCustomOp *op, size_t index) {
    return (void)op, index == 1 ? ELEMENT_INT8 : ELEMENT_FLOAT;
}
static int attention_input(const OrtCustomOp *op, size_t index) {
    return (void)op, index == 1 ? ELEMENT_INT64 : ELEMENT_FLOAT;
}

#define OPERATOR(named, count, creator, computer, destroyer, types)                                  \
    {                                                                                                                \
        .op = {.version = ORT_API_VERSION, .name = name_of, .provider = cpu, .input_type = types, .inputs = inputs_of, \
               .output_type = float_output, .outputs = one_output, .compute_v1 = no_kernel, .destroy = destroyer,    \
               .input_characteristic = required, .output_characteristic = required,                            \
               .input_memory = default_memory, .create = creator, .compute = computer,                               \
               .start_version = first_version, .end_version = last_version},                                         \
        .name = named, .inputs = count                                                                               \
    }

static operator operators[] = {
    OPERATOR("Linear", 5, create_plain, compute_linear, destroy_linear, linear_input),
    OPERATOR("GeluLinear", 5, create_gelu, compute_linear, destroy_linear, linear_input),
    OPERATOR("LinearNorm", 8, create_norm, compute_linear, destroy_linear, linear_input),
    OPERATOR("GeluLinearNorm", 8, create_gelu_norm, compute_linear, destroy_linear, linear_input),
    OPERATOR("Attention", 2, create_attention, compute_attention, free, attention_input),
};

EXPORT OrtStatus *RegisterCustomOps(OrtSessionOptions *options, const OrtApiBase *base) {
    const OrtApi *api = base->get_api(ORT_API_VERSION);
    static _Atomic(OrtCustomOpDomain *) shared; /* onnxruntime only borrows it, so one serves every session */
    OrtCustomOpDomain *domain = shared;
    if (!api) return NULL; /* an onnxruntime that is too old takes the operators' bodies */
    if (!edgeft_supported()) return create_status(ORT_FAIL, "edgeft: this processor lacks AVX-512 VNNI");
    if (!domain) {
        TRY(create_domain("edgeft", &domain));
        for (size_t i = 0; i < sizeof operators / sizeof *operators; i++) TRY(add_op(domain, &operators[i].op));
        shared = domain;
    }
    return add_domain(options, domain);
}
#endif
