// Attention over keys and values wherever they lie in the cache.
//
// What a query gets depends on it and its keys alone, to the last bit: its products with keys are added up in one
// order, and so are its weights and values, whatever other queries are computed beside it.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "vectors.h"

namespace {

constexpr int64_t TOGETHER = 4;      // rows of a sequence that are computed at a time
constexpr int64_t SLOTS_AHEAD = 16;  // how far before its use a slot is asked for

template <typename T>
inline void ask(const T* from, int64_t width) {
    for (int64_t i = 0; i < width; i += 64 / sizeof(T)) __builtin_prefetch(from + i, 0, 2);
}

struct Shape {
    int64_t heads, kv_heads, width;
};

// Where a sequence's keys lie: `count` slots from `first` on.
struct Run {
    int64_t first, count;
};

// `rows` successive tokens of a sequence, whose keys lie in `runs`; the first sees `keys` of them, each other one more.
struct Piece {
    int64_t rows, runs, keys;
};

// One query of one head: the keys that it sees, and where its result belongs.
template <typename T>
struct Query {
    int64_t first, last;
    T* to;
};

// The keys and values of one head, those that at least one of some queries sees.
template <typename T>
struct Head {
    const T* cache;  // of this layer, from this head on
    int64_t slot_size, values_after, width;
    const Run* runs;
    int64_t first, last;

    // Visits each key: its index, and where it is.
    template <typename Visit>
    inline void each(Visit visit) const {
        int64_t index = first, begin = 0;  // of the run
        for (const Run* run = runs; index < last; begin += run->count, run++) {
            int64_t end = std::min(last, begin + run->count);
            for (; index < end; index++) visit(index, cache + (run->first + index - begin) * slot_size);
        }
    }

    // Visits K keys at a time: the index of the first, and where they are. What the last visit lacks is said twice.
    template <int K, typename Visit>
    inline void each_few(Visit visit) const {
        const T* few[K];
        int held = 0;
        each([&](int64_t index, const T* key) {
            ask(key + SLOTS_AHEAD * slot_size, width);
            few[held++] = key;
            if (held == K) {
                visit(index - K + 1, few);
                held = 0;
            }
        });
        if (held == 0) return;
        std::fill(few + held, few + K, few[held - 1]);
        visit(last - held, few);
    }

    // The products of G queries with the keys; that with key `index` is scores[index - base].
    template <int G>
    inline void score(const float* query, float* scores, int64_t base, int64_t room) const {
        constexpr int K = LANES / G;
        each_few<K>([&](int64_t index, const T* const* keys) {
            Floats products[LANES] = {};
            for (int64_t i = 0; i < width; i += LANES)
                for (int k = 0; k < K; k++) {
                    Floats values = load(keys[k] + i);
                    for (int g = 0; g < G; g++) products[g * K + k] += values * load(query + g * width + i);
                }
            float found[LANES];
            store(found, sums(products));
            for (int g = 0; g < G; g++)
                std::memcpy(scores + g * room + index - base, found + g * K, K * sizeof(float));
        });
    }

    template <int G, int C>
    inline void mix(const float* weights, int64_t base, int64_t room, const float* scale, int64_t from,
                    const Query<T>* queries) const {
        Floats mixed[G][C] = {};
        each([&](int64_t index, const T* key) {
            const T* value = key + values_after + from;
            ask(value + SLOTS_AHEAD * slot_size, C * LANES);
            for (int c = 0; c < C; c++) {
                Floats values = load(value + c * LANES);
                for (int g = 0; g < G; g++) mixed[g][c] += values * weights[g * room + index - base];
            }
        });
        for (int g = 0; g < G; g++)
            for (int c = 0; c < C; c++) store(queries[g].to + from + c * LANES, mixed[g][c] * scale[g]);
    }

