// Which of many small sets of bits contain a bit.
#pragma once
#include "vector.h"

namespace cocogs {
namespace COCOGS_ISA {

// The positions of the bits of each byte.
struct BitPositions {
  uint8_t of[256][8] = {};
  constexpr BitPositions() {
    for (int byte = 0; byte < 256; ++byte)
      for (int bit = 0, found = 0; bit < 8; ++bit)
        if (byte >> bit & 1) of[byte][found++] = uint8_t(bit);
  }
};

// Writes the indices of the sets that contain `member` (the number of a bit) to list, and returns their number.
// Both arrays have room for kListSlack more elements, and the sets there are empty.
constexpr int kListSlack = 16;
template <class Set>
COCOGS_HD int list_members(const Set* sets, int count, int member, uint32_t* list) {
  int listed = 0;
#if defined(__AVX512F__)
  if constexpr (sizeof(Set) == 2) {
    __m512i index = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    const __m512i bit = _mm512_set1_epi32(1 << member);
    for (int k = 0; k < count; k += 16) {
      const __m512i block = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)(sets + k)));
      const __mmask16 found = _mm512_test_epi32_mask(block, bit);
      _mm512_storeu_si512(list + listed, _mm512_maskz_compress_epi32(found, index));
      listed += __builtin_popcount(found);
      index = _mm512_add_epi32(index, _mm512_set1_epi32(16));
    }
    return listed;
  }
#elif defined(__AVX2__)
  if constexpr (sizeof(Set) == 4) {
    static constexpr BitPositions positions;
    const __m128i to_sign = _mm_cvtsi32_si128(31 - member);
    for (int k = 0; k < count; k += 8) {
      const __m256i block = _mm256_sll_epi32(_mm256_loadu_si256((const __m256i*)(sets + k)), to_sign);
      const uint32_t found = uint32_t(_mm256_movemask_ps((__m256)block));
      const __m256i index = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)positions.of[found]));
      _mm256_storeu_si256((__m256i*)(list + listed), _mm256_add_epi32(index, _mm256_set1_epi32(k)));
      listed += __builtin_popcount(found);
    }
    return listed;
  }
#endif
  for (int k = 0; k < count; ++k) {
    list[listed] = uint32_t(k);
    listed += int(sets[k] >> member & 1);
  }
  return listed;
}

}  // namespace COCOGS_ISA
}  // namespace cocogs
