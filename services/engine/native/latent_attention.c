/* Attention in the absorbed form over paged latents, float32.
 *
 * A row (one head of one token) is computed by the same operations in the same order whatever the other rows are:
 * dot products run over the dimension in eight lanes, the softmax proceeds page by page (its maximum and sum are
 * rescaled as they grow), values are added key by key. So its bits are the same in any batch, chunk or cache. Keys
 * that a row must not see have exactly zero weight.
 */
#include "loops.h"
#include "vectors.h"

#define MOST_ROWS 4
#define MOST_WIDTH 1024
#define LINE 16 /* floats of a cache line */
#define BLOCK 24 /* keys of a page that stay in the L1 cache while tiles take turns: a multiple of LANES and 3 */

/* Far below the point where exp() counts as zero. */
static const float HIDDEN = -1e30f;

/* Multiplies rows with `count` consecutive keys, lane by lane: parts[row][at ..]. Prefetches what is `ahead` floats
 * further into the L2 cache: a processor cannot predict where the next page is. */
INLINE void compare(vec parts[][BLOCK], int at, const float *const query[], const float *keys, ptrdiff_t ahead,
                    int dim, const int rows, const int count) {
    vec total[MOST_ROWS][3];
    for (int row = 0; row < rows; row++)
        for (int key = 0; key < count; key++) total[row][key] = all(0.0f);
    for (int d = 0; d < dim; d += LANES) {
        vec part[3];
        for (int key = 0; key < count; key++) part[key] = load(keys + (size_t)key * dim + d);
        for (int key = 0; key < count; key++) HOLD(part[key]);
        for (int key = 0; key < count && d % LINE == 0; key++)
            __builtin_prefetch(keys + ahead + (size_t)key * dim + d, 0, 2);
        for (int row = 0; row < rows; row++) {
            vec q = load(query[row] + d);
            HOLD(q);
            for (int key = 0; key < count; key++) total[row][key] += q * part[key];
        }
    }
    for (int row = 0; row < rows; row++)
        for (int key = 0; key < count; key++) parts[row][at + key] = total[row][key];
}

/* Computes scores[row][from .. to), at most BLOCK keys; fills the last vector with arbitrary values. */
INLINE void dots(float scores[][PAGE], const float *const query[], const float *page, ptrdiff_t ahead, int dim,
                 int from, int to, const int rows) {
    vec parts[MOST_ROWS][BLOCK];
    int key = from;
    for (; key + 3 <= to; key += 3) compare(parts, key - from, query, page + (size_t)key * dim, ahead, dim, rows, 3);
    for (; key < to; key++) compare(parts, key - from, query, page + (size_t)key * dim, ahead, dim, rows, 1);
    for (int row = 0; row < rows; row++)
        for (key = from; key < to; key += LANES) store(scores[row] + key, sums(parts[row] + key - from));
}

/* out[row][0 .. vectors * LANES) += weights[row][key] * values[key], key by key. */
INLINE void mix(float *const out[], int at, float weights[][PAGE], const float *values, int dim, int keys,
                const int rows, const int vectors) {
    vec total[MOST_ROWS][3];
    for (int row = 0; row < rows; row++)
        for (int v = 0; v < vectors; v++) total[row][v] = load(out[row] + at + v * LANES);
    for (int key = 0; key < keys; key++) {
        vec part[3];
        for (int v = 0; v < vectors; v++) part[v] = load(values + (size_t)key * dim + at + v * LANES);
        for (int v = 0; v < vectors; v++) HOLD(part[v]);
        for (int row = 0; row < rows; row++)
            for (int v = 0; v < vectors; v++) total[row][v] += weights[row][key] * part[v];
    }
    for (int row = 0; row < rows; row++)
        for (int v = 0; v < vectors; v++) store(out[row] + at + v * LANES, total[row][v]);
}

/* Turns scores of a page into weights and updates `highest` and `total` of each row. Returns whether a maximum grew;
 * then earlier sums must be multiplied by `rescale`. */
