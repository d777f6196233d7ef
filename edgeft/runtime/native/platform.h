/* What this compiler and this processor can build. */
#ifndef EDGEFT_PLATFORM_H
#define EDGEFT_PLATFORM_H

#if defined(__x86_64__) || defined(_M_X64) || defined(__i386__) || defined(_M_IX86)
#define IS_X86
#endif

/* Microsoft's own compiler doesn't know the attributes; plain C stands for the instructions in tests/runtime/emulated. */
#if defined(EDGEFT_EMULATED) || (defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__)))
#define HAS_KERNELS
#endif

#ifdef _WIN32
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

/* Of `cpu_features`: what this processor has and its system lets programs use. */
enum {
    CPU_KNOWN = 1,
    CPU_AVX2 = 2,
    CPU_AVX512F = 4,
    CPU_AVX512_VNNI = 8,
    CPU_AVX_VNNI = 16,
    CPU_AMX_INT8 = 32,
    CPU_KERNELS = 64, /* all that the kernels need */
};

/* 0 where the processor is of another kind. */
unsigned cpu_features(void);

/* Whether the kernels can run here. */
EXPORT int edgeft_supported(void);

#endif
