/* Vectors of LANES floats, eight unless a source defines more, and operations on them. */
#ifndef PERIGEE_VECTORS_H
#define PERIGEE_VECTORS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifndef LANES
#define LANES 8
#endif
#define INLINE static inline __attribute__((always_inline))

typedef float vec __attribute__((vector_size(4 * LANES), aligned(4)));
typedef int32_t ivec __attribute__((vector_size(4 * LANES), aligned(4)));

/* Below this exp() counts as zero. */
#define LOWEST -87.0f

/* Keeps x in a register: a compiler may load it again for each use, which takes more loads than there are ports. */
#ifdef __x86_64__
#define HOLD(x) __asm__("" : "+x"(x))
#else
#define HOLD(x) (void)(x)
#endif

INLINE vec load(const float *from) { return *(const vec *)from; }
INLINE void store(float *to, vec x) { *(vec *)to = x; }
INLINE vec all(float x) { return (vec){0} + x; }
INLINE vec blend(ivec mask, vec yes, vec no) {
    ivec a, b;
    memcpy(&a, &yes, sizeof a);
    memcpy(&b, &no, sizeof b);
    a = (a & mask) | (b & ~mask);
    memcpy(&yes, &a, sizeof a);
    return yes;
}
INLINE vec larger(vec x, vec y) { return blend(x > y, x, y); }
INLINE float largest(vec x) {
    float most = x[0];
    for (int lane = 1; lane < LANES; lane++) most = x[lane] > most ? x[lane] : most;
    return most;
}

#if LANES == 8
/* Lanes a .. h of the sixteen in x and y. */
#ifdef __clang__
#define LANES_OF(x, y, a, b, c, d, e, f, g, h) __builtin_shufflevector(x, y, a, b, c, d, e, f, g, h)
#else
#define LANES_OF(x, y, a, b, c, d, e, f, g, h) __builtin_shuffle(x, y, (ivec){a, b, c, d, e, f, g, h})
#endif

INLINE float sum(vec x) { return ((x[0] + x[4]) + (x[2] + x[6])) + ((x[1] + x[5]) + (x[3] + x[7])); }

INLINE vec halves(vec x, vec y) {
    return LANES_OF(x, y, 0, 1, 2, 3, 8, 9, 10, 11) + LANES_OF(x, y, 4, 5, 6, 7, 12, 13, 14, 15);
}
INLINE vec quarters(vec x, vec y) {
    return LANES_OF(x, y, 0, 1, 8, 9, 4, 5, 12, 13) + LANES_OF(x, y, 2, 3, 10, 11, 6, 7, 14, 15);
}
/* sum(x[0]) .. sum(x[7]), with the same bits. */
INLINE vec sums(const vec x[LANES]) {
    vec left = quarters(halves(x[0], x[4]), halves(x[1], x[5]));
    vec right = quarters(halves(x[2], x[6]), halves(x[3], x[7]));
    return LANES_OF(left, right, 0, 2, 8, 10, 4, 6, 12, 14) + LANES_OF(left, right, 1, 3, 9, 11, 5, 7, 13, 15);
}

#endif

/* exp(x) for x <= 0: 2^n from the exponent's bits, the rest by Cephes' polynomial. */
INLINE vec exponential(vec x) {
    ivec tiny = x < all(LOWEST);
    x = blend(tiny, all(LOWEST), x);
    vec round = all(12582912.0f); /* 1.5 * 2^23: adding it leaves whole numbers */
    vec n = (x * 1.44269504f + round) - round;
    vec f = x - n * 0.693359375f + n * 2.12194440e-4f;
    vec y = all(1.9875691500e-4f);
    y = y * f + 1.3981999507e-3f;
    y = y * f + 8.3334519073e-3f;
    y = y * f + 4.1665795894e-2f;
    y = y * f + 1.6666665459e-1f;
    y = y * f + 5.0000001201e-1f;
    y = y * (f * f) + f + 1.0f;
    ivec power = (__builtin_convertvector(n, ivec) + 127) << 23;
    vec scale;
    memcpy(&scale, &power, sizeof scale);
    return blend(tiny, all(0.0f), y * scale);
}

/* 1 / (1 + exp(-x)), from exp(-|x|), which never overflows. */
INLINE vec sigmoid(vec x) {
    ivec negative = x < all(0.0f);
    vec power = exponential(blend(negative, x, -x));
    return blend(negative, power, all(1.0f)) / (power + 1.0f);
}

#endif
