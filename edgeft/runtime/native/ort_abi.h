/* The part of onnxruntime's C interface that custom operators need. Its table of functions only ever grows at the end, so
 * that these places hold in every release since 1.17. */
#ifndef EDGEFT_ORT_ABI_H
#define EDGEFT_ORT_ABI_H

#include <stddef.h>
#include <stdint.h>

enum { ORT_API_VERSION = 17 };
enum { ORT_FAIL = 1, ORT_INVALID_ARGUMENT = 2 };
enum { ELEMENT_FLOAT = 1, ELEMENT_INT8 = 3, ELEMENT_INT64 = 7 };
enum { REQUIRED = 0 };

typedef struct OrtStatus OrtStatus;
typedef struct OrtSessionOptions OrtSessionOptions;
typedef struct OrtCustomOpDomain OrtCustomOpDomain;
typedef struct OrtKernelInfo OrtKernelInfo;
typedef struct OrtKernelContext OrtKernelContext;
typedef struct OrtValue OrtValue;
typedef struct OrtShapeInfo OrtShapeInfo;
typedef struct OrtCustomOp OrtCustomOp;

typedef struct OrtApi {
    void *functions[1];
} OrtApi;

typedef struct OrtApiBase {
    const OrtApi *(*get_api)(uint32_t version);
    const char *(*get_version)(void);
} OrtApiBase;

/* Every member is one pointer wide; what stays NULL is what the interface allows to be. */
struct OrtCustomOp {
    uint32_t version;
    void *(*create_kernel_v1)(const OrtCustomOp *, const OrtApi *, const OrtKernelInfo *);
    const char *(*name)(const OrtCustomOp *);
    const char *(*provider)(const OrtCustomOp *);
    int (*input_type)(const OrtCustomOp *, size_t);
    size_t (*inputs)(const OrtCustomOp *);
    int (*output_type)(const OrtCustomOp *, size_t);
    size_t (*outputs)(const OrtCustomOp *);
    void (*compute_v1)(void *, OrtKernelContext *);
    void (*destroy)(void *);
    int (*input_characteristic)(const OrtCustomOp *, size_t);
    int (*output_characteristic)(const OrtCustomOp *, size_t);
    int (*input_memory)(const OrtCustomOp *, size_t);
    void *variadic[4];
    OrtStatus *(*create)(const OrtCustomOp *, const OrtApi *, const OrtKernelInfo *, void **);
    OrtStatus *(*compute)(void *, OrtKernelContext *);
    void *infer_shape;
    int (*start_version)(const OrtCustomOp *);
    int (*end_version)(const OrtCustomOp *);
    void *later[4];
};

/* FUNCTION(index, result, arguments...)(arguments...) */
#define FUNCTION(index, result, ...) ((result(*)(__VA_ARGS__))api->functions[index])
#define create_status FUNCTION(0, OrtStatus *, int, const char *)
#define create_domain FUNCTION(26, OrtStatus *, const char *, OrtCustomOpDomain **)
#define add_op FUNCTION(27, OrtStatus *, OrtCustomOpDomain *, const OrtCustomOp *)
#define add_domain FUNCTION(28, OrtStatus *, OrtSessionOptions *, OrtCustomOpDomain *)
#define tensor_data FUNCTION(51, OrtStatus *, OrtValue *, void **)
#define dimension_count FUNCTION(61, OrtStatus *, const OrtShapeInfo *, size_t *)
#define dimensions FUNCTION(62, OrtStatus *, const OrtShapeInfo *, int64_t *, size_t)
#define tensor_shape FUNCTION(65, OrtStatus *, const OrtValue *, OrtShapeInfo **)
#define attribute_float FUNCTION(85, OrtStatus *, const OrtKernelInfo *, const char *, float *)
#define attribute_int FUNCTION(86, OrtStatus *, const OrtKernelInfo *, const char *, int64_t *)
#define input_count FUNCTION(88, OrtStatus *, const OrtKernelContext *, size_t *)
#define get_input FUNCTION(90, OrtStatus *, const OrtKernelContext *, size_t, const OrtValue **)
#define get_output FUNCTION(91, OrtStatus *, OrtKernelContext *, size_t, const int64_t *, size_t, OrtValue **)
#define release_shape FUNCTION(99, void, OrtShapeInfo *)
#define constant_input FUNCTION(249, OrtStatus *, const OrtKernelInfo *, size_t, int *, const OrtValue **)
#define parallel_for \
    FUNCTION(274, OrtStatus *, const OrtKernelContext *, void (*)(void *, size_t), size_t, size_t, void *)

#endif
