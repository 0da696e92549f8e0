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
#define BLOCK 24 /* keys of a page that stay in the first cache while tiles take turns: a multiple of LANES and 3 */

/* Far below where exp() is taken for zero. */
static const float HIDDEN = -1e30f;

/* Products of ROWS rows and `count` keys that follow one another, lane by lane: parts[row][at ..]. */
INLINE void multiply(vec parts[ROWS][BLOCK], int at, const float *const query[ROWS], const float *keys, int dim,
                     const int count) {
    vec total[ROWS][3];
    for (int row = 0; row < ROWS; row++)
        for (int key = 0; key < count; key++) total[row][key] = all(0.0f);
    for (int d = 0; d < dim; d += LANES) {
        vec part[3];
        for (int key = 0; key < count; key++) part[key] = load(keys + (size_t)key * dim + d);
        for (int key = 0; key < count; key++) HOLD(part[key]);
        for (int key = 0; key < count; key++) __builtin_prefetch(keys + (size_t)(key + AHEAD) * dim + d);
        for (int row = 0; row < ROWS; row++) {
            vec q = load(query[row] + d);
            HOLD(q);
            for (int key = 0; key < count; key++) total[row][key] += q * part[key];
        }
    }
    for (int row = 0; row < ROWS; row++)
        for (int key = 0; key < count; key++) parts[row][at + key] = total[row][key];
}

/* scores[row][from .. to) of ROWS rows, and up to a whole vector what may be anything; at most BLOCK keys. */
INLINE void dots(float scores[ROWS][PAGE], const float *const query[ROWS], const float *page, int dim, int from,
                 int to) {
    vec parts[ROWS][BLOCK];
    int key = from;
    for (; key + 3 <= to; key += 3) multiply(parts, key - from, query, page + (size_t)key * dim, dim, 3);
    for (; key < to; key++) multiply(parts, key - from, query, page + (size_t)key * dim, dim, 1);
    for (int row = 0; row < ROWS; row++)
        for (key = from; key < to; key += LANES) store(scores[row] + key, sums(parts[row] + key - from));
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
        for (int v = 0; v < vectors; v++) HOLD(part[v]);
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
        vec above = all(highest[row]);
        for (int key = visible; key < padded; key++) scores[row][key] = HIDDEN;
        for (int key = 0; key < padded; key += LANES) above = larger(above, load(scores[row] + key));
        float most = largest(above);
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

/* The scores of a page become weights, and what was added so far is rescaled. */
static void weigh_page(struct tile *tile, float scores[ROWS][PAGE], int first, int keys, int width) {
    float rescale[ROWS];
    int left[ROWS];
    for (int row = 0; row < ROWS; row++) left[row] = tile->seen[row] - first;
    if (weigh(scores, left, keys, tile->highest, tile->total, rescale) && first)
        for (int row = 0; row < ROWS; row++)
            for (int at = 0; at < width; at += LANES)
                store(tile->out[row] + at, load(tile->out[row] + at) * rescale[row]);
}

/* Tiles take turns at every few keys and columns of a page, so that these are fetched once for all of them. */
static void attend_page(struct tile *tiles, int count, int first, const float *layer, int64_t page_stride, int dim,
                        int width) {
    float scores[TOGETHER][ROWS][PAGE];
    const float *page[TOGETHER];
    int keys[TOGETHER], c = 0;
    for (int t = 0; t < count; t++) {
        int left = tiles[t].most - first;
        keys[t] = left < 0 ? 0 : left < PAGE ? left : PAGE;
        page[t] = keys[t] ? layer + tiles[t].pages[first / PAGE] * page_stride : NULL;
    }
    for (int from = 0; from < PAGE; from += BLOCK)
        for (int t = 0; t < count; t++)
            if (from < keys[t])
                dots(scores[t], tiles[t].query, page[t], dim, from, from + BLOCK < keys[t] ? from + BLOCK : keys[t]);
    for (int t = 0; t < count; t++)
        if (keys[t]) weigh_page(tiles + t, scores[t], first, keys[t], width);
    for (; c + 3 * LANES <= width; c += 3 * LANES)
        for (int t = 0; t < count; t++) mix(tiles[t].out, c, scores[t], page[t], dim, keys[t], 3);
    for (; c < width; c += LANES)
        for (int t = 0; t < count; t++) mix(tiles[t].out, c, scores[t], page[t], dim, keys[t], 1);
}

static void attend_tiles(struct tile *tiles, int count, const float *layer, int64_t page_stride, int dim, int width) {
    int most = 0;
    for (int t = 0; t < count; t++) {
        most = tiles[t].most > most ? tiles[t].most : most;
        for (int row = 0; row < ROWS; row++) memset(tiles[t].out[row], 0, sizeof(float) * width);
    }
    for (int first = 0; first < most; first += PAGE)
        attend_page(tiles, count, first, layer, page_stride, dim, width);
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
