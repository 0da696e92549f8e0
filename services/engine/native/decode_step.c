/* One decode step, a token of each sequence through all layers, as one call: float32.
 *
 * Performs the same operations on each row in the same order as the loops that compute a layer part by part, and so
 * gives the same bits. All threads go through all layers together and meet where one needs what another computed; each
 * product is split by its outputs.
 */
#include <string.h>

#include "loops.h"

#define MOST 64 /* rows whose addresses are gathered */
#define MEET _Pragma("omp barrier")

/* A layer's weights; those of products are in panels. In a dense layer `router` is NULL and `gate_up` and `mlp_down`
 * are its MLP; in other layers they are the shared expert. `width`: the MLP's, in whole panels. */
struct layer {
    const float *input_norm, *down, *q_norm, *q_up, *kv_norm, *absorb, *expand, *out, *post_norm;
    const float *gate_up, *mlp_down, *router, *bias, *expert_gate_up, *expert_down;
    int64_t width;
};

struct model {
    const struct layer *layers;
    const float *norm, *head;
    int32_t num_layers, hidden, heads, nope, rope, value, q_low, latent, experts, top_k, expert_width, normalise, vocab;
    float eps, inner_eps, softmax_scale, router_scale;
};

/* Rows are sequences: x [rows, hidden] holds their embeddings and is overwritten; the angles are [rows, rope / 2];
 * `tables`, `seen` and `tiles` are as in latent_attention.c. */
struct batch {
    float *x;
    const float *cosines, *sines;
    const int64_t *slots;
    const int32_t *tables, *seen, *tiles;
    float *pages;
    int64_t page_stride, layer_stride;
    int32_t rows, num_tiles, tile_rows;
};

/* Buffers that threads share, each `rows` times as large as named, and buffers of one thread. */
struct shared {
    float *down, *query, *latent_query, *mixed, *values, *added, *inner, *logits, *weights, *expert_inner, *results;
    int32_t *chosen;
};
struct own {
    float *normed, *scores;
    int32_t *pairs, *starts, *next;
};

/* One thread's view of a step. */
struct worker {
    const struct model *model;
    const struct batch *batch;
    struct shared shared;
    struct own own;
    int index, count;
};

static float *take(float **from, size_t floats) {
    float *taken = *from;
    *from += (floats + 15) / 16 * 16;
    return taken;
}

static int64_t widest(const struct model *model) {
    int64_t width = 0;
    for (int i = 0; i < model->num_layers; i++)
        if (model->layers[i].width > width) width = model->layers[i].width;
    return width;
}

static struct shared share_out(const struct model *m, size_t rows, float **from) {
    struct shared s;
    size_t pairs = rows * m->top_k;
    s.down = take(from, rows * (m->q_low + m->latent + m->rope));
    s.query = take(from, rows * m->heads * (m->nope + m->rope));
    s.latent_query = take(from, rows * m->heads * (m->latent + m->rope));
    s.mixed = take(from, rows * m->heads * m->latent);
    s.values = take(from, rows * m->heads * m->value);
    s.added = take(from, rows * m->hidden);
    s.inner = take(from, rows * 2 * widest(m));
    s.logits = take(from, rows * m->experts);
    s.weights = take(from, pairs);
    s.expert_inner = take(from, pairs * 2 * m->expert_width);
    s.results = take(from, pairs * m->hidden);
    s.chosen = (int32_t *)take(from, pairs);
    return s;
}

static struct own own_of(const struct model *m, size_t rows, float **from) {
    struct own own;
    own.normed = take(from, rows * (m->hidden > m->q_low ? m->hidden : m->q_low));
    own.scores = take(from, 2 * m->experts);
    own.pairs = (int32_t *)take(from, rows * m->top_k);
    own.starts = (int32_t *)take(from, m->experts + 1);
    own.next = (int32_t *)take(from, m->experts);
    return own;
}

struct range {
    int start, stop;
};

/* This worker's part of `count` items. */
static struct range part_of(const struct worker *w, int64_t count) {
    struct range part = {count * w->index / w->count, count * (w->index + 1) / w->count};
    return part;
}

/* This worker's part of `outputs`, in whole panels. */
static struct range outputs_of(const struct worker *w, int outputs) {
    struct range part = part_of(w, panels_of(outputs));
    part.start *= PANEL;
    part.stop = part.stop * PANEL < outputs ? part.stop * PANEL : outputs;
    return part;
}

static void product(const struct worker *w, float *out, const float *x, int64_t x_row, const float *packed, int inputs,
                    int outputs) {
    struct range mine = outputs_of(w, outputs);
    multiply(out, outputs, x, x_row, packed, w->batch->rows, inputs, outputs, mine.start, mine.stop);
}

/* One product per head; the panels of all heads are divided among the workers as if they were one product's. Rows
 * are [heads, out_width], [heads, x_width]. */
