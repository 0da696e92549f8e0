/* Row-wise operations: RMSNorm, rotation, a token's cache entry; float32. */
#include <math.h>

#include "loops.h"
#include "vectors.h"

void norm_row(float *out, const float *x, const float *weight, int width, float eps) {
    vec squares = all(0.0f);
    float rest = 0.0f;
    int i = 0;
    for (; i + LANES <= width; i += LANES) squares += load(x + i) * load(x + i);
    for (int j = i; j < width; j++) rest += x[j] * x[j];
    float scale = 1.0f / sqrtf((sum(squares) + rest) / (float)width + eps);
    for (i = 0; i + LANES <= width; i += LANES) store(out + i, load(x + i) * scale * load(weight + i));
    for (; i < width; i++) out[i] = x[i] * scale * weight[i];
}

/* Rotates pairs (2j, 2j + 1) by the angle of j; out may be x. */
INLINE void turn(float *out, const float *x, const float *cosines, const float *sines, int dim, float scale) {
    for (int j = 0; j < dim / 2; j++) {
        float even = x[2 * j], odd = x[2 * j + 1];
        out[2 * j] = (even * cosines[j] - odd * sines[j]) * scale;
        out[2 * j + 1] = (odd * cosines[j] + even * sines[j]) * scale;
    }
}

void turn_query(float *query, const float *cosines, const float *sines, int nope, int rope, float scale) {
    for (int i = 0; i < nope; i++) query[i] *= scale;
    turn(query + nope, query + nope, cosines, sines, rope, scale);
}

void make_entry(float *entry, const float *row, const float *weight, const float *cosines, const float *sines,
                int latent, int rope, float eps) {
    norm_row(entry, row, weight, latent, eps);
    turn(entry + latent, row + latent, cosines, sines, rope, 1.0f);
}

/* out [rows, width] = x / sqrt(mean(x^2) + eps) * weight; rows of x are x_row floats apart. */
void perigee_rms_norm(float *out, const float *x, int64_t x_row, const float *weight, int rows, int width, float eps) {
    for (int row = 0; row < rows; row++)
        norm_row(out + (size_t)row * width, x + row * x_row, weight, width, eps);
}

/* Scales query [tokens, heads, nope + rope] in place, and rotates the last `rope` values by the token's angles
 * [tokens, rope / 2]. */
void perigee_turn_queries(float *query, const float *cosines, const float *sines, int tokens, int heads, int nope,
                          int rope, float scale) {
    for (int token = 0; token < tokens; token++)
        for (int head = 0; head < heads; head++)
            turn_query(query + ((size_t)token * heads + head) * (nope + rope), cosines + (size_t)token * (rope / 2),
                       sines + (size_t)token * (rope / 2), nope, rope, scale);
}

/* Writes token t's cache entry, the normalised latent and the rotated rope key of row down + t * down_row, into slot
 * slots[t] of the layer whose page 0 is at `layer`, pages `page_stride` floats apart. */
void perigee_store_latents(float *layer, int64_t page_stride, const int64_t *slots, const float *down, int64_t down_row,
                           const float *weight, const float *cosines, const float *sines, int tokens, int latent,
                           int rope, float eps) {
    for (int token = 0; token < tokens; token++) {
        float *entry = layer + slots[token] / PAGE * page_stride + slots[token] % PAGE * (latent + rope);
        make_entry(entry, down + token * down_row, weight, cosines + (size_t)token * (rope / 2),
                   sines + (size_t)token * (rope / 2), latent, rope, eps);
    }
}
