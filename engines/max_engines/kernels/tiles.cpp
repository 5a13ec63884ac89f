// Products of bfloat16 rows with a weight, on one CPU core with tile registers (Intel's AMX).
//
// A weight streams through a core once for up to 32 rows, so a step of few rows takes as long as reading the weights
// does. A row's result depends on that row alone.

#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

constexpr int SIDE = 16;              // rows of a tile, and outputs it has
constexpr int DEPTH = 32;             // inputs it has
constexpr int TILE = SIDE * DEPTH;    // elements
constexpr int AHEAD = 8 * TILE;       // how far before its use a weight is asked for
constexpr int CACHED = 512 * 1024;    // elements of x that stay in a core's cache while all weights pass
constexpr int PERMIT_TILES = 0x1023;  // ARCH_REQ_XCOMP_PERM, see the kernel's x86/xstate.rst
constexpr int TILE_DATA = 18;

struct Configuration {
    uint8_t palette = 1, start = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {SIDE, SIDE, SIDE, SIDE, SIDE, SIDE, SIDE, SIDE};
};

// What a step asks its cache for, without which it would wait: `lines` of 64 bytes of the weights to come.
struct Asked {
    const uint16_t* from;
    int lines;

    inline void next() {
        for (int line = 0; line < lines; line++, from += DEPTH) _mm_prefetch((const char*)from, _MM_HINT_T1);
    }
};

// One or two blocks of rows times a pair of blocks of outputs, to `sums` [blocks][2][SIDE][SIDE]. Registers 0 to 3 are
// sums, 4 and 5 rows of x, 6 and 7 weights.
template <bool TWO_BLOCKS>
inline void multiply(const uint16_t* x, const uint16_t* weight, int64_t depth, Asked asked, float* sums) {
    const uint16_t* below = x + SIDE * depth;
    _tile_zero(0);
    _tile_zero(1);
    if constexpr (TWO_BLOCKS) {
        _tile_zero(2);
        _tile_zero(3);
    }
    for (int64_t k = 0; k < depth; k += DEPTH, x += TILE, below += TILE, weight += 2 * TILE) {
        asked.next();
        _tile_loadd(4, x, 64);
        _tile_loadd(6, weight, 64);
        _tile_loadd(7, weight + TILE, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        if constexpr (TWO_BLOCKS) {
            _tile_loadd(5, below, 64);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
        }
    }
    _tile_stored(0, sums, 64);
    _tile_stored(1, sums + SIDE * SIDE, 64);
    if constexpr (TWO_BLOCKS) {
        _tile_stored(2, sums + 2 * SIDE * SIDE, 64);
        _tile_stored(3, sums + 3 * SIDE * SIDE, 64);
    }
}

// `sums` of one block of rows and outputs, with the bias, to `to`, whose rows are `width` long.
void store(const float* sums, const float* bias, uint16_t* to, int64_t rows, int64_t outputs, int64_t width) {
    __m512 added = bias == nullptr ? _mm512_setzero_ps() : _mm512_loadu_ps(bias);
    __mmask16 kept = outputs >= SIDE ? 0xffff : (1 << std::max<int64_t>(outputs, 0)) - 1;
    for (int64_t row = 0; row < rows; row++) {
        __m256i halves = (__m256i)_mm512_cvtneps_pbh(_mm512_add_ps(_mm512_loadu_ps(sums + row * SIDE), added));
        _mm256_mask_storeu_epi16(to + row * width, kept, halves);
    }
}

struct Weight {
    const uint16_t* tiles;
    const float* bias;
    int64_t depth, outputs;
};

// x [rows, depth] as tiles, one after the other, the last rows filled up with zeros.
void tile_rows(const uint16_t* x, int64_t rows, int64_t depth, uint16_t* to) {
    for (int64_t first = 0; first < rows; first += SIDE)
        for (int64_t k = 0; k < depth; k += DEPTH)
            for (int64_t row = first; row < first + SIDE; row++, to += DEPTH)
                if (row < rows)
                    std::memcpy(to, x + row * depth + k, 2 * DEPTH);
                else
                    std::memset(to, 0, 2 * DEPTH);
}

void multiply_rows(const uint16_t* tiled, const Weight& weight, uint16_t* to, int64_t rows) {
    alignas(64) float sums[4 * SIDE * SIDE];
    int64_t blocks = (rows + 2 * SIDE - 1) / (2 * SIDE);
    int lines = (2 * TILE / DEPTH + blocks - 1) / blocks;
    int64_t share = weight.depth * lines;
    for (int64_t output = 0; output < weight.outputs; output += 2 * SIDE) {
        const uint16_t* tiles = weight.tiles + output * weight.depth;
        for (int64_t row = 0; row < rows; row += 2 * SIDE) {
            bool two = row + SIDE < rows;
            Asked asked{blocks == 1 ? tiles + AHEAD : tiles + 2 * SIDE * weight.depth + row / 2 / SIDE * share, lines};
            (two ? multiply<true> : multiply<false>)(tiled + row * weight.depth, tiles, weight.depth, asked, sums);
            for (int part = 0; part < (two ? 4 : 2); part++) {
                int64_t first = output + part % 2 * SIDE, top = row + part / 2 * SIDE;
                const float* bias = weight.bias == nullptr ? nullptr : weight.bias + first;
                store(sums + part * SIDE * SIDE, bias, to + top * weight.outputs + first,
                      std::min<int64_t>(SIDE, rows - top), weight.outputs - first, weight.outputs);
            }
        }
    }
}

}  // namespace

extern "C" const uint32_t source_digest = SOURCE_DIGEST;  // by which Python knows that it was made from this file

// Ask the system for the use of tiles; 0 if it is granted.
extern "C" int permit() { return syscall(SYS_arch_prctl, PERMIT_TILES, TILE_DATA) == 0 ? 0 : 1; }

// x [rows, depth] to [rows, outputs]. The weight is [pairs, depth / 32, 2, 16, 16, 2]: pair of blocks of 16 outputs,
// depth, which of the pair, pair of inputs, output, which of that pair; the bias has as many outputs.
extern "C" void linear(const uint16_t* x, const uint16_t* tiles, const float* bias, uint16_t* to, int64_t rows,
                       int64_t depth, int64_t outputs) {
    static const Configuration configuration;
    static thread_local std::vector<uint16_t> tiled;
    const Weight weight{tiles, bias, depth, outputs};
    const int64_t at_once = std::max<int64_t>(1, CACHED / (2 * SIDE * depth)) * 2 * SIDE;
    _tile_loadconfig(&configuration);
    for (int64_t first = 0; first < rows; first += at_once) {
        int64_t count = std::min(at_once, rows - first);
        tiled.resize((count + SIDE - 1) / SIDE * SIDE * depth);
        tile_rows(x + first * depth, count, depth, tiled.data());
        multiply_rows(tiled.data(), weight, to + first * outputs, count);
    }
    _tile_release();
}
