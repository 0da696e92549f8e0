/* Functions that the sources share. Weights are in panels of PANEL outputs: see products.c. */
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

/* Columns [start, stop) of out = x packed; start is a multiple of PANEL. Each row has its own address. */
void multiply_rows(float *const out[], const float *const x[], const float *packed, int inputs, int outputs, int rows,
                   int start, int stop);

/* The same for rows that are `out_row` and `x_row` floats apart. */
void multiply(float *out, int64_t out_row, const float *x, int64_t x_row, const float *packed, int rows, int inputs,
              int outputs, int start, int stop);

/* Columns [start, stop) of silu(gate x) * up x; start, stop and `width` are multiples of PANEL. gate_up has the panels
 * of gate, then those of up. Columns of `out` from `width` on are workspace. */
void gate_rows(float *const out[], const float *const x[], const float *gate_up, int hidden, int width, int rows,
               int start, int stop);

/* The k best of scores = sigmoid(logits) + bias, best first, among equals the lower index; their weights are
 * sigmoid(logits), divided by their sum if `normalise`, times `scale`. scores: workspace of 2 * experts floats. */
void choose_experts(int32_t *chosen, float *weights, const float *logits, const float *bias, int experts, int k,
                    int normalise, float scale, float *scores);

/* Sorts the pairs (row, rank) of chosen [rows, k] by expert: those of expert e are pairs[starts[e]] ..
 * pairs[starts[e + 1]]; leaves out -1. starts: experts + 1; next: workspace of `experts` values. */
void sort_pairs(int32_t *pairs, int32_t *starts, int32_t *next, const int32_t *chosen, size_t count, int experts);

/* out[start .. stop) += the sum of a row's weights[rank] * results[rank * hidden ..] over its experts, without -1. */
void add_experts(float *out, const float *results, const int32_t *chosen, const float *weights, int k, int hidden,
                 int start, int stop);

/* out = x / sqrt(mean(x^2) + eps) * weight. */
void norm_row(float *out, const float *x, const float *weight, int width, float eps);

/* Scales a query [nope + rope] in place and rotates its last `rope` values. */
void turn_query(float *query, const float *cosines, const float *sines, int nope, int rope, float scale);

/* Computes the cache entry of a projected row [latent + rope]. */
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

/* Computes tiles [first, first + count), at most MOST_TILES. */
void attend(const struct attention *attention, int first, int count);

#pragma GCC visibility pop

#endif
