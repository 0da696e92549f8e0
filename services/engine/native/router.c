/* Chooses the experts of a row: sigmoid scores, and a bias for the choice only; float32. */
#include "loops.h"
#include "vectors.h"

static void sigmoids(float *out, const float *x, int count) {
    int i = 0;
    for (; i + LANES <= count; i += LANES) store(out + i, sigmoid(load(x + i)));
    float rest[LANES] = {0};
    memcpy(rest, x + i, sizeof(float) * (count - i));
    store(rest, sigmoid(load(rest)));
    memcpy(out + i, rest, sizeof(float) * (count - i));
}

void choose_experts(int32_t *chosen, float *weights, const float *logits, const float *bias, int experts, int k,
                    int normalise, float scale, float *scores) {
    float *biased = scores + experts, total = 0.0f;
    sigmoids(scores, logits, experts);
    int count = 0;
    for (int expert = 0; expert < experts; expert++) {
        biased[expert] = scores[expert] + bias[expert];
        if (count == k && !(biased[expert] > biased[chosen[k - 1]])) continue;
        int place = count < k ? count++ : k - 1;
        for (; place && biased[expert] > biased[chosen[place - 1]]; place--) chosen[place] = chosen[place - 1];
        chosen[place] = expert;
    }
    for (int rank = 0; rank < k; rank++) total += scores[chosen[rank]];
    for (int rank = 0; rank < k; rank++) {
        float weight = scores[chosen[rank]];
        weights[rank] = (normalise ? weight / (total + 1e-20f) : weight) * scale;
    }
}

/* chosen and weights [rows, k] for logits [rows, experts]; scores: workspace of 2 * experts floats. */
void perigee_choose_experts(int32_t *chosen, float *weights, const float *logits, const float *bias, int rows,
                            int experts, int k, int normalise, float scale, float *scores) {
    for (size_t row = 0; row < (size_t)rows; row++)
        choose_experts(chosen + row * k, weights + row * k, logits + row * experts, bias, experts, k, normalise, scale,
                       scores);
}
