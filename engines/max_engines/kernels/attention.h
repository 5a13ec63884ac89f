// Attention of one query a sequence, over keys and values wherever they lie in the cache.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "vectors.h"

namespace {

struct Shape {
    int64_t heads, kv_heads, width;
};

// Where a sequence's keys lie: `count` slots from `first` on.
struct Run {
    int64_t first, count;
};

// One query of each of G heads, which share a key's head, over all keys of a sequence.
template <typename T>
struct Heads {
    const T* cache;  // of this layer, from this head on
    int64_t slot_size, values_after, width;
    const Run* begin;
    const Run* end;
    int64_t skipped;  // keys that are out of the window

    template <typename Visit>
    inline void each_key(Visit visit) const {
        int64_t index = 0, skip = skipped;
        for (const Run* run = begin; run != end; run++) {
            int64_t first = std::min(skip, run->count);
            skip -= first;
            const T* key = cache + (run->first + first) * slot_size;
            for (int64_t i = first; i < run->count; i++, key += slot_size) visit(index++, key);
        }
    }

    template <int G>
    inline void scores(const float* query, float* found, int64_t room) const {
        each_key([&](int64_t index, const T* key) {
            Floats products[G] = {};
            for (int64_t i = 0; i < width; i += LANES) {
                Floats values = load(key + i);
                for (int g = 0; g < G; g++) products[g] += values * load(query + g * width + i);
            }
            for (int g = 0; g < G; g++) found[g * room + index] = sum(products[g]);
        });
    }

    template <int G, int C>
    inline void mix(const float* weights, int64_t room, const float* scale, int64_t from, T* to) const {
        Floats mixed[G][C] = {};
        each_key([&](int64_t index, const T* key) {
            const T* value = key + values_after + from;
            for (int c = 0; c < C; c++) {
                Floats values = load(value + c * LANES);
                for (int g = 0; g < G; g++) mixed[g][c] += values * weights[g * room + index];
            }
        });
        for (int g = 0; g < G; g++)
            for (int c = 0; c < C; c++) store(to + g * width + from + c * LANES, mixed[g][c] * scale[g]);
    }

    template <int G>
    void attend(const float* query, float* weights, int64_t keys, float softcap, T* to) const {
        int64_t room = (keys + LANES - 1) / LANES * LANES;
        scores<G>(query, weights, room);
        float scale[G];
        for (int g = 0; g < G; g++) scale[g] = 1.0f / softmax(weights + g * room, keys, room, softcap);
        int64_t from = 0;
        for (; from + 4 * LANES <= width; from += 4 * LANES) mix<G, 4>(weights, room, scale, from, to);
        for (; from < width; from += LANES) mix<G, 1>(weights, room, scale, from, to);
    }

    // Scores to weights that are not normalised yet; returns their sum.
    static float softmax(float* weights, int64_t keys, int64_t room, float softcap) {
        if (softcap != 0)
            for (int64_t i = 0; i < keys; i++) weights[i] = std::tanh(weights[i] / softcap) * softcap;
        for (int64_t i = keys; i < room; i++) weights[i] = -std::numeric_limits<float>::infinity();
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
void attend(const T* query, int64_t query_row, int64_t query_head, T* to, const T* cache, const int64_t* offsets,
            const Run* runs, int64_t window, float scaling, float softcap, int64_t rows, Shape shape) {
    int64_t width = shape.width, shared = shape.heads / shape.kv_heads;
    std::vector<float> weights, scaled(shared * width);
    for (int64_t row = 0; row < rows; row++, to += shape.heads * width) {
        Heads<T> heads{cache, 2 * shape.kv_heads * width, shape.kv_heads * width, width,
                       runs + offsets[row], runs + offsets[row + 1], 0};
        int64_t keys = 0;
        for (const Run* run = heads.begin; run != heads.end; run++) keys += run->count;
        if (window > 0 && keys > window) heads.skipped = keys - window;
        keys -= heads.skipped;
        weights.resize(4 * (keys + LANES));
        for (int64_t kv_head = 0; kv_head < shape.kv_heads; kv_head++) {
            heads.cache = cache + kv_head * width;
            for (int64_t g = 0; g < shared; g++) {
                const T* from = query + row * query_row + (kv_head * shared + g) * query_head;
                for (int64_t i = 0; i < width; i += LANES) store(&scaled[g * width + i], load(from + i) * scaling);
            }
            T* out = to + kv_head * shared * width;
            int64_t g = 0;
            for (; g + 4 <= shared; g += 4)
                heads.template attend<4>(&scaled[g * width], weights.data(), keys, softcap, out + g * width);
            for (; g + 2 <= shared; g += 2)
                heads.template attend<2>(&scaled[g * width], weights.data(), keys, softcap, out + g * width);
            for (; g < shared; g++)
                heads.template attend<1>(&scaled[g * width], weights.data(), keys, softcap, out + g * width);
        }
    }
}

}  // namespace
