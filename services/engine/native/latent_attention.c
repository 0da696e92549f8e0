/* Attention in the absorbed form over paged latents, float32.
 *
 * A row (one head of one token) is computed by the same operations in the same order whatever stands beside it:
 * dot products run over the dimension in eight lanes, the softmax goes on page by page (its maximum and sum are
 * rescaled as they grow), values are added key by key. So its bits are those of any batch, chunk or cache. Keys that
 * a row must not see have weight zero exactly.
 */
#include "vectors.h"

#define PAGE 64
#define ROWS 4
#define MOST_WIDTH 1024
#define AHEAD 3
#define TOGETHER 16

/* Far below where exp() is taken for zero. */
static const float HIDDEN = -1e30f;

/* scores[row][0..count) of ROWS rows against `count` keys that follow one another. */
INLINE void dots(float scores[ROWS][PAGE], int at, const float *const query[ROWS], const float *keys, int dim,
                 const int count) {
    vec total[ROWS][3];
    for (int row = 0; row < ROWS; row++)
        for (int key = 0; key < count; key++) total[row][key] = all(0.0f);
    for (int d = 0; d < dim; d += LANES) {
        vec part[3];
        for (int key = 0; key < count; key++) part[key] = load(keys + (size_t)key * dim + d);
        for (int key = 0; key < count; key++) __builtin_prefetch(keys + (size_t)(key + AHEAD) * dim + d);
        for (int row = 0; row < ROWS; row++) {
            vec q = load(query[row] + d);
            for (int key = 0; key < count; key++) total[row][key] += q * part[key];
        }
    }
    for (int row = 0; row < ROWS; row++)
        for (int key = 0; key < count; key++) scores[row][at + key] = sum(total[row][key]);
}

/* out[row][0 .. vectors * LANES) += weights[row][key] * values[key], key by key. */
INLINE void mix(float *const out[ROWS], int at, float weights[ROWS][PAGE], const float *values, int dim, int keys,
                const int vectors) {
    vec total[ROWS][3];
    for (int row = 0; row < ROWS; row++)
        for (int v = 0; v < vectors; v++) total[row][v] = load(out[row] + at + v * LANES);
    for (int key = 0; key < keys; key++) {
        vec part[3];
        for (int v = 0; v < vectors; v++) part[v] = load(values + (size_t)key * dim + at + v * LANES);
        for (int row = 0; row < ROWS; row++)
            for (int v = 0; v < vectors; v++) total[row][v] += weights[row][key] * part[v];
    }
    for (int row = 0; row < ROWS; row++)
        for (int v = 0; v < vectors; v++) store(out[row] + at + v * LANES, total[row][v]);
}

/* Scores of a page become weights; `highest` and `total` of each row go on. Returns whether a maximum grew, in
 * which case what was added so far has to be multiplied by `rescale`. */
INLINE int weigh(float scores[ROWS][PAGE], const int seen[ROWS], int keys, float highest[ROWS], float total[ROWS],
                 float rescale[ROWS]) {
    float before[LANES] = {0}, factor[LANES];
    int padded = (keys + LANES - 1) / LANES * LANES, grew = 0;
    for (int row = 0; row < ROWS; row++) {
        int visible = seen[row] < 0 ? 0 : seen[row] < keys ? seen[row] : keys;
        float most = highest[row];
        for (int key = 0; key < visible; key++) most = scores[row][key] > most ? scores[row][key] : most;
        for (int key = visible; key < padded; key++) scores[row][key] = HIDDEN;
        before[row] = highest[row] - most;
        grew |= most > highest[row];
        highest[row] = most;
    }
    store(factor, exponential(load(before)));
    for (int row = 0; row < ROWS; row++) {
        vec added = all(0.0f);
        for (int key = 0; key < padded; key += LANES) {
            vec weight = exponential(load(scores[row] + key) - highest[row]);
            store(scores[row] + key, weight);
            added += weight;
        }
        rescale[row] = factor[row];
        total[row] = total[row] * factor[row] + sum(added);
    }
    return grew;
}