static void product_by_head(const struct worker *w, float *out, int out_width, const float *x, int x_width,
                            const float *packed, int inputs, int outputs) {
    int heads = w->model->heads, panels = panels_of(outputs);
    struct range mine = part_of(w, (int64_t)heads * panels);
    for (int head = mine.start / panels; head * panels < mine.stop; head++) {
        int start = (mine.start > head * panels ? mine.start - head * panels : 0) * PANEL;
        int stop = mine.stop < (head + 1) * panels ? (mine.stop - head * panels) * PANEL : outputs;
        multiply(out + head * out_width, (int64_t)heads * out_width, x + head * x_width, (int64_t)heads * x_width,
                 packed + (size_t)head * panels * inputs * PANEL, w->batch->rows, inputs, outputs, start, stop);
    }
}

/* Normalises all rows in every worker: this is faster than a barrier. */
static const float *norm(const struct worker *w, const float *x, int64_t x_row, const float *weight, int width,
                         float eps) {
    for (int row = 0; row < w->batch->rows; row++)
        norm_row(w->own.normed + (size_t)row * width, x + row * x_row, weight, width, eps);
    return w->own.normed;
}

/* x += added, in this worker's columns. */
static void add(const struct worker *w) {
    size_t hidden = w->model->hidden;
    struct range mine = outputs_of(w, hidden);
    for (int row = 0; row < w->batch->rows; row++)
        for (size_t i = row * hidden + mine.start; i < row * hidden + mine.stop; i++)
            w->batch->x[i] += w->shared.added[i];
}

/* Computes queries and cache entries of all rows. */
static void project(const struct worker *w, const struct layer *layer, float *pages) {
    const struct model *m = w->model;
    const struct batch *b = w->batch;
    const struct shared *s = &w->shared;
    int down_width = m->q_low + m->latent + m->rope, key = m->latent + m->rope, half = m->rope / 2;
    const float *normed = norm(w, b->x, m->hidden, layer->input_norm, m->hidden, m->eps);
    product(w, s->down, normed, m->hidden, layer->down, m->hidden, down_width);
    MEET
    const float *low = norm(w, s->down, down_width, layer->q_norm, m->q_low, m->inner_eps);
    product(w, s->query, low, m->q_low, layer->q_up, m->q_low, m->heads * (m->nope + m->rope));
    struct range mine = part_of(w, b->rows);
    for (size_t row = mine.start; row < (size_t)mine.stop; row++)
        make_entry(pages + b->slots[row] / PAGE * b->page_stride + b->slots[row] % PAGE * key,
                   s->down + row * down_width + m->q_low, layer->kv_norm, b->cosines + row * half,
                   b->sines + row * half, m->latent, m->rope, m->inner_eps);
    MEET
    mine = part_of(w, (int64_t)b->rows * m->heads);
    for (size_t i = mine.start; i < (size_t)mine.stop; i++) {
        float *query = s->query + i * (m->nope + m->rope);
        size_t angles = i / m->heads * half;
        turn_query(query, b->cosines + angles, b->sines + angles, m->nope, m->rope, m->softmax_scale);
        memcpy(s->latent_query + i * key + m->latent, query + m->nope, sizeof(float) * m->rope);
    }
    MEET
    product_by_head(w, s->latent_query, key, s->query, m->nope + m->rope, layer->absorb, m->nope, m->latent);
    MEET
}

static void attend_all(const struct worker *w, const float *pages) {
    const struct model *m = w->model;
    const struct batch *b = w->batch;
    const struct attention attention = {
        w->shared.mixed, w->shared.latent_query, pages, b->page_stride, b->tables, b->seen, b->tiles,
        b->tile_rows,    m->heads,               m->latent + m->rope,   m->latent};
#pragma omp for schedule(dynamic)
    for (int tile = 0; tile < b->num_tiles; tile++) attend(&attention, tile, 1);
}

static void attention(const struct worker *w, const struct layer *layer, float *pages) {
    const struct model *m = w->model;
    const struct shared *s = &w->shared;
    project(w, layer, pages);
    attend_all(w, pages);
    product_by_head(w, s->values, m->value, s->mixed, m->latent, layer->expand, m->latent, m->value);
    MEET
    product(w, s->added, s->values, (int64_t)m->heads * m->value, layer->out, m->heads * m->value, m->hidden);
    add(w);
    MEET
}

/* Gate and up of the MLP, or of the shared expert, for all rows. */
static void gate_all(const struct worker *w, const struct layer *layer, const float *normed) {
    struct range mine = outputs_of(w, layer->width);
    for (int first = 0; first < w->batch->rows; first += MOST) {
        float *to[MOST];
        const float *from[MOST];
        int count = w->batch->rows - first < MOST ? w->batch->rows - first : MOST;
        for (int i = 0; i < count; i++) {
            from[i] = normed + (size_t)(first + i) * w->model->hidden;
            to[i] = w->shared.inner + (first + i) * 2 * layer->width;
        }
        gate_rows(to, from, layer->gate_up, w->model->hidden, layer->width, count, mine.start, mine.stop);
    }
}

