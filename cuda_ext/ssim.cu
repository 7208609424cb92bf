// Structural similarity and its gradient: one block of threads per tile and channel. The numbers of the pixels of a
// tile and its surroundings are averaged over the window in shared memory, first along the rows, then along the
// columns.
#include "math/ssim.h"

#include "launch.h"
#include "ops_cuda.h"

namespace cocogs {
namespace {

constexpr int kThreads = 256;
constexpr int kWidth = 32, kHeight = 16;  // px, of a tile
constexpr int kColumns = kWidth + 2 * kWindowHalf, kRows = kHeight + 2 * kWindowHalf;

// A block's tile.
struct Tile {
  int channel, x, y;  // px, the first pixel
};
__device__ Tile tile_of_block(const Comparison<float>& pictures) {
  const int across = pictures.across(kWidth), down = pictures.down(kHeight), index = blockIdx.x;
  return {index / across / down, index % across * kWidth, index / across % down * kHeight};
}

// Count numbers per pixel, and their averages along the rows.
template <int Count>
struct Averaging {
  float terms[Count][kRows][kColumns];
  float along_rows[Count][kRows][kWidth];
};

// Fills the terms by read(position in the image, terms), with 0 outside the image, and averages along the rows.
template <int Count, class Read>
__device__ void average_rows(const Comparison<float>& pictures, const Tile& tile, Averaging<Count>& window,
                             const Read& read) {
  for (int i = threadIdx.x; i < kRows * kColumns; i += kThreads) {
    const int row = i / kColumns, column = i % kColumns;
    const int x = tile.x + column - kWindowHalf, y = tile.y + row - kWindowHalf;
    float terms[Count] = {};
    if (x >= 0 && x < pictures.width && y >= 0 && y < pictures.height)
      read(pictures.place(tile.channel, x, y), terms);
    for (int c = 0; c < Count; ++c) window.terms[c][row][column] = terms[c];
  }
  __syncthreads();
  for (int i = threadIdx.x; i < kRows * kWidth; i += kThreads) {
    const int row = i / kWidth, column = i % kWidth;
    for (int c = 0; c < Count; ++c) {
      float sum = 0;
      for (int k = 0; k < kWindow; ++k) sum += float(window_weight(k)) * window.terms[c][row][column + k];
      window.along_rows[c][row][column] = sum;
    }
  }
  __syncthreads();
}

// Averages along the columns, and calls take(position in the image, averages) for the pixels of the tile.
template <int Count, class Take>
__device__ void average_columns(const Comparison<float>& pictures, const Tile& tile,
                                const Averaging<Count>& window, const Take& take) {
  for (int i = threadIdx.x; i < kHeight * kWidth; i += kThreads) {
    const int row = i / kWidth, column = i % kWidth, x = tile.x + column, y = tile.y + row;
    if (x >= pictures.width || y >= pictures.height) continue;
    float means[Count] = {};
    for (int k = 0; k < kWindow; ++k)
      for (int c = 0; c < Count; ++c)
        means[c] += float(window_weight(k)) * window.along_rows[c][row + k][column];
    take(pictures.place(tile.channel, x, y), means);
  }
}

__global__ void __launch_bounds__(kThreads)
    ssim_kernel(Comparison<float> pictures, float* values, float* slopes) {
  __shared__ Averaging<kSsimTerms> window;
  const Tile tile = tile_of_block(pictures);
  const int64_t plane = pictures.pixels();
  average_rows(pictures, tile, window, [&](int64_t at, float* to) {
    const SsimTerms<float> terms = ssim_terms(pictures.image[at], pictures.photo[at]);
    to[0] = terms.x;
    to[1] = terms.y;
    to[2] = terms.squares;
    to[3] = terms.error;
  });
  average_columns(pictures, tile, window, [&](int64_t at, const float* means) {
    const SsimTerms<float> mean = {means[0], means[1], means[2], means[3]};
    values[at] = ssim(mean);
    if (!slopes) return;
    const SsimSlopes<float> slope = ssim_vjp(mean, 1.0f);
    slopes[at] = slope.x;
    slopes[plane + at] = slope.squares;
    slopes[2 * plane + at] = slope.error;
  });
}

// The window is symmetric, so the gradients by the averages are averaged over the same window.
__global__ void __launch_bounds__(kThreads)
    ssim_vjp_kernel(Comparison<float> pictures, const float* slopes, const float* v_values, float* v_image) {
  __shared__ Averaging<kSsimSlopes> window;
  const Tile tile = tile_of_block(pictures);
  const int64_t plane = pictures.pixels();
  average_rows(pictures, tile, window, [&](int64_t at, float* to) {
    for (int c = 0; c < kSsimSlopes; ++c) to[c] = v_values[at] * slopes[c * plane + at];
  });
  average_columns(pictures, tile, window, [&](int64_t at, const float* means) {
    const SsimSlopes<float> v = {means[0], means[1], means[2]};
    v_image[at] = ssim_terms_vjp(pictures.image[at], pictures.photo[at], v);
  });
}

unsigned blocks(const Comparison<float>& pictures) { return unsigned(pictures.tiles(kWidth, kHeight)); }

}  // namespace

void ssim(const Comparison<float>& pictures, float* values, float* slopes, cudaStream_t stream) {
  launch("compare two pictures", ssim_kernel, blocks(pictures), kThreads, stream, pictures, values, slopes);
}

void ssim_vjp(const Comparison<float>& pictures, const float* slopes, const float* v_values, float* v_image,
              cudaStream_t stream) {
  launch("compute the gradient of a comparison", ssim_vjp_kernel, blocks(pictures), kThreads, stream,
         pictures, slopes, v_values, v_image);
}

}  // namespace cocogs
