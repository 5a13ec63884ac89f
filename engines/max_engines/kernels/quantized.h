// Products of rows with a weight of integers, on one CPU core.
//
// A weight is (level - zero) * scale, with a zero and a scale for each output and group of inputs. It lies in panels of
// 32 outputs as those in `panels.h` do: `[panels][words][PANEL]`, where a word holds an output's levels of 4 or 8
// successive inputs, of 8 or 4 bits with a sign, the first lowest; scales and zeros are `[panels][groups][PANEL]`. Each
// weight is made a float as it is used, and sums are chains as there: so results are those of the product with the
// floats, to the last bit.

#pragma once

#include "panels.h"

namespace {

struct Quantized {
    const int32_t* words;
    const float* scales;
    const float* zeros;
    int64_t depth;
    int64_t group;  // inputs that share a scale
};

// Each input's weights of a panel, as floats, to `use`.
template <int BITS, typename Use>
inline void each_input(Quantized weight, Use use) {
    const int32_t* words = weight.words;
    for (int64_t first = 0; first < weight.depth; first += weight.group) {
        Floats scales[VECTORS], zeros[VECTORS];
        for (int v = 0; v < VECTORS; v++) {
            scales[v] = load(weight.scales + v * LANES);
            zeros[v] = load(weight.zeros + v * LANES);
        }
        weight.scales += PANEL;
        weight.zeros += PANEL;
        for (int64_t k = first; k < first + weight.group; words += PANEL) {
            for (int64_t i = 0; i < PANEL; i += LINE) __builtin_prefetch(words + AHEAD / 2 + i, 0, 2);
            Ints packed[VECTORS];
            std::memcpy(packed, words, sizeof packed);
            for (int i = 0; i < 32 / BITS; i++, k++) {
                Floats weights[VECTORS];
                for (int v = 0; v < VECTORS; v++) {
                    Ints levels = (packed[v] << (32 - BITS - BITS * i)) >> (32 - BITS);
                    weights[v] = (__builtin_convertvector(levels, Floats) - zeros[v]) * scales[v];
                }
                use(k, weights);
            }
        }
    }
}

template <int R, int BITS>
inline void multiply(const float* x, Quantized weight, Floats (&sums)[R][VECTORS]) {
    each_input<BITS>(weight, [&](int64_t k, const Floats(&weights)[VECTORS]) {
        for (int r = 0; r < R; r++)
            for (int v = 0; v < VECTORS; v++) sums[r][v] += weights[v] * x[k * R + r];
    });
}

template <typename T, int R>
void store_sums(const Floats (&sums)[R][VECTORS], const float* bias, T* to, int64_t rows, int64_t outputs,
                int64_t count) {
    for (int64_t r = 0; r < std::min<int64_t>(R, rows); r++) {
        T results[PANEL];
        for (int v = 0; v < VECTORS; v++)
            store(results + v * LANES, bias == nullptr ? sums[r][v] : sums[r][v] + load(bias + v * LANES));
        std::memcpy(to + r * outputs, results, count * sizeof(T));
    }
}

// By blocks of R rows. What several blocks read is made floats once, `expanded`.
template <int R, int BITS, typename T>
void linear(const T* x, Quantized weight, const float* bias, T* to, int64_t rows, int64_t outputs) {
    int64_t depth = weight.depth, groups = depth / weight.group;
    std::vector<float> blocks = turned<R>(x, rows, depth);
    std::vector<float> expanded(rows > R ? depth * PANEL : 0);
    for (int64_t first = 0; first < outputs; first += PANEL) {
        if (rows > R)
            each_input<BITS>(weight, [&](int64_t k, const Floats(&weights)[VECTORS]) {
                for (int v = 0; v < VECTORS; v++) store(&expanded[k * PANEL + v * LANES], weights[v]);
            });
        for (int64_t row = 0; row < rows; row += R) {
            Floats sums[R][VECTORS] = {};
            if (rows > R)
                multiply<R>(&blocks[row * depth], expanded.data(), depth, sums);
            else
                multiply<R, BITS>(blocks.data(), weight, sums);
            store_sums<T, R>(sums, bias, to + row * outputs + first, rows - row, outputs,
                             std::min(PANEL, outputs - first));
        }
        weight.words += depth * BITS / 32 * PANEL;
        weight.scales += groups * PANEL;
        weight.zeros += groups * PANEL;
        if (bias != nullptr) bias += PANEL;
    }
}

template <int R, int BITS, typename T>
void linear_by(int64_t size, const T* x, Quantized weight, const float* bias, T* to, int64_t rows, int64_t outputs) {
    if constexpr (R > 1)
        if (size < R) return linear_by<R - 1, BITS>(size, x, weight, bias, to, rows, outputs);
    linear<R, BITS>(x, weight, bias, to, rows, outputs);
}

// Blocks are equally large, so that the last is not left with a row or two.
template <typename T>
void linear(const T* x, const int32_t* words, const float* scales, const float* zeros, const float* bias, T* to,
            int64_t rows, int64_t depth, int64_t outputs, int64_t group, int64_t bits) {
    Quantized weight{words, scales, zeros, depth, group};
    int64_t blocks = (rows + MOST - 1) / MOST;
    if (blocks == 0) return;
    int64_t size = (rows + blocks - 1) / blocks;
    if (bits == 4)
        linear_by<MOST, 4>(size, x, weight, bias, to, rows, outputs);
    else
        linear_by<MOST, 8>(size, x, weight, bias, to, rows, outputs);
}

}  // namespace
