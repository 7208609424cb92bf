// The two functions of CUB that the .cu files use, on a CPU.
#pragma once
#include <cuda_runtime.h>

#include <numeric>

namespace cub {

struct DeviceRadixSort {
  template <class K, class V>
  static cudaError_t SortPairs(void* work, size_t& work_bytes, const K* keys, K* sorted_keys, const V* values,
                               V* sorted_values, int64_t count, int begin_bit, int end_bit, cudaStream_t) {
    work_bytes = 1;
    if (!work) return cudaSuccess;
    const K mask = end_bit - begin_bit >= int(8 * sizeof(K)) ? ~K(0) : ((K(1) << (end_bit - begin_bit)) - 1);
    std::vector<int64_t> order(static_cast<size_t>(count));
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
      return (keys[a] >> begin_bit & mask) < (keys[b] >> begin_bit & mask);
    });
    for (int64_t i = 0; i < count; ++i) {
      sorted_keys[i] = keys[order[size_t(i)]];
      sorted_values[i] = values[order[size_t(i)]];
    }
    return cudaSuccess;
  }
};

struct DeviceScan {
  template <class T>
  static cudaError_t ExclusiveSum(void* work, size_t& work_bytes, const T* numbers, T* sums, int64_t count,
                                  cudaStream_t) {
    work_bytes = 1;
    if (work) std::exclusive_scan(numbers, numbers + count, sums, T(0));
    return cudaSuccess;
  }
};

}  // namespace cub
