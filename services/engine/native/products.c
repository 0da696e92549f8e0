/* Products of rows with fixed weights, gated MLPs and routed experts, float32.
 *
 * Adds up a result over the inputs one by one, in order, whatever the other rows are. So its bits are the same in any
 * batch. Weights are laid out in panels of PANEL outputs, input after input; the last panel is padded with zeros.
 */
#include <stdlib.h>

#ifdef __AVX512F__
#define LANES 16
#endif
#include "loops.h"
#include "vectors.h"

#define VECTORS (PANEL / LANES)
#define ROWS 6
#define BLOCK 256 /* inputs at a time: a panel of so many, and as many of ROWS rows, fit in the L1 cache */
#define CHUNK (16 * ROWS)
#define WORTHWHILE 1e6 /* multiplications: fewer are not worth waking up a second thread */

/* `rows` rows times `panels` panels, over inputs [first, end); all but the first block add to what `out` has. */
INLINE void tile(float *const out[], const float *const x[], const float *packed, int inputs, int first, int end,
                 const int rows, const int panels) {
    vec total[ROWS][4 * VECTORS];
    for (int row = 0; row < rows; row++)
        for (int v = 0; v < VECTORS * panels; v++) total[row][v] = first ? load(out[row] + v * LANES) : all(0.0f);
    for (int k = first; k < end; k++) {
        vec weight[4 * VECTORS];
        for (int v = 0; v < VECTORS * panels; v++)
            weight[v] = load(packed + ((size_t)(v / VECTORS) * inputs + k) * PANEL + v % VECTORS * LANES);
        for (int row = 0; row < rows; row++)
            for (int v = 0; v < VECTORS * panels; v++) total[row][v] += x[row][k] * weight[v];
    }
    for (int row = 0; row < rows; row++)
        for (int v = 0; v < VECTORS * panels; v++) store(out[row] + v * LANES, total[row][v]);
}

/* The last panel of a row may be longer than the row: then it is computed in `spare`. */
static void tiles(float *const out[], const float *const x[], const float *packed, int inputs, int outputs, int rows,
                  int column, int panels, int first, int end) {
    float spare[ROWS][PANEL], *to[ROWS];
    int cut = column + panels * PANEL > outputs;
    for (int row = 0; row < rows; row++) {
        to[row] = cut ? spare[row] : out[row] + column;
        if (cut && first) memcpy(spare[row], out[row] + column, sizeof(float) * (outputs - column));
    }
    const float *panel = packed + (size_t)column * inputs;
    if (panels == 4)
        tile(to, x, panel, inputs, first, end, 1, 4);
    else if (rows == 6)
        tile(to, x, panel, inputs, first, end, 6, 1);
    else if (rows == 5)
        tile(to, x, panel, inputs, first, end, 5, 1);
    else if (rows == 4)
        tile(to, x, panel, inputs, first, end, 4, 1);
    else if (rows == 3)
        tile(to, x, panel, inputs, first, end, 3, 1);
    else if (rows == 2)
        tile(to, x, panel, inputs, first, end, 2, 1);
    else
        tile(to, x, panel, inputs, first, end, 1, 1);
    if (cut)
        for (int row = 0; row < rows; row++) memcpy(out[row] + column, spare[row], sizeof(float) * (outputs - column));
}

void multiply_rows(float *const out[], const float *const x[], const float *packed, int inputs, int outputs, int rows,
                   int start, int stop) {
    /* A single row uses no block twice. */
    int block = rows == 1 ? inputs : BLOCK;
    for (int first = 0; first < inputs; first += block) {
        int end = first + block < inputs ? first + block : inputs;
        int column = start;
        /* A single row waits for its additions: four panels at a time keep enough of them in flight. */
        for (; rows == 1 && column + 4 * PANEL <= stop; column += 4 * PANEL)
            tiles(out, x, packed, inputs, outputs, 1, column, 4, first, end);
        for (; column < stop; column += PANEL)
            for (int row = 0; row < rows; row += ROWS)
                tiles(out + row, x + row, packed, inputs, outputs, rows - row < ROWS ? rows - row : ROWS, column, 1,
                      first, end);
    }
}