INLINE int weigh(float scores[][PAGE], const int seen[], int keys, float highest[], float total[], float rescale[],
                 const int rows) {
    float before[LANES] = {0}, factor[LANES];
    int padded = (keys + LANES - 1) / LANES * LANES, grew = 0;
    for (int row = 0; row < rows; row++) {
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
    for (int row = 0; row < rows; row++) {
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

/* Rows of one sequence; row r sees the first seen[r] keys, none more than `most`. */
struct tile {
    float *out[MOST_ROWS];
    const float *query[MOST_ROWS];
    const int32_t *pages;
    int seen[MOST_ROWS], most;
    float highest[MOST_ROWS], total[MOST_ROWS];
};

/* Turns the scores of a page into weights, and rescales earlier sums. */
INLINE void weigh_page(struct tile *tile, float scores[][PAGE], int first, int keys, int width, const int rows) {
    float rescale[MOST_ROWS];
    int left[MOST_ROWS];
    for (int row = 0; row < rows; row++) left[row] = tile->seen[row] - first;
    if (weigh(scores, left, keys, tile->highest, tile->total, rescale, rows) && first)
        for (int row = 0; row < rows; row++)
            for (int at = 0; at < width; at += LANES)
                store(tile->out[row] + at, load(tile->out[row] + at) * rescale[row]);
}

/* Tiles take turns at every few keys and columns of a page, so that these are loaded once for all of them. */
INLINE void attend_page(struct tile *tiles, int count, int first, const struct attention *attention, const int rows) {
    const int dim = attention->dim, width = attention->width;
    float scores[MOST_TILES][MOST_ROWS][PAGE];
    const float *page[MOST_TILES];
    ptrdiff_t ahead[MOST_TILES];
    int keys[MOST_TILES], c = 0;
    for (int t = 0; t < count; t++) {
        int left = tiles[t].most - first;
        keys[t] = left < 0 ? 0 : left < PAGE ? left : PAGE;
        const int32_t *id = tiles[t].pages + first / PAGE;
        page[t] = keys[t] ? attention->layer + id[0] * attention->page_stride : NULL;
        ahead[t] = left > PAGE ? (id[1] - id[0]) * attention->page_stride : 0;
    }
    for (int from = 0; from < PAGE; from += BLOCK)
        for (int t = 0; t < count; t++)
            if (from < keys[t])
                dots(scores[t], tiles[t].query, page[t], ahead[t], dim, from,
                     from + BLOCK < keys[t] ? from + BLOCK : keys[t], rows);
    for (int t = 0; t < count; t++)
        if (keys[t]) weigh_page(tiles + t, scores[t], first, keys[t], width, rows);
    for (; c + 3 * LANES <= width; c += 3 * LANES)
        for (int t = 0; t < count; t++) mix(tiles[t].out, c, scores[t], page[t], dim, keys[t], rows, 3);
    for (; c < width; c += LANES)
        for (int t = 0; t < count; t++) mix(tiles[t].out, c, scores[t], page[t], dim, keys[t], rows, 1);
}

INLINE void attend_tiles(struct tile *tiles, int count, const struct attention *attention, const int rows) {
    const int width = attention->width;
    int most = 0;
    for (int t = 0; t < count; t++) {
        most = tiles[t].most > most ? tiles[t].most : most;
        for (int row = 0; row < rows; row++) memset(tiles[t].out[row], 0, sizeof(float) * width);
    }
    for (int first = 0; first < most; first += PAGE) attend_page(tiles, count, first, attention, rows);
    for (int t = 0; t < count; t++)
        for (int row = 0; row < rows; row++)
            for (int at = 0; at < width; at += LANES)
                store(tiles[t].out[row] + at, load(tiles[t].out[row] + at) / tiles[t].total[row]);
}

/* Rows from `end` on do not belong to the sequence: their results go to `spare`. */
INLINE struct tile tile_of(const struct attention *attention, int first, int end, int pages, float *spare,
                           const int rows) {
    struct tile tile = {.pages = attention->tables + pages};
    for (int r = 0; r < rows; r++) {
        int there = first + r < end;
        size_t row = there ? first + r : first;
        tile.query[r] = attention->query + row * attention->dim;
        tile.out[r] = there ? attention->out + row * attention->width : spare;
        tile.seen[r] = attention->seen[row / attention->heads];
        tile.most = tile.seen[r] > tile.most ? tile.seen[r] : tile.most;
        tile.highest[r] = HIDDEN;
        tile.total[r] = 0.0f;
    }
    return tile;
}

/* Computes `count` of `tiles`, from number `first` on. */
INLINE void attend_group(const struct attention *attention, int first, int count, const int rows) {
    struct tile made[MOST_TILES];
    float spare[MOST_WIDTH];
    for (int t = 0; t < count; t++) {
        const int32_t *at = attention->tiles + 3 * (size_t)(first + t);
        made[t] = tile_of(attention, at[0], at[1], at[2], spare, rows);
    }
    attend_tiles(made, count, attention, rows);
}

void attend(const struct attention *attention, int first, int count) {
    if (attention->tile_rows == 2)
        attend_group(attention, first, count, 2);
    else
        attend_group(attention, first, count, MOST_ROWS);
}

/* out [tokens, heads, width], query [tokens, heads, dim]; layer: page 0 of the layer, pages `page_stride` floats apart.
 * Tile t has rows tiles[3t] .. + tile_rows, which is 2 or MOST_ROWS, of all rows; its sequence ends before row
 * tiles[3t + 1], and its pages begin at tables[tiles[3t + 2]]. Row r sees seen[r / heads] keys. dim and width must be
 * multiples of LANES, width at most MOST_WIDTH.
 */
void perigee_latent_attention(float *out, const float *query, const float *layer, int64_t page_stride,
                              const int32_t *tables, const int32_t *seen, const int32_t *tiles, int num_tiles,
                              int tile_rows, int heads, int dim, int width, int threads) {
    const struct attention attention = {out,  query, layer,     page_stride, tables,
                                        seen, tiles, tile_rows, heads,       dim, width};
    int group = num_tiles / (4 * threads);
    group = group < 1 ? 1 : group > MOST_TILES ? MOST_TILES : group;
#pragma omp parallel for schedule(dynamic) num_threads(threads) if (threads > 1)
    for (int begin = 0; begin < num_tiles; begin += group)
        attend(&attention, begin, num_tiles - begin < group ? num_tiles - begin : group);
}
