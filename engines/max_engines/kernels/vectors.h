// As many float32 as a register holds, loaded from and stored as either type, and what is computed with them.

#pragma once

#include <cstdint>
#include <cstring>

namespace {

#if defined(__AVX512F__)
constexpr int LANES = 16;
#elif defined(__AVX2__)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif
typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef int32_t Ints __attribute__((vector_size(4 * LANES)));
typedef uint32_t Bits __attribute__((vector_size(4 * LANES)));
typedef uint16_t Halves __attribute__((vector_size(2 * LANES)));

struct BFloat16 {
    uint16_t bits;
};

inline Floats load(const float* from) {
    Floats values;
    std::memcpy(&values, from, sizeof values);
    return values;
}

inline Floats load(const BFloat16* from) {
    Halves halves;
    std::memcpy(&halves, from, sizeof halves);
    return (Floats)(__builtin_convertvector(halves, Bits) << 16);
}

inline void store(float* to, Floats values) { std::memcpy(to, &values, sizeof values); }

inline void store(BFloat16* to, Floats values) {
    Bits bits = (Bits)values;
    Bits rounded = bits + 0x7fff + ((bits >> 16) & 1);  // to the nearest, ties to even
    rounded = values == values ? rounded : bits | 0x400000;  // NaN stays NaN
    Halves halves = __builtin_convertvector(rounded >> 16, Halves);
    std::memcpy(to, &halves, sizeof halves);
}

// The sum of the lanes, by halves.
template <int COUNT, typename Vector>
inline float sum(Vector values) {
    if constexpr (COUNT == 1) {
        return values[0];
    } else {
        typedef float Half __attribute__((vector_size(2 * COUNT)));
        Half low, high;
        std::memcpy(&low, &values, sizeof low);
        std::memcpy(&high, (const char*)&values + sizeof low, sizeof high);
        return sum<COUNT / 2>(low + high);
    }
}

inline float sum(Floats values) { return sum<LANES>(values); }

// The sums of as many vectors as a vector has lanes, each with the same additions as `sum`'s: halves of two at a time.
template <int SIZE = LANES>
inline Floats sums(Floats* vectors) {
    Ints low, high;  // of each group of SIZE lanes of two vectors, the halves
    for (int i = 0; i < LANES; i++) {
        low[i] = i / (SIZE / 2) * SIZE + i % (SIZE / 2);
        high[i] = low[i] + SIZE / 2;
    }
    Floats added[SIZE / 2];
    for (int i = 0; i < SIZE / 2; i++)
        added[i] = __builtin_shuffle(vectors[2 * i], vectors[2 * i + 1], low) +
                   __builtin_shuffle(vectors[2 * i], vectors[2 * i + 1], high);
    if constexpr (SIZE == 2) {
        return added[0];
    } else {
        return sums<SIZE / 2>(added);
    }
}

// e^x: 2^n times a polynomial of the rest (Cephes' coefficients). NaN stays NaN.
inline Floats exponential(Floats x) {
    x = x > 88.0f ? Floats{} + 88.0f : x;
    x = x < -87.0f ? Floats{} - 87.0f : x;
    Floats shifted = x * 1.44269504f + 12582912.0f;  // the integer next to x / ln 2, in the low bits
    Floats n = shifted - 12582912.0f;
    Floats r = x - n * 0.693359375f + n * 2.12194440e-4f;
    Floats p = Floats{} + 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    return p * (Floats)(((Ints)shifted - 0x4b400000 + 127) << 23);
}

}  // namespace