/* ROWS rows of one sequence; row r sees the first seen[r] keys, none more than `most`. */
struct tile {
    float *out[ROWS];
    const float *query[ROWS];
    const int32_t *pages;
    int seen[ROWS], most;
    float highest[ROWS], total[ROWS];
};

static void attend_page(struct tile *tile, int first, const float *page, int dim, int width) {
    float scores[ROWS][PAGE], rescale[ROWS];
    int keys = tile->most - first < PAGE ? tile->most - first : PAGE, left[ROWS], key = 0, c = 0;
    for (; key + 3 <= keys; key += 3) dots(scores, key, tile->query, page + (size_t)key * dim, dim, 3);
    for (; key < keys; key++) dots(scores, key, tile->query, page + (size_t)key * dim, dim, 1);
    for (int row = 0; row < ROWS; row++) left[row] = tile->seen[row] - first;
    if (weigh(scores, left, keys, tile->highest, tile->total, rescale) && first)
        for (int row = 0; row < ROWS; row++)
            for (int at = 0; at < width; at += LANES)
                store(tile->out[row] + at, load(tile->out[row] + at) * rescale[row]);
    for (; c + 3 * LANES <= width; c += 3 * LANES) mix(tile->out, c, scores, page, dim, keys, 3);
    for (; c < width; c += LANES) mix(tile->out, c, scores, page, dim, keys, 1);
}

/* Tiles of one sequence take turns at every page, so that it is fetched once for all of them. */
static void attend_tiles(struct tile *tiles, int count, const float *layer, int64_t page_stride, int dim, int width) {
    int most = 0;
    for (int t = 0; t < count; t++) {
        most = tiles[t].most > most ? tiles[t].most : most;
        for (int row = 0; row < ROWS; row++) memset(tiles[t].out[row], 0, sizeof(float) * width);
    }
    for (int first = 0; first < most; first += PAGE)
        for (int t = 0; t < count; t++)
            if (first < tiles[t].most)
                attend_page(tiles + t, first, layer + tiles[t].pages[first / PAGE] * page_stride, dim, width);
    for (int t = 0; t < count; t++)
        for (int row = 0; row < ROWS; row++)
            for (int at = 0; at < width; at += LANES)
                store(tiles[t].out[row] + at, load(tiles[t].out[row] + at) / tiles[t].total[row]);
}

/* out [tokens, heads, width], query [tokens, heads, dim]; layer: page 0 of the layer, pages `page_stride` floats apart.
 * Tile t has rows tiles[3t] .. + ROWS of all rows, of which the last belongs to a sequence that ends before row
 * tiles[3t + 1]; its pages begin at tables[tiles[3t + 2]]. Row r sees seen[r / heads] keys. dim and width are
 * multiples of LANES, width at most MOST_WIDTH.
 */
void perigee_latent_attention(float *out, const float *query, const float *layer, int64_t page_stride,
                              const int32_t *tables, const int32_t *seen, const int32_t *tiles, int num_tiles, int heads,
                              int dim, int width, int threads) {
    int group = num_tiles / (4 * threads);
    group = group < 1 ? 1 : group > TOGETHER ? TOGETHER : group;
#pragma omp parallel for schedule(dynamic) num_threads(threads) if (threads > 1)
    for (int begin = 0; begin < num_tiles; begin += group) {
        struct tile made[TOGETHER];
        float spare[MOST_WIDTH]; /* for rows that there are not */
        int count = num_tiles - begin < group ? num_tiles - begin : group;
        for (int t = 0; t < count; t++) {
            const int32_t *at = tiles + 3 * (size_t)(begin + t);
            made[t].pages = tables + at[2];
            made[t].most = 0;
            for (int r = 0; r < ROWS; r++) {
                int there = at[0] + r < at[1];
                size_t row = there ? at[0] + r : at[0];
                made[t].query[r] = query + row * dim;
                made[t].out[r] = there ? out + row * width : spare;
                made[t].seen[r] = seen[row / heads];
                made[t].most = made[t].seen[r] > made[t].most ? made[t].seen[r] : made[t].most;
                made[t].highest[r] = HIDDEN;
                made[t].total[r] = 0.0f;
            }
        }
        attend_tiles(made, count, layer, page_stride, dim, width);
    }
}
