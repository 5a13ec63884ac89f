// The small operations of a decoder's step on one CPU core.
//
// A step of few rows is some forty torch operations a layer, each of which costs more to call than to compute. Here
// are those between the linear layers, as four, and the attention of one query a sequence, which torch computes with a
// kernel made for many. A row's result depends on that row alone. Arithmetic is float32, whatever type is stored.
//
// Widths (hidden, head, intermediate) are multiples of 16; `rows.py` sees to it.

#include <cmath>
#include <limits>
#include <vector>

#include "attention.h"
#include "panels.h"
#include "quantized.h"
#include "vectors.h"

namespace {

// One row of values to values / rms(values) * weight. `from` and `to` may be the same.
template <typename T>
inline void norm_row(const T* from, const T* weight, float epsilon, T* to, int64_t width) {
    Floats squares{};
    for (int64_t i = 0; i < width; i += LANES) {
        Floats values = load(from + i);
        squares += values * values;
    }
    float scale = 1.0f / std::sqrt(sum(squares) / width + epsilon);
    for (int64_t i = 0; i < width; i += LANES) store(to + i, load(from + i) * scale * load(weight + i));
}

template <typename T>
void add_norm(T* hidden, const T* update, const T* weight, float epsilon, T* to, int64_t rows, int64_t width) {
    for (int64_t row = 0; row < rows; row++, hidden += width, to += width) {
        if (update != nullptr) {
            for (int64_t i = 0; i < width; i += LANES) store(hidden + i, load(hidden + i) + load(update + i));
            update += width;
        }
        norm_row(hidden, weight, epsilon, to, width);
    }
}

template <typename T>
void gate(const T* gate_up, T* to, int64_t rows, int64_t width) {
    for (int64_t row = 0; row < rows; row++, gate_up += 2 * width, to += width)
        for (int64_t i = 0; i < width; i += LANES) {
            Floats x = load(gate_up + i);
            Floats silu = x < -88.0f ? Floats{} : x / (exponential(-x) + 1.0f);
            store(to + i, silu * load(gate_up + width + i));
        }
}

// x * cos + x rolled by half a head * sin, as in `rotary.RotaryTable`.
template <typename T>
inline void rotate_head(const T* from, const T* cos_sin, T* to, int64_t width, float* twice) {
    for (int64_t i = 0; i < width; i += LANES) {
        Floats values = load(from + i);
        store(twice + i, values);
        store(twice + width + i, values);
    }
    for (int64_t i = 0; i < width; i += LANES)
        store(to + i, load(twice + i) * load(cos_sin + i) + load(twice + width / 2 + i) * load(cos_sin + width + i));
}

template <typename T>
void rotate_store(T* mixed, const T* query_norm, const T* key_norm, float epsilon, const T* table,
                  const int64_t* positions, const int64_t* slots, T* cache, int64_t rows, Shape shape) {
    std::vector<float> twice(2 * shape.width);
    int64_t width = shape.width;
    for (int64_t row = 0; row < rows; row++) {
        const T* cos_sin = table + positions[row] * 2 * width;
        T* slot = cache + slots[row] * 2 * shape.kv_heads * width;
        for (int64_t head = 0; head < shape.heads + shape.kv_heads; head++, mixed += width) {
            bool is_key = head >= shape.heads;
            const T* weight = is_key ? key_norm : query_norm;
            if (weight != nullptr) norm_row(mixed, weight, epsilon, mixed, width);
            rotate_head(mixed, cos_sin, is_key ? slot + (head - shape.heads) * width : mixed, width, twice.data());
        }
        std::memcpy(slot + shape.kv_heads * width, mixed, shape.kv_heads * width * sizeof(T));
        mixed += shape.kv_heads * width;
    }
}

// The highest of each row and the first column it is in; NaN, and any column, for a row with NaN.
template <typename T>
void highest(const T* scores, int64_t rows, int64_t columns, float* best, int64_t* where) {
    for (int64_t row = 0; row < rows; row++, scores += columns) {
        Floats top = load(scores);
        Ints found{}, at{};
        Ints wrong = top != top;
        for (int64_t i = LANES; i < columns; i += LANES) {
            at += LANES;
            Floats values = load(scores + i);
            Ints higher = values > top;
            top = higher ? values : top;
            found = higher ? at : found;
            wrong |= values != values;
        }
        int lane = 0;
        bool bad = false;
        for (int i = 0; i < LANES; i++) {
            bad |= wrong[i] != 0;
            if (top[i] > top[lane] || (top[i] == top[lane] && found[i] + i < found[lane] + lane)) lane = i;
        }
        best[row] = bad ? std::numeric_limits<float>::quiet_NaN() : top[lane];
        where[row] = bad ? 0 : found[lane] + lane;
    }
}

}  // namespace

extern "C" const uint32_t source_digest = SOURCE_DIGEST;  // by which Python knows that it was made from this file

#define FOR_TYPE(T, name)                                                                                              \
    extern "C" void add_norm_##name(T* hidden, const T* update, const T* weight, float epsilon, T* to, int64_t rows,   \
                                    int64_t width) {                                                                   \
        add_norm(hidden, update, weight, epsilon, to, rows, width);                                                    \
    }                                                                                                                  \
    extern "C" void gate_##name(const T* gate_up, T* to, int64_t rows, int64_t width) {                                \
        gate(gate_up, to, rows, width);                                                                                \
    }                                                                                                                  \
    extern "C" void rotate_store_##name(T* mixed, const T* query_norm, const T* key_norm, float epsilon,               \
                                        const T* table, const int64_t* positions, const int64_t* slots, T* cache,      \
                                        int64_t rows, int64_t heads, int64_t kv_heads, int64_t width) {                \
        rotate_store(mixed, query_norm, key_norm, epsilon, table, positions, slots, cache, rows,                       \
                     Shape{heads, kv_heads, width});                                                                   \
    }                                                                                                                  \
    extern "C" void attend_##name(const T* query, int64_t query_row, int64_t query_head, T* to, const T* cache,        \
                                  const Piece* pieces, int64_t count, const Run* runs, int64_t window, float scaling,  \
                                  float softcap, int64_t heads, int64_t kv_heads, int64_t width) {                     \
        attend(query, query_row, query_head, to, cache, pieces, count, runs, window, scaling, softcap,                 \
               Shape{heads, kv_heads, width});                                                                         \
    }                                                                                                                  \
    extern "C" void highest_##name(const T* scores, int64_t rows, int64_t columns, float* best, int64_t* where) {      \
        highest(scores, rows, columns, best, where);                                                                   \
    }                                                                                                                  \
    extern "C" void linear_quantized_##name(const T* x, const int32_t* words, const float* scales,                     \
                                            const float* zeros, const float* bias, T* to, int64_t rows, int64_t depth, \
                                            int64_t outputs, int64_t group, int64_t bits) {                            \
        linear(x, words, scales, zeros, bias, to, rows, depth, outputs, group, bits);                                  \
    }

FOR_TYPE(float, float32)
FOR_TYPE(BFloat16, bfloat16)

extern "C" void linear_float32(const float* x, const float* panels, const float* bias, float* to, int64_t rows,
                               int64_t depth, int64_t outputs) {
    int64_t blocks = (rows + MOST - 1) / MOST;  // equally large, so that the last is not left with a row or two
    if (blocks > 0) linear_by<MOST>((rows + blocks - 1) / blocks, x, panels, bias, to, rows, depth, outputs);
}
