// Products of float32 rows with a weight, on one CPU core.
//
// A result is one chain of multiply-adds over the inputs, first to last, whatever the number of rows: so a row's
// results depend on that row alone, to the last bit. A weight lies in panels of 32 outputs, `[panels][depth][PANEL]`,
// and streams through a core once for up to `MOST` rows.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "vectors.h"

namespace {

constexpr int64_t PANEL = 32;
constexpr int VECTORS = PANEL / LANES;
constexpr int MOST = LANES == 16 ? 8 : LANES == 8 ? 3 : 1;  // rows whose sums registers hold, beside the weights
constexpr int64_t AHEAD = 64 * PANEL;  // how far before its use a weight is asked for: up to 3 times as fast for a row
constexpr int64_t LINE = 64 / sizeof(float);

// R rows `x` [depth][R] times a panel.
template <int R>
inline void multiply(const float* x, const float* panel, int64_t depth, Floats (&sums)[R][VECTORS]) {
    for (int64_t k = 0; k < depth; k++, x += R, panel += PANEL) {
        for (int64_t i = 0; i < PANEL; i += LINE) __builtin_prefetch(panel + AHEAD + i, 0, 2);
        Floats weights[VECTORS];
        for (int v = 0; v < VECTORS; v++) weights[v] = load(panel + v * LANES);
        for (int r = 0; r < R; r++)
            for (int v = 0; v < VECTORS; v++) sums[r][v] += weights[v] * x[r];
    }
}

inline float value(float from) { return from; }

inline float value(BFloat16 from) {
    uint32_t bits = (uint32_t)from.bits << 16;
    float result;
    std::memcpy(&result, &bits, sizeof result);
    return result;
}

// `x` [rows][depth] as blocks [depth][R] one after the other; what the last lacks is 0.
template <int R, typename T>
std::vector<float> turned(const T* x, int64_t rows, int64_t depth) {
    std::vector<float> blocks((rows + R - 1) / R * R * depth);
    for (int64_t row = 0; row < rows; row++) {
        float* to = blocks.data() + row / R * R * depth + row % R;
        for (int64_t k = 0; k < depth; k++) to[k * R] = value(*x++);
    }
    return blocks;
}

template <int R>
void linear(const float* x, const float* panel, const float* bias, float* to, int64_t rows, int64_t depth,
            int64_t outputs) {
    std::vector<float> blocks;
    if constexpr (R > 1) {
        blocks = turned<R>(x, rows, depth);
        x = blocks.data();
    }
    for (int64_t first = 0; first < outputs; first += PANEL, panel += PANEL * depth) {
        int64_t count = std::min(PANEL, outputs - first);
        for (int64_t row = 0; row < rows; row += R) {
            Floats sums[R][VECTORS] = {};
            multiply<R>(x + row * depth, panel, depth, sums);
            for (int64_t r = 0; r < std::min<int64_t>(R, rows - row); r++) {
                if (bias != nullptr)
                    for (int v = 0; v < VECTORS; v++) sums[r][v] += load(bias + first + v * LANES);
                std::memcpy(to + (row + r) * outputs + first, sums[r], count * sizeof(float));
            }
        }
    }
}

// By blocks of `size` rows, at most R.
template <int R>
void linear_by(int64_t size, const float* x, const float* panels, const float* bias, float* to, int64_t rows,
               int64_t depth, int64_t outputs) {
    if constexpr (R > 1)
        if (size < R) return linear_by<R - 1>(size, x, panels, bias, to, rows, depth, outputs);
    linear<R>(x, panels, bias, to, rows, depth, outputs);
}

}  // namespace
