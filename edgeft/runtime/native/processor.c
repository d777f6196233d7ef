/* What the processor says of itself, on every system: /proc/cpuinfo is Linux's alone. */
#include "platform.h"

#include <stddef.h>
#include <stdint.h>

#ifdef IS_X86
#if defined(_MSC_VER) && !defined(__clang__)
#define BY_INTRINSIC
#include <intrin.h>
#else
#include <cpuid.h>
#endif
#ifdef __APPLE__
#include <sys/sysctl.h>
#endif

typedef struct {
    uint32_t eax, ebx, ecx, edx;
} registers;

enum { FEATURES = 1, EXTENDED = 7 }; /* leaves of CPUID */

static registers read_cpuid(uint32_t leaf, uint32_t subleaf) {
    registers r = {0, 0, 0, 0};
#ifdef BY_INTRINSIC
    int out[4];
    __cpuid(out, 0);
    if ((uint32_t)out[0] < leaf) return r;
    __cpuidex(out, (int)leaf, (int)subleaf);
    r.eax = (uint32_t)out[0], r.ebx = (uint32_t)out[1], r.ecx = (uint32_t)out[2], r.edx = (uint32_t)out[3];
#else
    __get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx);
#endif
    return r;
}

static int has(uint32_t flags, int bit) { return (int)(flags >> bit & 1); }

/* XCR0: the registers that the system saves when it switches between programs; without, none may be used. */
static uint64_t saved_state(void) {
#ifdef BY_INTRINSIC
    return _xgetbv(0);
#else
    uint32_t low, high;
    __asm__ volatile(".byte 0x0f, 0x01, 0xd0" : "=a"(low), "=d"(high) : "c"(0)); /* xgetbv */
    return (uint64_t)high << 32 | low;
#endif
}

static int saves(uint64_t state, uint64_t parts) { return (state & parts) == parts; }

static int saves_zmm(uint64_t state) {
#ifdef __APPLE__
    int value = 0; /* macOS saves these registers only once a program has used them, and says so elsewhere */
    size_t bytes = sizeof value;
    if (!sysctlbyname("hw.optional.avx512f", &value, &bytes, NULL, 0) && value) return 1;
#endif
    return saves(state, 0xe6);
}

unsigned cpu_features(void) {
    const registers basic = read_cpuid(FEATURES, 0), extended = read_cpuid(EXTENDED, 0);
    if (!has(basic.ecx, 27)) return CPU_KNOWN; /* OSXSAVE: a system that saves none of them */
    const uint64_t state = saved_state();
    const int ymm = saves(state, 0x6), zmm = saves_zmm(state), tiles = saves(state, 0x60000);
    const registers more = extended.eax ? read_cpuid(EXTENDED, 1) : (registers){0, 0, 0, 0};
    const int avx512f = zmm && has(extended.ebx, 16), vnni = zmm && has(extended.ecx, 11);
    const int needed = has(extended.ebx, 17) && has(extended.ebx, 30) && has(extended.ebx, 31) && has(basic.ecx, 12);
    unsigned features = CPU_KNOWN;
    if (ymm && has(extended.ebx, 5)) features |= CPU_AVX2;
    if (ymm && has(more.eax, 4)) features |= CPU_AVX_VNNI;
    if (tiles && has(extended.edx, 25)) features |= CPU_AMX_INT8;
    if (avx512f) features |= CPU_AVX512F;
    if (vnni) features |= CPU_AVX512_VNNI;
    if (ymm && avx512f && vnni && needed) features |= CPU_KERNELS; /* needed: DQ, BW, VL and FMA */
    return features;
}
#else
unsigned cpu_features(void) { return 0; }
#endif

EXPORT unsigned edgeft_cpu_features(void) { return cpu_features(); }

/* Whether this library has the kernels and this processor what they need. */
EXPORT int edgeft_supported(void) {
#if defined(EDGEFT_EMULATED)
    return 1;
#elif defined(HAS_KERNELS)
    return (cpu_features() & CPU_KERNELS) != 0;
#else
    return 0;
#endif
}

#ifdef _WIN32
/* setuptools' linker wants the name; nobody imports this library. */
EXPORT void *PyInit__kernels(void) { return NULL; }
#endif