void multiply(float *out, int64_t out_row, const float *x, int64_t x_row, const float *packed, int rows, int inputs,
              int outputs, int start, int stop) {
    for (int first = 0; first < rows; first += CHUNK) {
        float *to[CHUNK];
        const float *from[CHUNK];
        int count = rows - first < CHUNK ? rows - first : CHUNK;
        for (int row = 0; row < count; row++) {
            to[row] = out + (first + row) * out_row;
            from[row] = x + (first + row) * x_row;
        }
        multiply_rows(to, from, packed, inputs, outputs, count, start, stop);
    }
}

/* out [batch, rows, outputs] = x [batch, rows, inputs] packed [batch, panels, inputs, PANEL], rows at these strides. */
void perigee_product(float *out, int64_t out_batch, int64_t out_row, const float *x, int64_t x_batch, int64_t x_row,
                     const float *packed, int batch, int rows, int inputs, int outputs, int threads) {
    int panels = panels_of(outputs), chunks = (rows + CHUNK - 1) / CHUNK;
    if ((double)batch * rows * inputs * outputs < WORTHWHILE) threads = 1;
    int parts = threads > panels ? panels : threads;
#pragma omp parallel for collapse(3) num_threads(threads) if (threads > 1)
    for (int b = 0; b < batch; b++)
        for (int part = 0; part < parts; part++)
            for (int chunk = 0; chunk < chunks; chunk++) {
                int first = chunk * CHUNK, count = rows - first < CHUNK ? rows - first : CHUNK;
                int start = panels * part / parts * PANEL, stop = panels * (part + 1) / parts * PANEL;
                multiply(out + b * out_batch + first * out_row, out_row, x + b * x_batch + first * x_row, x_row,
                         packed + (size_t)b * panels * inputs * PANEL, count, inputs, outputs, start,
                         stop < outputs ? stop : outputs);
            }
}

void gate_rows(float *const out[], const float *const x[], const float *gate_up, int hidden, int width, int rows,
               int start, int stop) {
    multiply_rows(out, x, gate_up, hidden, 2 * width, rows, start, stop);
    multiply_rows(out, x, gate_up, hidden, 2 * width, rows, width + start, width + stop);
    for (int row = 0; row < rows; row++)
        for (int i = start; i < stop; i += LANES) {
            vec gate = load(out[row] + i);
            store(out[row] + i, gate * sigmoid(gate) * load(out[row] + width + i));
        }
}

/* One gated MLP on up to CHUNK rows. inner: CHUNK * 2 * width floats. */
static void mlp(float *const out[], const float *const x[], const float *gate_up, const float *down, int rows,
                int hidden, int width, float *inner) {
    float *to[CHUNK];
    const float *from[CHUNK];
    for (int row = 0; row < rows; row++) from[row] = to[row] = inner + (size_t)row * 2 * width;
    gate_rows(to, x, gate_up, hidden, width, rows, 0, width);
    multiply_rows(out, from, down, width, hidden, rows, 0, hidden);
}

void sort_pairs(int32_t *pairs, int32_t *starts, int32_t *next, const int32_t *chosen, size_t count, int experts) {
    memset(starts, 0, sizeof(int32_t) * (experts + 1));
    for (size_t pair = 0; pair < count; pair++)
        if (chosen[pair] >= 0) starts[chosen[pair] + 1]++;
    for (int expert = 0; expert < experts; expert++) starts[expert + 1] += starts[expert];
    memcpy(next, starts, sizeof(int32_t) * experts);
    for (size_t pair = 0; pair < count; pair++)
        if (chosen[pair] >= 0) pairs[next[chosen[pair]]++] = pair;
}

void add_experts(float *out, const float *results, const int32_t *chosen, const float *weights, int k, int hidden,
                 int start, int stop) {
    for (int i = start; i < stop; i++) {
        float total = 0.0f;
        for (int rank = 0; rank < k; rank++)
            if (chosen[rank] >= 0) total += weights[rank] * results[(size_t)rank * hidden + i];
        out[i] += total;
    }
}