    template <int G>
    void attend(const Query<T>* queries, const float* scaled, std::vector<float>& weights, float softcap) const {
        int64_t base = first / LANES * LANES;  // so that a key's lane is the same for all, and so is a sum's order
        int64_t room = (last - base + 2 * LANES - 1) / LANES * LANES;
        weights.resize(G * room);
        score<G>(scaled, weights.data(), base, room);
        float scale[G];
        for (int g = 0; g < G; g++) {
            float* own = weights.data() + g * room;
            scale[g] = 1.0f / softmax(own, queries[g].first - base, queries[g].last - base, room, softcap);
        }
        int64_t i = 0;
        for (; i + 4 * LANES <= width; i += 4 * LANES) mix<G, 4>(weights.data(), base, room, scale, i, queries);
        for (; i < width; i += LANES) mix<G, 1>(weights.data(), base, room, scale, i, queries);
    }

    // Scores `first` to `last` to weights that are not normalised yet, the others to 0; returns their sum.
    static float softmax(float* weights, int64_t first, int64_t last, int64_t room, float softcap) {
        if (softcap != 0)
            for (int64_t i = first; i < last; i++) weights[i] = std::tanh(weights[i] / softcap) * softcap;
        std::fill(weights, weights + first, -std::numeric_limits<float>::infinity());
        std::fill(weights + last, weights + room, -std::numeric_limits<float>::infinity());
        Floats highest = load(weights);
        for (int64_t i = LANES; i < room; i += LANES) {
            Floats values = load(weights + i);
            highest = values > highest ? values : highest;
        }
        float top = highest[0];
        for (int i = 1; i < LANES; i++) top = std::max(top, highest[i]);
        Floats total{};
        for (int64_t i = 0; i < room; i += LANES) {
            Floats below = load(weights + i) - top;
            Floats value = below < -87.0f ? Floats{} : exponential(below);
            total += value;
            store(weights + i, value);
        }
        return sum(total);
    }
};

template <typename T>
void attend(const T* query, int64_t query_row, int64_t query_head, T* to, const T* cache, const Piece* pieces,
            int64_t count, const Run* runs, int64_t window, float scaling, float softcap, Shape shape) {
    int64_t width = shape.width, shared = shape.heads / shape.kv_heads, half = shape.kv_heads * width;
    std::vector<float> weights, scaled(TOGETHER * shared * width);
    std::vector<Query<T>> queries(TOGETHER * shared);
    auto first_of = [&](int64_t keys) { return window > 0 && keys > window ? keys - window : 0; };
    for (const Piece* piece = pieces; piece != pieces + count; runs += piece->runs, piece++)
        for (int64_t row = 0; row < piece->rows; row += TOGETHER) {
            int64_t rows = std::min(TOGETHER, piece->rows - row), keys = piece->keys + row;
            for (int64_t kv_head = 0; kv_head < shape.kv_heads; kv_head++) {
                for (int64_t q = 0; q < rows * shared; q++) {
                    int64_t own = q / shared, head = kv_head * shared + q % shared;
                    const T* from = query + own * query_row + head * query_head;
                    for (int64_t i = 0; i < width; i += LANES) store(&scaled[q * width + i], load(from + i) * scaling);
                    queries[q] = {first_of(keys + own), keys + own, to + (own * shape.heads + head) * width};
                }
                Head<T> head{cache + kv_head * width, 2 * half, half, width, runs, first_of(keys), keys + rows - 1};
                int64_t q = 0;
                for (; q + 4 <= rows * shared; q += 4)
                    head.template attend<4>(&queries[q], &scaled[q * width], weights, softcap);
                for (; q + 2 <= rows * shared; q += 2)
                    head.template attend<2>(&queries[q], &scaled[q * width], weights, softcap);
                for (; q < rows * shared; q++)
                    head.template attend<1>(&queries[q], &scaled[q * width], weights, softcap);
            }
            query += rows * query_row;
            to += rows * shape.heads * width;
        }
}

}  // namespace
