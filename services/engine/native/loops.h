/* What one source does for another. Weights lie in panels of PANEL outputs, as products.c says. */
#ifndef PERIGEE_LOOPS_H
#define PERIGEE_LOOPS_H

#include <stddef.h>
#include <stdint.h>

#ifdef _OPENMP
#include <omp.h>
#else
#define omp_get_thread_num() 0
#define omp_get_num_threads() 1
#endif

#pragma GCC visibility push(hidden)

#define PANEL 16
#define PAGE 64 /* tokens */
#define MOST_TILES 16

static inline int panels_of(int outputs) { return (outputs + PANEL - 1) / PANEL; }

/* Columns [start, stop) of out = x packed, start being a multiple of PANEL: any rows, each at its own place. */
void multiply_rows(float *const out[], const float *const x[], const float *packed, int inputs, int outputs, int rows,
                   int start, int stop);

/* The same of rows that lie `out_row` and `x_row` floats apart. */
void multiply(float *out, int64_t out_row, const float *x, int64_t x_row, const float *packed, int rows, int inputs,
              int outputs, int start, int stop);

/* Columns [start, stop) of silu(gate x) * up x, both multiples of PANEL; those from `width` on are worked in.
 * gate_up has the panels of gate, then those of up, `width` being a multiple of PANEL. */
void gate_rows(float *const out[], const float *const x[], const float *gate_up, int hidden, int width, int rows,
               int start, int stop);

/* The k best of scores = sigmoid(logits) + bias, best first and of equals the lower; their weights are sigmoid(logits),
 * over their sum where `normalise`, times `scale`. scores: 2 * experts floats to work in. */
void choose_experts(int32_t *chosen, float *weights, const float *logits, const float *bias, int experts, int k,
                    int normalise, float scale, float *scores);

/* Pairs (row, rank) of chosen [rows, k] by expert: those of expert e are pairs[starts[e]] .. pairs[starts[e + 1]], of
 * -1 none. starts: experts + 1; next: experts, to work in. */
void sort_pairs(int32_t *pairs, int32_t *starts, int32_t *next, const int32_t *chosen, size_t count, int experts);

/* out[start .. stop) += the sum of a row's weights[rank] * results[rank * hidden ..] over its experts, of -1 none. */
void add_experts(float *out, const float *results, const int32_t *chosen, const float *weights, int k, int hidden,
                 int start, int stop);

/* out = x / sqrt(mean(x^2) + eps) * weight. */
void norm_row(float *out, const float *x, const float *weight, int width, float eps);

/* A query [nope + rope] in place: scaled, and its last values turned. */
void turn_query(float *query, const float *cosines, const float *sines, int nope, int rope, float scale);

/* The cache entry of a projected row [latent + rope]. */
void make_entry(float *entry, const float *row, const float *weight, const float *cosines, const float *sines,
                int latent, int rope, float eps);

/* See perigee_latent_attention. */
struct attention {
    float *out;
    const float *query, *layer;
    int64_t page_stride;
    const int32_t *tables, *seen, *tiles;
    int tile_rows, heads, dim, width;
};

/* Tiles [first, first + count), at most MOST_TILES. */
void attend(const struct attention *attention, int first, int count);

#pragma GCC visibility pop

#endif