/* Applies an expert to the rows that chose it: pairs [starts[expert], starts[expert + 1]) of results [rows * k, ..]. */
static void apply_expert(float *results, const float *x, const float *gate_up, const float *down,
                         const int32_t *pairs, const int32_t *starts, int k, int expert, int hidden, int width,
                         float *inner) {
    size_t padded = panels_of(hidden) * PANEL;
    for (int start = starts[expert]; start < starts[expert + 1]; start += CHUNK) {
        int count = starts[expert + 1] - start < CHUNK ? starts[expert + 1] - start : CHUNK;
        float *to[CHUNK];
        const float *from[CHUNK];
        for (int row = 0; row < count; row++) {
            to[row] = results + (size_t)pairs[start + row] * hidden;
            from[row] = x + (size_t)(pairs[start + row] / k) * hidden;
        }
        mlp(to, from, gate_up + (size_t)expert * 2 * width * hidden, down + (size_t)expert * padded * width, count,
            hidden, width, inner);
    }
}

/* out [rows, hidden] = down(silu(gate x) * up x) for x [rows, hidden]; returns 0 if out of memory. */
int perigee_mlp(float *out, const float *x, const float *gate_up, const float *down, int rows, int hidden, int width,
                int threads) {
    if (3.0 * rows * hidden * width < WORTHWHILE) threads = 1;
    float *inner = malloc(sizeof(float) * CHUNK * 2 * width * threads);
    if (!inner) return 0;
    int chunks = (rows + CHUNK - 1) / CHUNK;
#pragma omp parallel for schedule(dynamic) num_threads(threads) if (threads > 1)
    for (int chunk = 0; chunk < chunks; chunk++) {
        int count = rows - chunk * CHUNK < CHUNK ? rows - chunk * CHUNK : CHUNK;
        float *to[CHUNK];
        const float *from[CHUNK];
        for (int row = 0; row < count; row++) {
            to[row] = out + (size_t)(chunk * CHUNK + row) * hidden;
            from[row] = x + (size_t)(chunk * CHUNK + row) * hidden;
        }
        mlp(to, from, gate_up, down, count, hidden, width, inner + (size_t)omp_get_thread_num() * CHUNK * 2 * width);
    }
    free(inner);
    return 1;
}

/* out [rows, hidden] += sum over k of weights * expert(x), in the order of `chosen` int32 [rows, k], which are below
 * `experts`; gate_up and down have one expert's panels after the other. Returns 0 if out of memory. */
int perigee_experts(float *out, const float *x, const int32_t *chosen, const float *weights, const float *gate_up,
                    const float *down, int rows, int k, int experts, int hidden, int width, int threads) {
    size_t count = (size_t)rows * k;
    if (3.0 * count * hidden * width < WORTHWHILE) threads = 1;
    float *results = malloc(sizeof(float) * (count * hidden + (size_t)CHUNK * 2 * width * threads));
    int32_t *pairs = malloc(sizeof(int32_t) * (count + 2 * (size_t)experts + 2));
    if (!results || !pairs) {
        free(results);
        free(pairs);
        return 0;
    }
    float *inner = results + count * hidden;
    int32_t *starts = pairs + count;
    sort_pairs(pairs, starts, starts + experts + 1, chosen, count, experts);
#pragma omp parallel for schedule(dynamic) num_threads(threads) if (threads > 1)
    for (int expert = 0; expert < experts; expert++)
        apply_expert(results, x, gate_up, down, pairs, starts, k, expert, hidden, width,
                     inner + (size_t)omp_get_thread_num() * CHUNK * 2 * width);
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (size_t row = 0; row < (size_t)rows; row++)
        add_experts(out + row * hidden, results + row * k * hidden, chosen + row * k, weights + row * k, k, hidden, 0,
                    hidden);
    free(results);
    free(pairs);
    return 1;
}