/* Runs every expert on the rows that chose it: its first half, or the second. */
static void experts(const struct worker *w, const struct layer *layer, const float *normed, int second) {
    const struct model *m = w->model;
    const int32_t *starts = w->own.starts;
    int hidden = m->hidden, width = m->expert_width, padded = panels_of(hidden) * PANEL;
    struct range mine = outputs_of(w, second ? hidden : width);
    for (int expert = 0; expert < m->experts; expert++)
        for (int first = starts[expert]; first < starts[expert + 1]; first += MOST) {
            float *inner[MOST], *results[MOST];
            const float *from[MOST];
            int count = starts[expert + 1] - first < MOST ? starts[expert + 1] - first : MOST;
            for (int i = 0; i < count; i++) {
                size_t pair = w->own.pairs[first + i];
                from[i] = normed + pair / m->top_k * hidden;
                inner[i] = w->shared.expert_inner + pair * 2 * width;
                results[i] = w->shared.results + pair * hidden;
            }
            const float *gate_up = layer->expert_gate_up + (size_t)expert * 2 * width * hidden;
            const float *down = layer->expert_down + (size_t)expert * padded * width;
            if (second)
                multiply_rows(results, (const float *const *)inner, down, width, hidden, count, mine.start, mine.stop);
            else
                gate_rows(inner, from, gate_up, hidden, width, count, mine.start, mine.stop);
        }
}

static void route(const struct worker *w, const struct layer *layer) {
    const struct model *m = w->model;
    const struct shared *s = &w->shared;
    struct range mine = part_of(w, w->batch->rows);
    for (size_t row = mine.start; row < (size_t)mine.stop; row++)
        choose_experts(s->chosen + row * m->top_k, s->weights + row * m->top_k, s->logits + row * m->experts,
                       layer->bias, m->experts, m->top_k, m->normalise, m->router_scale, w->own.scores);
    MEET
    sort_pairs(w->own.pairs, w->own.starts, w->own.next, s->chosen, (size_t)w->batch->rows * m->top_k, m->experts);
}

/* Adds up in this worker's columns, to which no other worker adds. */
static void join_experts(const struct worker *w) {
    const struct shared *s = &w->shared;
    int hidden = w->model->hidden, k = w->model->top_k;
    struct range mine = outputs_of(w, hidden);
    for (size_t row = 0; row < (size_t)w->batch->rows; row++)
        add_experts(s->added + row * hidden, s->results + row * k * hidden, s->chosen + row * k, s->weights + row * k,
                    k, hidden, mine.start, mine.stop);
}

static void feed_forward(const struct worker *w, const struct layer *layer) {
    const struct model *m = w->model;
    const struct shared *s = &w->shared;
    const float *normed = norm(w, w->batch->x, m->hidden, layer->post_norm, m->hidden, m->eps);
    gate_all(w, layer, normed);
    if (layer->router) product(w, s->logits, normed, m->hidden, layer->router, m->hidden, m->experts);
    MEET
    if (layer->router) {
        route(w, layer);
        experts(w, layer, normed, 0);
        MEET
    }
    product(w, s->added, s->inner, 2 * layer->width, layer->mlp_down, layer->width, m->hidden);
    if (layer->router) {
        experts(w, layer, normed, 1);
        join_experts(w);
    }
    add(w);
    MEET
}

/* Floats of workspace that a step needs. */
int64_t perigee_step_floats(const struct model *model, int rows, int threads) {
    float *end = NULL;
    share_out(model, rows, &end);
    for (int i = 0; i < threads; i++) own_of(model, rows, &end);
    return end - (float *)NULL;
}

/* Computes logits [rows, vocab] and writes the rows' cache entries. */
void perigee_step(float *logits, const struct model *model, const struct batch *batch, float *workspace, int threads) {
    const struct shared shared = share_out(model, batch->rows, &workspace);
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        struct worker w = {model, batch, shared, {0}, omp_get_thread_num(), omp_get_num_threads()};
        float *mine = workspace;
        for (int i = 0; i <= w.index; i++) w.own = own_of(model, batch->rows, &mine);
        for (int i = 0; i < model->num_layers; i++) {
            attention(&w, model->layers + i, batch->pages + i * batch->layer_stride);
            feed_forward(&w, model->layers + i);
        }
        product(&w, logits, norm(&w, batch->x, model->hidden, model->norm, model->hidden, model->eps), model->hidden,
                model->head, model->hidden, model->vocab);
    }
}
