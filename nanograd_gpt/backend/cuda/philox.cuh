// Philox 4x64-10 (Salmon et al. 2011), as NumPy draws from it for rng/generator.py: the same bits on every device.
//
// Block b of a call is four words of 64 bits, so 16 numbers of 16 bits, from the counter (b + 1, 0, call, 0): NumPy
// increments the counter before its first block.
#pragma once

typedef unsigned long long Word;

// A mask_recipe.MaskRecipe.  Element i of the mask is kept if the i-th 16 bits from block `first` on are at least the
// threshold.
struct Recipe {
    Word seed, stream, call, first;
    unsigned threshold;
};

// `call` counts from *origin, a number that a replayed graph finds anew each time, or from 0 if origin is null.
__device__ __forceinline__ Recipe recipe_of(
    Word seed, Word stream, Word call, Word first, unsigned threshold, const Word* origin
) {
    return {seed, stream, origin ? *origin + call : call, first, threshold};
}

constexpr int DRAWN_AT_ONCE = 16;  // elements of a mask

// The mask of elements 16 * block to 16 * block + 15, as bits from the lowest on.
__device__ __forceinline__ unsigned keep_bits(const Recipe& recipe, Word block) {
    constexpr Word MULTIPLIER[2] = {0xD2E7470EE14C6C93ull, 0xCA5A826395121157ull};
    constexpr Word INCREMENT[2] = {0x9E3779B97F4A7C15ull, 0xBB67AE8584CAA73Bull};
    constexpr int ROUNDS = 10;
    Word x[4] = {recipe.first + block + 1, 0, recipe.call, 0};
    Word key[2] = {recipe.seed, recipe.stream};
    #pragma unroll
    for (int round = 0; round < ROUNDS; ++round) {
        Word high0 = __umul64hi(MULTIPLIER[0], x[0]), low0 = MULTIPLIER[0] * x[0];
        Word high1 = __umul64hi(MULTIPLIER[1], x[2]), low1 = MULTIPLIER[1] * x[2];
        x[0] = high1 ^ x[1] ^ key[0];
        x[1] = low1;
        x[2] = high0 ^ x[3] ^ key[1];
        x[3] = low0;
        key[0] += INCREMENT[0];
        key[1] += INCREMENT[1];
    }
    unsigned bits = 0;
    #pragma unroll
    for (int i = 0; i < DRAWN_AT_ONCE; ++i) {
        unsigned drawn = static_cast<unsigned>(x[i / 4] >> (i % 4 * 16)) & 0xffffu;
        bits |= static_cast<unsigned>(drawn >= recipe.threshold) << i;
    }
    return bits;
}
